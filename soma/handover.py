"""The plain way to hand a session over: F for W turns, then G for the rest, trained or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from harness.method import Adapter, Reply
from soma.warm_start import Dialogue

Train = Callable[[Dialogue], Awaitable[Adapter | None]]
"""Makes the adapter that G serves with from the warm turns."""


class HandOver:
    """The state of one session; implements `harness.method.Conversation`.

    No gate and no way back. The turn after the warm start waits for the training.
    """

    def __init__(
        self, dialogue: Dialogue, warm_turns: int, train: Train | None, *, compressed: bool
    ) -> None:
        self._dialogue = dialogue
        self._warm_turns = warm_turns
        self._train = train
        self._compressed = compressed
        self._adapter: Adapter | None = None

    async def reply(self, query: str) -> Reply:
        if len(self._dialogue.turns) < self._warm_turns:
            return await self._dialogue.by_f(query)
        if len(self._dialogue.turns) == self._warm_turns:
            await self._hand_over()
        return await self._dialogue.by_g(query, self._adapter, compressed=self._compressed)

    async def replay(self, reply: str, *, ended: bool) -> None:
        self._dialogue.replay(reply, ended=ended)

    async def close(self) -> None:
        self._adapter = None

    async def _hand_over(self) -> None:
        engines = self._dialogue.engines
        if self._train is not None:
            with engines.span("adaptation_wait"), engines.span("adaptation"):
                self._adapter = await self._train(self._dialogue)
        engines.event("switched", to="G")
