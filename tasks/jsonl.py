"""Your own sessions from a file, JSON Lines or another form it knows: `jsonl:path=FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from harness.data.own_file import AUTO, WARM_TURNS, read_own_file
from harness.session import Session
from harness.task import Drop, Task, TaskCard


class Jsonl(Task):
    """The sessions of one file. `path` is taken from the current directory; `~` is expanded.

    `form`, where the content shall not decide: `sessions` is the project's own, `turns_by_id` that
    of SOMA's released code, `messages` that of the OpenAI chat API, `conversations` ShareGPT's.
    """

    path: Path
    form: Literal["auto", "sessions", "turns_by_id", "messages", "conversations"] = AUTO

    card: ClassVar[TaskCard] = TaskCard(
        title="Sessions of a user's file",
        license="see each session",
        language="see each session",
        origin="a file of the user",
        citation="none",
        sessions=None,
        user_turns=None,
        default_warm_turns=WARM_TURNS,
    )
    scorers: ClassVar[tuple[str, ...]] = ("exact_match", "similarity", "rouge_l", "repetition")

    def sessions(self) -> Iterator[Session]:
        return (item for item in self.items() if isinstance(item, Session))

    def items(self) -> Iterator[Session | Drop]:
        return read_own_file(self.path.expanduser(), "jsonl", self.form)

    def files(self) -> list[Path]:
        return [self.path.expanduser()]
