"""A cache of built model folders: each appears whole or not at all, and is built only once.

A folder is named after its inputs, so that another adapter is another folder. It is built beside
its place and moved there by one rename; a lock keeps two processes from building at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.user_cache import VARIABLE

MANIFEST = "manifest.json"
_TORN = ".building-"
_SMALL = 32 * 2**20


@dataclass(frozen=True)
class Artifact:
    """A folder that can be built. `recipe` is raised when the same inputs give another result.

    `inputs` are the files that decide the result. `build` fills the empty folder it is given;
    `needs`, another artifact, is at hand before it is called.
    """

    name: str
    recipe: int
    inputs: Mapping[str, Path]
    build: Callable[[Path], None]
    needs: Artifact | None = None


def ensure(artifact: Artifact, root: Path, *, verify: bool = False) -> Path:
    """The artifact's folder under `root`, built if it is not there or not whole.

    A present folder is checked by the sizes of its files, with `verify` by the SHA-256 of every
    file and of every input. Raises UserError when the cache cannot be written.
    """
    folder = place(artifact, root)
    if not verify and is_whole(folder):
        return folder
    from filelock import FileLock

    if artifact.needs is not None:
        ensure(artifact.needs, root)

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / ".lock"):
            # Whoever held the lock before may have built it.
            if not is_whole(folder, artifact if verify else None):
                _build(artifact, folder)
    except OSError as error:
        problem = f"cannot build {artifact.name} there ({error}); set {VARIABLE} to another folder"
        raise UserError(root, problem) from error
    return folder


def place(artifact: Artifact, root: Path) -> Path:
    """Where the artifact's folder is, or will be."""
    return root / f"{artifact.name}-{_key(artifact)[:16]}"


def is_whole(folder: Path, verify_against: Artifact | None = None) -> bool:
    """Whether `folder` holds every file its manifest lists, at its size.

    Given the artifact, the checksums of the files and of its inputs must agree as well.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
        files: dict[str, dict[str, Any]] = manifest["files"]
        if any((folder / n).stat().st_size != f["bytes"] for n, f in files.items()):
            return False
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return False
    if verify_against is None:
        return True
    inputs = {name: sha256(path) for name, path in verify_against.inputs.items()}
    return bool(manifest.get("inputs") == inputs) and all(
        sha256(folder / name) == entry["sha256"] for name, entry in files.items()
    )


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _key(artifact: Artifact) -> str:
    """Names the inputs. Cheap enough for every start: a large file counts by name and size."""
    marks = {}
    for name, path in sorted(artifact.inputs.items()):
        size = path.stat().st_size
        marks[name] = sha256(path) if size <= _SMALL else f"{path.name} {size}"
    text = json.dumps({"recipe": artifact.recipe, "inputs": marks}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _build(artifact: Artifact, folder: Path) -> None:
    """Build into a folder beside `folder`, then rename. The lock is held."""
    _sweep(folder.parent)
    work = Path(tempfile.mkdtemp(prefix=_TORN, dir=folder.parent))
    try:
        artifact.build(work)
        files = sorted(p for p in work.rglob("*") if p.is_file())
        manifest = {
            "name": artifact.name,
            "recipe": artifact.recipe,
            "inputs": {name: sha256(path) for name, path in sorted(artifact.inputs.items())},
            "files": {
                p.relative_to(work).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256(p)}
                for p in files
            },
        }
        (work / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
        for path in [*files, work / MANIFEST, work]:
            _sync(path)
        if folder.exists():
            # A damaged one: out of the way first, a folder cannot be renamed onto another.
            folder.rename(Path(tempfile.mkdtemp(prefix=_TORN, dir=folder.parent)) / "damaged")
        work.rename(folder)
        _sync(folder.parent)
    finally:
        _sweep(folder.parent)
    for other in folder.parent.glob(f"{artifact.name}-*"):
        if other != folder:
            shutil.rmtree(other)


def _sweep(root: Path) -> None:
    """Remove what an interrupted build left behind."""
    for torn in root.glob(f"{_TORN}*"):
        shutil.rmtree(torn)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
