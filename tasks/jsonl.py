"""Your own sessions from a JSONL file, in the schema of docs/tasks.md: `jsonl:path=FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from harness.jsonl_sessions import read_sessions
from harness.session import Session
from harness.task import Task, TaskCard


class Jsonl(Task):
    """The sessions of one file. `path` is taken from the current directory; `~` is expanded."""

    path: Path

    card: ClassVar[TaskCard] = TaskCard(
        title="Sessions of a user's file",
        license="see each session",
        language="see each session",
        origin="a file of the user",
        citation="none",
        sessions=None,
        user_turns=None,
        default_warm_turns=3,
    )
    scorers: ClassVar[tuple[str, ...]] = ("exact_match", "similarity", "rouge_l", "repetition")

    def sessions(self) -> Iterator[Session]:
        return read_sessions(self.path.expanduser(), "jsonl")
