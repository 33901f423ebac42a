"""Planted drift: two sessions spliced at a known turn, and unspliced controls of equal length."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from harness.errors import UserError
from harness.plan import build_task
from harness.session import Session
from harness.spec import TaskSpec
from harness.task import Task, TaskCard
from tasks._splice import LEAST_AFTER, control_of, last_shift, partners, splice

_AFTER_WARM_TURNS = 3  # turns for a switch to happen and to be seen, before anything shifts


class Drift(Task):
    """Each session of `source` breaks off, and another one begins in its place.

    `other`: the task of the second halves; None, `source` itself. `shift_turn`: the first turn of
    the second half; None, drawn per session by `seed` from `earliest` up to two turns before the
    session's end. `earliest`: None, three turns after the source's default warm turns. Sessions too
    short for that are left out. Spliced sessions and controls alternate, so that a limit keeps the
    balance.

    `metadata` of a spliced session: `shift_turn`, `spliced_from` (two ids). Of a control:
    `shift_turn` null, `control_of` (an id) and `compare_from`, where its spliced session shifts.
    """

    source: str = "planning"
    source_args: dict[str, Any] = Field(default={})
    other: str | None = None
    other_args: dict[str, Any] = Field(default={})
    seed: int = 0
    shift_turn: int | None = Field(default=None, ge=2)
    earliest: int | None = Field(default=None, ge=2)
    controls: bool = True

    card: ClassVar[TaskCard] = TaskCard(
        title="Planted drift",
        license="see each session",
        language="see each session",
        origin="spliced from the sessions of another task",
        citation="that of the source task",
        sessions=None,
        user_turns=None,
        default_warm_turns=3,
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")

    @model_validator(mode="after")
    def _no_contradiction(self) -> Self:
        if self.shift_turn is not None and self.earliest is not None:
            raise ValueError("shift_turn and earliest exclude each other; give one of them")
        if self.other is None and self.other_args:
            raise ValueError("other_args are of no use without other, the task they are for")
        return self

    def sessions(self) -> Iterator[Session]:
        """Spliced sessions in the order of the source, each followed by its control.

        Raises UserError naming the argument for an unknown task, or one with too few sessions that
        are long enough.
        """
        source = self._task("source", self.source, self.source_args)
        earliest = self._earliest(source)
        for first, second in partners(self._first(source, earliest), self._second(), self.seed):
            spliced = splice(first, second, self._shift(first, earliest))
            yield spliced
            if self.controls:
                yield control_of(first, spliced)

    def _earliest(self, source: Task) -> int:
        given = self.shift_turn if self.shift_turn is not None else self.earliest
        return source.card.default_warm_turns + _AFTER_WARM_TURNS if given is None else given

    def _shift(self, first: Session, earliest: int) -> int:
        if self.shift_turn is not None:
            return self.shift_turn
        # A draw of the session's own: it does not depend on which others there are.
        draw = random.Random(f"{self.seed}/shift/{first.id}")
        return draw.randint(earliest, last_shift(first))

    def _first(self, source: Task, earliest: int) -> list[Session]:
        needed = 2 if self._one_pool else 1
        turns = earliest + LEAST_AFTER - 1
        hint = f"a shift at turn {earliest} or later wants {turns}; lower earliest or shift_turn"
        return _long(source, f"drift: source = {self.source!r}", needed, turns, hint)

    def _second(self) -> list[Session] | None:
        """The sessions that may follow; None where they are those of the source."""
        if self._one_pool or self.other is None:
            return None
        other = self._task("other", self.other, self.other_args)
        hint = f"a second half wants {LEAST_AFTER}"
        return _long(other, f"drift: other = {self.other!r}", 1, LEAST_AFTER, hint)

    @property
    def _one_pool(self) -> bool:
        source = (self.source, self.source_args)
        return self.other is None or (self.other, self.other_args) == source

    def _task(self, argument: str, name: str, args: dict[str, Any]) -> Task:
        task = build_task(TaskSpec(name=name, args=args), f"drift: {argument}")
        if isinstance(task, Drift):
            raise UserError(
                f"drift: {argument}", "is spliced itself; name a task of whole sessions"
            )
        return task


def _long(task: Task, place: str, needed: int, turns: int, hint: str) -> list[Session]:
    """The sessions of at least `turns` user turns. Raises UserError for under `needed` of them."""
    everything = list(task.sessions())
    found = [session for session in everything if len(session.turns) >= turns]
    if len(found) < needed:
        raise UserError(
            place,
            f"{len(found)} of {len(everything)} sessions have {turns} user turns or more, "
            f"{needed} needed ({hint})",
        )
    return found
