"""Plain fine-tuning on the warm turns: localization without weights, on some schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.engines.transformers.adapters import LoraAdapter
from soma.adaptation import Lessons, Payer
from soma.arguments import TrainedMethod
from soma.cases import Case
from soma.localization import Schedule
from soma.warm_start import Dialogue

Planner = Callable[[Sequence[Case], int], Schedule]
"""Which cases each optimizer step sees, from all cases and a seed."""


async def fine_tune(dialogue: Dialogue, method: TrainedMethod, plan: Planner) -> LoraAdapter | None:
    """Train on every turn so far, all with the same weight. None when there is nothing to learn."""
    engines = dialogue.engines
    found = [
        await dialogue.training_case(place, method.limits()) for place in range(len(dialogue.turns))
    ]
    cases = [case for case in found if case is not None]
    if not cases:
        return None
    lessons = Lessons(engines, method.lora(), Payer("blocking", dialogue.next_turn))
    schedule = plan(cases, engines.seed)
    localized = await lessons.train(cases, [1.0] * len(cases), schedule, "all")
    localized.adapter.save(engines.folder("adapter-1", keep=method.keep_adapter))
    return localized.adapter


def tokens_of(schedule: Schedule, cases: Sequence[Case]) -> int:
    """How many tokens a schedule trains on."""
    return sum(cases[place].tokens for step in schedule for place in step)


def within(schedule: Schedule, cases: Sequence[Case], budget: int) -> Schedule:
    """The first steps of `schedule` that stay within `budget` tokens; at least one."""
    for steps in range(len(schedule), 1, -1):
        if tokens_of(schedule[:steps], cases) <= budget:
            return schedule[:steps]
    return schedule[:1]
