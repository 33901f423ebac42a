"""Datasets brought from where they are published, by file, checked and kept in the user's cache."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.data.files import sha256_of
from harness.engines.embedded.cache import cache_root
from harness.errors import UserError
from harness.store import write_json

if TYPE_CHECKING:
    from harness.dataset import RemoteFile

CHECKSUMS = "checksums.json"


def folder_of(name: str) -> Path:
    """Where the files of dataset `name` lie once fetched."""
    return cache_root() / "data" / name


def fetched(name: str, remote: Sequence[RemoteFile]) -> list[Path] | None:
    """The fetched files in the order of `remote`; None unless all of them are here."""
    paths = [folder_of(name) / file.name for file in remote]
    return paths if paths and all(path.is_file() for path in paths) else None


def fetch(name: str, remote: Sequence[RemoteFile], *, progress: bool) -> list[Path]:
    """Download what is missing of `remote` and check every file's SHA-256.

    A file without a pinned checksum is held to the one it had when it came here first. Raises
    UserError for what cannot be downloaded or is not what it should be; nothing half-written stays.
    """
    if not remote:
        raise UserError(name, "has no source to fetch from by file; give path=FILE")
    folder = folder_of(name)
    folder.mkdir(parents=True, exist_ok=True)
    known = _known(folder)
    paths = []
    for file in remote:
        expected = file.sha256 or known.get(file.url)
        path = _download(file, expected, folder, progress=progress)
        known[file.url] = expected or sha256_of(path)
        write_json(folder / CHECKSUMS, known)
        paths.append(path)
    return paths


def _download(file: RemoteFile, expected: str | None, folder: Path, *, progress: bool) -> Path:
    import pooch
    import requests

    try:
        path = pooch.retrieve(
            file.url,
            known_hash=f"sha256:{expected}" if expected else None,
            fname=file.name,
            path=folder,
            progressbar=progress,
        )
    except (requests.RequestException, OSError) as error:
        raise UserError(file.url, f"cannot be downloaded: {_first_line(error)}") from None
    except ValueError as error:  # pooch's word for a checksum that does not match
        raise UserError(file.url, f"is not the file it was: {_first_line(error)}") from None
    return Path(path)


def _known(folder: Path) -> dict[str, str]:
    """Checksums by URL of what has been fetched before."""
    try:
        found = json.loads((folder / CHECKSUMS).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(
            folder / CHECKSUMS, "is damaged; delete the folder and fetch anew"
        ) from None
    return dict(found)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
