"""F serves the first turns, G is fine-tuned on them without weights and serves the rest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.method import Conversation, Engines
from harness.session import Session
from soma.arguments import TrainedMethod
from soma.cases import Case
from soma.fine_tuning import fine_tune
from soma.handover import HandOver
from soma.localization import Schedule, epochs


class HistoryFt(TrainedMethod):
    """The same context-reply pairs, adapter and steps as SOMA; no mining, no weights, no gate."""

    async def open(self, session: Session, engines: Engines) -> Conversation:
        train = partial(fine_tune, method=self, plan=self._plan)
        return HandOver(self.dialogue(session, engines), self.warm(engines), train, compressed=True)

    def _plan(self, cases: Sequence[Case], seed: int) -> Schedule:
        return epochs(len(cases), self.steps, self.batch, seed)
