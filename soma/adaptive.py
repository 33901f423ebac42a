"""One SOMA session: warm start by F, adaptation, the switch to G, drift, rollback."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Literal

from harness.method import Engines, Reply
from soma.adaptation import AdaptationSettings, Adapted, Payer, adapt, reply_gap
from soma.drift import DriftMonitor, DriftSettings, Probe
from soma.encoder import embed
from soma.gate import GateSettings, cosine, decide
from soma.warm_start import Dialogue

Mode = Literal["blocking", "background"]
AfterRollback = Literal["stay", "rewarm"]


@dataclass(frozen=True)
class Course:
    """How a session runs. `warm_turns`: W. `rollback`: whether an alarm has consequences."""

    warm_turns: int
    mode: Mode
    adaptation: AdaptationSettings
    gate: GateSettings
    drift: DriftSettings
    rollback: bool
    after_rollback: AfterRollback
    keep_adapter: bool


class AdaptiveConversation:
    """The state of one session; implements `harness.method.Conversation`."""

    def __init__(self, course: Course, dialogue: Dialogue) -> None:
        self._course = course
        self._dialogue = dialogue
        self._engines: Engines = dialogue.engines
        self._warm_from = 0  # place of the first turn of this warm start
        self._adaptations = 0
        self._adapted: Adapted | None = None
        self._task: asyncio.Task[Adapted | None] | None = None
        self._monitor: DriftMonitor | None = None  # while G serves
        self._stays_with_f = False

    async def reply(self, query: str) -> Reply:
        if self._monitor is None:
            await self._adapt_if_due()
        if self._adapted is not None:
            locality = await self._locality(query, self._adapted)
            if self._monitor is None and self._admits(locality, self._adapted):
                self._monitor = DriftMonitor(self._course.drift)
            if self._monitor is not None:
                return await self._monitored(query, locality, self._adapted, self._monitor)
        reply = await self._dialogue.by_f(query)
        if self._course.mode == "background" and self._is_warm():
            self._task = asyncio.create_task(self._adapt(Payer("background", None)))
        return reply

    async def replay(self, reply: str, *, ended: bool) -> None:
        self._dialogue.replay(reply, ended=ended)

    async def close(self) -> None:
        """An adaptation that nobody waits for any more is broken off; what failed is raised."""
        task, self._task, self._adapted = self._task, None, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    # The warm start and its end.

    def _is_warm(self) -> bool:
        """Whether the warm start is complete and nothing has been made of it yet."""
        done = len(self._dialogue.turns) - self._warm_from
        begun = self._task is not None or self._adapted is not None or self._stays_with_f
        return done >= self._course.warm_turns and not begun

    async def _adapt_if_due(self) -> None:
        """Adapt after the warm start, or take up what was adapted in the background."""
        if self._course.mode == "blocking" and self._is_warm():
            with self._engines.span("adaptation_wait"):
                self._take(await self._adapt(Payer("blocking", self._dialogue.next_turn)))
        elif self._task is not None and self._task.done():
            task, self._task = self._task, None
            self._take(task.result())

    async def _adapt(self, payer: Payer) -> Adapted | None:
        """Adapt to the warm turns."""
        course = self._course
        places = range(self._warm_from, self._warm_from + course.warm_turns)
        self._adaptations += 1
        adapted = await adapt(self._dialogue, places, course.adaptation, payer)
        if adapted is not None:
            with self._engines.span("adapter_save"):
                name = f"adapter-{self._adaptations}"
                adapted.adapter.save(self._engines.folder(name, keep=course.keep_adapter))
        return adapted

    def _take(self, adapted: Adapted | None) -> None:
        self._adapted = adapted
        if adapted is None:
            self._refuse("F said nothing in the warm turns to learn from")

    def _admits(self, locality: float, adapted: Adapted) -> bool:
        """The gate's verdict on a query; without a gate the adapted G always takes over."""
        settings = self._course.gate
        mean = None
        if self._course.adaptation.gate:
            verdict = decide(adapted.gaps, locality, settings)
            mean = verdict.gap
            self._engines.event(
                "gate",
                accepted=verdict.accepted,
                gap=verdict.gap,
                gaps=list(adapted.gaps),
                epsilon=settings.epsilon,
                locality=locality,
                min_locality=settings.min_locality,
                reason=verdict.reason,
            )
            if verdict.gap > settings.epsilon:
                self._stays_with_f, self._adapted = True, None
            if not verdict.accepted:
                return False
        self._engines.event("switched", to="G", gap=mean, locality=locality)
        return True

    def _refuse(self, reason: str) -> None:
        self._stays_with_f = True
        settings = self._course.gate
        self._engines.event(
            "gate",
            accepted=False,
            gap=None,
            gaps=[],
            epsilon=settings.epsilon,
            locality=None,
            min_locality=settings.min_locality,
            reason=reason,
        )

    # After the switch.

    async def _monitored(
        self, query: str, locality: float, adapted: Adapted, monitor: DriftMonitor
    ) -> Reply:
        """G answers, unless the query alone raises the alarm; F is asked too where it is time."""
        if self._course.rollback and monitor.raises_alarm(locality):
            self._judge(monitor, locality, None, None, serves_from=self._dialogue.next_turn)
            return await self._dialogue.by_f(query)
        probe = monitor.wants_probe(locality)
        reply = await self._dialogue.by_g(query, adapted.adapter)
        distance = None if probe is None else await self._shadow_gap(reply)
        self._judge(monitor, locality, distance, probe, serves_from=self._dialogue.next_turn)
        return reply

    async def _shadow_gap(self, reply: Reply) -> float:
        """Gap of G's reply to what F says to the same turn, which no user sees."""
        with self._engines.span("probing"):
            shadow = await self._dialogue.ask_f_again()
            phi = self._course.adaptation.phi
            return await reply_gap(self._engines, phi, shadow.text, reply.text)

    def _judge(
        self,
        monitor: DriftMonitor,
        locality: float,
        distance: float | None,
        probe: Probe | None,
        *,
        serves_from: int,
    ) -> None:
        """Note the drift check, and roll back on an alarm. `serves_from`: F's first turn then."""
        settings = self._course.drift
        check = monitor.check(locality, distance)
        numbers = {
            "locality": locality,
            "gap": distance,
            "moving_gap": check.moving_gap,
            "consecutive": check.consecutive,
            "m_cons": settings.m_cons,
        }
        self._engines.event(
            "drift_check",
            **numbers,
            min_locality=settings.min_locality,
            threshold=settings.threshold,
            signal=settings.signal,
            probe=probe,
            failed=check.failed,
            alarm=check.alarm,
        )
        if check.alarm and self._course.rollback:
            self._engines.event(
                "rolled_back",
                to="F",
                **numbers,
                serves_from=serves_from,
                then=self._course.after_rollback,
                reason=f"{check.consecutive} failed checks in a row",
            )
            self._roll_back(serves_from - 1)

    def _roll_back(self, place: int) -> None:
        """F serves again from the turn at `place`, for good or as a new warm start."""
        self._monitor = self._adapted = None
        self._warm_from = place
        self._stays_with_f = self._course.after_rollback == "stay"

    async def _locality(self, query: str, adapted: Adapted) -> float:
        (vector,) = await embed(self._engines, self._course.adaptation.phi, [query])
        return cosine(vector, adapted.centroid)
