"""The interface of a task: a named source of sessions with its scorers and its card."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from harness.session import Session


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
