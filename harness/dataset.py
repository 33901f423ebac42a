"""A task read from published files: the user's copy, or the one that `fetch` brought."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from harness.data.files import find_files
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, Task


@dataclass(frozen=True)
class RemoteFile:
    """A file of a dataset at a pinned revision.

    `url` has the revision in it. `sha256`: None where nobody here could take it; it is then taken
    at the first download and held to afterwards.
    """

    name: str
    url: str
    sha256: str | None


class Dataset(Task):
    """The sessions of published files. `path`: a file or a folder; None, what was fetched."""

    path: Path | None = Field(default=None)

    patterns: ClassVar[tuple[str, ...]]
    """Names of the data files in a folder, as glob patterns."""
    remote: ClassVar[tuple[RemoteFile, ...]] = ()
    """Where `fetch` gets the data; empty where it cannot be fetched by file."""

    @abstractmethod
    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """Sessions and drops of `files`, in file order.

        Raises UserError naming file and line for data that cannot be read.
        """

    def items(self) -> Iterator[Session | Drop]:
        return self.read(self.files())

    def sessions(self) -> Iterator[Session]:
        return (item for item in self.items() if isinstance(item, Session))

    def files(self) -> list[Path]:
        """The files to read. Raises UserError where there are none."""
        if self.path is not None:
            return find_files(self.path, self.patterns)
        from harness import registry
        from harness.data.fetch import fetched

        found = fetched(self.cache_name(), self.remote)
        if found is None:
            name = registry.name_of(type(self))
            way = f"run `run_bench.py fetch {name}`, or " if self.remote else ""
            raise UserError(f"{name}: path", f"the data are not here; {way}give path=FILE")
        return found

    @classmethod
    def cache_name(cls) -> str:
        """The folder that its fetched files lie in."""
        return cls.__module__.rpartition(".")[2]


def text_of(record: Any, key: str, place: str) -> str:
    """The string at `key` of a record. Raises UserError at `place` for anything else."""
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, str):
        raise UserError(place, f"{key!r} must be a string, not {type(value).__name__}")
    return value
