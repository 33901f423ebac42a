"""F serves the first turns, G is fine-tuned on random draws of them with SOMA's budget."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.method import Conversation, Engines
from harness.session import Session
from soma.arguments import TrainedMethod
from soma.cases import Case
from soma.fine_tuning import fine_tune, tokens_of, within
from soma.handover import HandOver
from soma.localization import Schedule, draws, epochs


class RandomFt(TrainedMethod):
    """Samples drawn with replacement by seed, within SOMA's optimizer steps and trained tokens."""

    async def open(self, session: Session, engines: Engines) -> Conversation:
        train = partial(fine_tune, method=self, plan=self._plan)
        return HandOver(self.dialogue(session, engines), self.warm(engines), train, compressed=True)

    def _plan(self, cases: Sequence[Case], seed: int) -> Schedule:
        budget = tokens_of(epochs(len(cases), self.steps, self.batch, seed), cases)
        return within(draws(len(cases), self.steps, self.batch, seed), cases, budget)
