"""Datasets brought from where they are published, by file, checked and kept in the user's cache.

The folder of a dataset holds its files, and beside them `checksums.json`: which URL each file came
from, and the SHA-256 that each URL's content had when it came here first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.files import sha256_of
from harness.errors import UserError
from harness.store import write_json
from harness.user_cache import VARIABLE, cache_root

if TYPE_CHECKING:
    from harness.dataset import RemoteFile

CHECKSUMS = "checksums.json"
_TORN = ".part-"


@dataclass(frozen=True)
class FetchedFile:
    """A file that is here and is what it should be. `pinned`: its checksum is the task's own."""

    path: Path
    sha256: str
    pinned: bool


@dataclass
class _Known:
    """What `checksums.json` says: `origins` by file name, `checksums` by URL."""

    origins: dict[str, str]
    checksums: dict[str, str]


def folder_of(name: str) -> Path:
    """Where the files of dataset `name` lie once fetched."""
    return cache_root() / "data" / name


def fetched(name: str, remote: Sequence[RemoteFile]) -> list[Path] | None:
    """The fetched files in the order of `remote`; None unless all of them are here.

    A file of another revision, or one whose checksum was another when it came, is not here.
    """
    folder = folder_of(name)
    known = _read_known(folder)
    paths = [_place(folder, file) for file in remote]
    for file, path in zip(remote, paths, strict=True):
        checksum = known.checksums.get(file.url)
        if not (path.is_file() and checksum and known.origins.get(file.name) == file.url):
            return None
        if file.sha256 not in (None, checksum):
            return None
    return paths or None


def fetch(name: str, remote: Sequence[RemoteFile], *, progress: bool) -> list[FetchedFile]:
    """Download what is missing of `remote` and check every file's SHA-256.

    A file without a pinned checksum is held to the one it had when it came here first. A file that
    is here and damaged is downloaded again. Raises UserError for what cannot be downloaded or is
    not what it should be; nothing half-written stays.
    """
    if not remote:
        raise UserError(name, "has no source to fetch from by file; give path=FILE")
    folder = folder_of(name)
    with _writing(folder):
        known = _read_known(folder)
        return [_ready(file, folder, known, progress=progress) for file in remote]


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold the folder alone, without what a killed download left. Raises UserError."""
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for torn in folder.glob(f"{_TORN}*"):
                torn.unlink()
            yield
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error}); set {VARIABLE} to another folder"
        raise UserError(folder, problem) from None


def _ready(file: RemoteFile, folder: Path, known: _Known, *, progress: bool) -> FetchedFile:
    """The file as it should be, downloaded where it is missing, damaged or of another URL."""
    path = _place(folder, file)
    expected = file.sha256 or known.checksums.get(file.url)
    # A file that lies here without its URL is taken for the right one by a pinned checksum only.
    may_be = path.is_file() and (file.sha256 or known.origins.get(file.name) == file.url)
    if not (may_be and expected and sha256_of(path) == expected):
        expected = _download(file, expected, path, progress=progress)
    known.origins[file.name] = file.url
    known.checksums[file.url] = expected
    write_json(folder / CHECKSUMS, {"files": known.origins, "sha256": known.checksums})
    return FetchedFile(path, expected, pinned=file.sha256 is not None)


def _download(file: RemoteFile, expected: str | None, path: Path, *, progress: bool) -> str:
    """Bring the file to `path`, whole or not at all; returns its checksum."""
    from harness.data.download import receive

    part = path.with_name(f"{_TORN}{path.name}")
    try:
        receive(file.url, part, progress=progress)
        found = sha256_of(part)
        if expected not in (None, found):
            whose = "the task's pinned one" if file.sha256 else "the one it had when fetched first"
            raise UserError(
                file.url,
                f"is not the file it was: its SHA-256 is {found}, not {whose}, {expected}",
            )
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return found


def _place(folder: Path, file: RemoteFile) -> Path:
    """The file's path in `folder`. Raises UserError for a name that leads out of it or is ours."""
    name = file.name
    if not name or name.startswith(".") or set(name) & set("/\\\0:") or name == CHECKSUMS:
        raise UserError(file.url, f"{name!r} is no plain file name to keep it under")
    return folder / name


def _read_known(folder: Path) -> _Known:
    path = folder / CHECKSUMS
    try:
        found = json.loads(path.read_text("utf-8"))
        return _Known(dict(found["files"]), dict(found["sha256"]))
    except (FileNotFoundError, NotADirectoryError):
        return _Known({}, {})
    except (ValueError, KeyError, TypeError):
        raise UserError(path, "is damaged; delete it and fetch again") from None
