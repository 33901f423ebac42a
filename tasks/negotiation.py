"""Negotiation: the model buys or sells with a private target, the user takes the other side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.session import Session
from harness.task import Task, TaskCard
from tasks._bundled import bundled


class Negotiation(Task):
    """Bargaining about a price, a rent, a salary or a contract.

    The system prompt holds the model's private target and limit. `metadata` repeats them as
    `target` and `limit`, and has `model_side`, `user_target`, `item`, `unit` and `per`.
    """

    card: ClassVar[TaskCard] = TaskCard(
        title="Negotiation with a private target",
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
        return bundled("negotiation")
