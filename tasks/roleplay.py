"""Role-play: a scene with several characters, of whom the model plays one or more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from harness.session import Session
from harness.task import Task, TaskCard
from tasks._bundled import bundled


class Roleplay(Task):
    """Scenes in which the user turns are what the other characters say.

    `metadata` has `plays`, whom the model plays, and `characters`, everybody in the scene.
    """

    card: ClassVar[TaskCard] = TaskCard(
        title="Role-play with several characters",
        license="MIT",
        language="en",
        origin="written for this project",
        citation="none; part of this project",
        sessions=12,
        user_turns=126,
        default_warm_turns=4,
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")

    def sessions(self) -> Iterator[Session]:
        return bundled("roleplay")
