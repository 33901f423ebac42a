"""Opening a data file whatever wraps it: plain, gzip, or a zip archive with one file in it.

What a file is, its first bytes say, not its name. Nothing is unpacked to disk.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from harness.errors import UserError

GZIP, ZIP, PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_CHUNK = 1 << 20


def first_bytes(path: Path, count: int = 4) -> bytes:
    """The first bytes of a file as it lies there. Raises UserError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror or error}") from None


def is_parquet(path: Path) -> bool:
    return first_bytes(path) == PARQUET


@contextlib.contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The content of `path`, decompressed as it is read.

    Raises UserError for a file that cannot be read, a damaged archive, and an archive that holds
    no file or several.
    """
    magic = first_bytes(path)
    try:
        if magic.startswith(GZIP):
            with gzip.open(path, "rb") as file:
                yield cast("IO[bytes]", file)
        elif magic.startswith(ZIP):
            with zipfile.ZipFile(path) as archive, archive.open(_only(archive, path)) as file:
                yield file
        else:
            with path.open("rb") as file:
                yield file
    except (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(path, f"is a damaged archive: {error}; fetch the file again") from None
    except RuntimeError as error:  # zipfile's word for an encrypted member
        if "password" in str(error):
            raise UserError(path, "is an encrypted archive; unpack it first") from None
        raise
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror or error}") from None


def _only(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [
        m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(m.filename for m in members[:5]) or "none"
        raise UserError(
            path, f"holds {len(members)} files ({names}); give an archive of one file, or unpack it"
        )
    return members[0]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as it lies there, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def find_files(path: Path, patterns: Sequence[str]) -> list[Path]:
    """The data files that `path` names: itself, or those in a folder that match `patterns`.

    A folder is searched in itself only, sorted by name; `*.json` also matches `*.json.gz` and
    `*.json.zip`. Raises UserError for a path that is not there, or a folder without a match.
    """
    path = path.expanduser()
    if path.is_dir():
        wrapped = [p + end for p in patterns for end in ("", ".gz", ".zip")]
        found = {file for pattern in wrapped for file in path.glob(pattern) if file.is_file()}
        if not found:
            raise UserError(path, f"holds no {' or '.join(patterns)}; name the file")
        return sorted(found)
    if not path.exists():
        raise UserError(path, "no such file or folder")
    return [path]
