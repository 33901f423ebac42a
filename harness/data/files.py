"""Opening a data file whatever wraps it: plain, gzip, or a zip archive with one file in it.

What a file is, its first bytes say, not its name. Nothing is unpacked to disk.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

from harness.errors import UserError

GZIP, PARQUET = b"\x1f\x8b", b"PAR1"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
"""With members, and empty."""

_DAMAGED = (gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError)
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
            with contextlib.ExitStack() as stack:
                with _zip_errors(path):
                    archive = stack.enter_context(zipfile.ZipFile(path))
                    member = stack.enter_context(archive.open(_only(archive, path)))
                yield member
        else:
            with path.open("rb") as file:
                yield file
    except _DAMAGED as error:
        raise _damaged(path, error) from None
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror or error}") from None


def _only(archive: zipfile.ZipFile, path: Path) -> zipfile.ZipInfo:
    members = [
        m
        for m in archive.infolist()
        if not m.filename.endswith("/") and not m.filename.startswith("__MACOSX/")
    ]
    if len(members) != 1:
        names = ", ".join(repr(m.filename[:60]) for m in members[:5]) or "none"
        raise UserError(
            path, f"holds {len(members)} files ({names}); give an archive of one file, or unpack it"
        )
    return members[0]


@contextlib.contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    """What zipfile raises for an archive that it cannot open, as UserErrors."""
    try:
        yield
    except NotImplementedError as error:
        raise UserError(path, f"is an archive of an unknown kind: {error}") from None
    except RuntimeError:
        raise UserError(path, "is an encrypted archive; unpack it first") from None
    except (ValueError, IndexError, struct.error) as error:  # of a directory that is nonsense
        raise _damaged(path, error) from None
    except OSError as error:
        if error.errno == errno.EINVAL:  # it points to a place before the file
            raise _damaged(path, error) from None
        raise


def _damaged(path: Path, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return UserError(path, f"is a damaged archive: {reason}; fetch the file again")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file as it lies there, in hex. Raises UserError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror or error}") from None
    return digest.hexdigest()


def hashes_of(paths: Sequence[Path]) -> dict[str, str]:
    """SHA-256 of each file by its path below the folder that all of them lie in.

    Two files of one name in two folders stay two, and nothing tells where that folder is.
    """
    if not paths:
        return {}
    absolute = [path.absolute() for path in paths]
    top = os.path.commonpath([path.parent for path in absolute])
    return {path.relative_to(top).as_posix(): sha256_of(path) for path in absolute}


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
