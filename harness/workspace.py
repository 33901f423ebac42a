"""Folders of one session: some for its own time, some that stay when it has been served."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType

from harness.store import ADAPTERS, WORK, UnitKey, unit_hash, write_json


class Workspace:
    """Temporary folders are gone at its end; kept ones too, unless `finished` was called.

    Kept folders lie in the run folder under `adapters/<hash of the unit>/`, with a `unit.json` that
    says whose they are. Without a run folder every folder is temporary.
    """

    def __init__(self, run: Path | None, key: UnitKey) -> None:
        self._run = run
        self._key = key
        self._finished = False
        self._roots: dict[str, Path] = {}

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for where, root in self._roots.items():
            if where == WORK or self._run is None or not self._finished:
                shutil.rmtree(root)

    def finished(self) -> None:
        """The session was served to its end: what it kept may stay."""
        self._finished = True

    def folder(self, name: str, *, keep: bool = False) -> Path:
        """A new, empty folder. Raises FileExistsError when the session has one of that name."""
        path = self._root(ADAPTERS if keep else WORK) / name
        path.mkdir()
        return path

    def _root(self, where: str) -> Path:
        if where not in self._roots:
            self._roots[where] = self._new_root(where)
        return self._roots[where]

    def _new_root(self, where: str) -> Path:
        if self._run is None:
            return Path(tempfile.mkdtemp(prefix="soma-bench-"))
        root = self._run / where / unit_hash(self._key)
        root.mkdir(parents=True)
        if where == ADAPTERS:
            write_json(root / "unit.json", self._key._asdict())
        return root
