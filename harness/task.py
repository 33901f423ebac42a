"""The interface of a task: a named source of sessions with its scorers and its card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from harness.session import ReferenceKind, Session


@dataclass(frozen=True)
class TaskCard:
    """What a user must know before trusting a task. Counts are those of the whole task."""

    title: str
    license: str
    language: str
    origin: str
    citation: str
    sessions: int | None
    user_turns: int | None
    default_warm_turns: int
    """W: how many first turns a warm-starting method needs here (DESIGN vocabulary)."""
    reference_kind: ReferenceKind | None = None
    """Who wrote the references: people, a model; None where there are none or each session says."""


@dataclass(frozen=True)
class Drop:
    """Something of the source that became no part of any session, and why.

    `reason`: a word of a small set, e.g. "empty_message"; reports count by it. `place`: where it
    stood, `file:line`. `detail`: what it was, e.g. a dialogue's id. `score`: the number it was
    decided on, where there is one.
    """

    reason: str
    place: str
    detail: str = ""
    score: float | None = None


class Task(BaseModel, ABC):
    """A source of sessions. A subclass's fields are its arguments, validated by type."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    card: ClassVar[TaskCard]
    scorers: ClassVar[tuple[str, ...]]

    @abstractmethod
    def sessions(self) -> Iterator[Session]:
        """All sessions in their canonical order, the same on every machine.

        Raises UserError naming file and line for data that cannot be read.
        """

    def files(self) -> list[Path]:
        """The files that the sessions are read from; none for a task that brings its own."""
        return []

    def items(self) -> Iterator[Session | Drop]:
        """The sessions, and between them what was left out: the same order on every machine."""
        return self.sessions()
