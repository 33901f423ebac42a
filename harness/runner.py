"""Serving a plan: block by block, session by session, every finished one stored at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.arrivals import arrival_times
from harness.engines.ask import ask
from harness.engines.base import Sampling
from harness.errors import TooManyErrors
from harness.measure.machine import machine_class
from harness.method import user
from harness.plan import WARMUP_PROMPTS, Block, Plan, Unit
from harness.record import SessionRecord
from harness.replies import ReplyStore
from harness.serving import EngineSet
from harness.store import Store, UnitKey
from harness.unit_server import Served, UnitServer
from harness.window import Window


class Watcher(Protocol):
    """Who is told how a run goes (a progress display)."""

    def planned(self, totals: dict[str, int], finished: dict[str, int]) -> None:
        """Sessions per method: all of them, and those finished before this start."""
        ...

    def warming(self) -> None: ...

    def started(self, unit: Unit) -> None: ...

    def finished(self, unit: Unit, record: SessionRecord) -> None: ...


@dataclass(frozen=True)
class Tally:
    """What a call of `serve` did."""

    served: int
    resumed: int
    errors: int


async def serve(
    plan: Plan,
    store: Store,
    load_engines: Callable[[], EngineSet],
    watcher: Watcher,
    *,
    max_errors: int,
) -> Tally:
    """Serve what `store` lacks of `plan`. Engines are loaded only when something is left to do.

    A session that fails becomes an `error` record and the run goes on; the failure after
    `max_errors` raises TooManyErrors. Sessions of a block are served `concurrency` at a time, or
    as they arrive.
    """
    finished = store.finished()
    blocks = list(plan.blocks())
    keys = [u.key for b in blocks for u in b.units]
    watcher.planned(
        {m: sum(k.method == m for k in keys) for m in plan.methods},
        {m: sum(k.method == m and k in finished for k in keys) for m in plan.methods},
    )
    todo = [_left(block, finished) for block in blocks]
    resumed = sum(k in finished for k in keys)
    if not any(b.units for b in todo):
        return Tally(0, resumed, 0)
    engines = load_engines()
    run = _Serving(plan, store, engines, watcher, max_errors)
    try:
        if plan.spec.warmup:
            watcher.warming()
            await warm_up(engines)
        for block in todo:
            if block.units:
                await engines.reset()
                await run.block(block)
    finally:
        await engines.close()
    return Tally(run.served, resumed, run.errors)


async def warm_up(engines: EngineSet) -> None:
    """Let every model do once what it will be measured at: short and long prompts, embedding."""
    for engine in (engines.F, engines.G):
        for prompt in WARMUP_PROMPTS:
            await ask(engine, [user(prompt)], Sampling(max_new_tokens=8))
    await engines.encoder.embed(WARMUP_PROMPTS)


class _Serving:
    def __init__(
        self, plan: Plan, store: Store, engines: EngineSet, watcher: Watcher, max_errors: int
    ) -> None:
        self.plan = plan
        self.store = store
        self.watcher = watcher
        self.max_errors = max_errors
        self.served = 0
        self.errors = 0
        self._server = UnitServer(plan.spec, engines, plan.warm_turns, store.folder)
        self._replies = ReplyStore(plan.spec, store.folder)
        self._machine = machine_class()

    async def block(self, block: Block) -> None:
        """Serve a block: its sessions come as there is room, or at their own times."""
        spec = self.plan.spec
        gate = asyncio.Semaphore(len(block.units) if spec.arrival_rate else spec.concurrency)
        times = arrival_times(spec, block.task, block.seed, len(block.units))
        window = Window.begin(machine_class=self._machine)
        try:
            async with asyncio.TaskGroup() as group:
                for place, unit in enumerate(block.units):
                    arrival = None if times is None else times[place]
                    group.create_task(self._guarded(unit, gate, window, arrival))
        except BaseExceptionGroup as failures:
            # One reason ends a run; the other sessions of the block were only cancelled by it.
            raise failures.exceptions[0] from None

    async def _guarded(
        self, unit: Unit, gate: asyncio.Semaphore, window: Window, arrival: float | None
    ) -> None:
        if arrival is not None:
            await asyncio.sleep(arrival - window.now())
        async with gate:
            self.watcher.started(unit)
            self._keep(unit, await self._serve(unit, window, arrival))

    async def _serve(self, unit: Unit, window: Window, arrival: float | None) -> Served:
        missing = self._replies.missing(unit)
        if missing is not None:
            return Served(missing, None)
        stored = self._replies.of(unit)
        return await self._server.serve(unit, window, arrived_s=arrival, stored=stored)

    def _keep(self, unit: Unit, served: Served) -> None:
        """Store a finished unit, count it, and stop the run where too many failed."""
        record = served.record
        if served.traceback is not None:
            self.store.write_traceback(unit.key, served.traceback)
        self.errors += record["outcome"] == "error"
        self.served += record["outcome"] == "scored"
        self._replies.keep(record)
        self.store.append(record)
        self.watcher.finished(unit, record)
        if self.errors > self.max_errors:
            raise TooManyErrors(
                f"{self.errors} sessions failed, --max-errors allows {self.max_errors};"
                f" the last: {record['reason']}"
            )


def _left(block: Block, finished: set[UnitKey]) -> Block:
    units = tuple(u for u in block.units if u.key not in finished)
    return Block(block.method, block.task, block.seed, units)
