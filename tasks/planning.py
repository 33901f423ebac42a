"""Everyday planning: a move, a wedding dinner, a garden, a budget, with limits that change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.session import Session
from harness.task import Task, TaskCard
from tasks._bundled import bundled


class Planning(Task):
    """Plans made over several turns, each new turn adding a fact or changing a limit."""

    card: ClassVar[TaskCard] = TaskCard(
        title="Everyday planning",
        license="MIT",
        language="en",
        origin="written for this project",
        citation="none; part of this project",
        sessions=12,
        user_turns=126,
        default_warm_turns=3,
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")

    def sessions(self) -> Iterator[Session]:
        return bundled("planning")
