"""Serving a plan in this process: block by block, every finished session stored at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from harness.arrivals import arrival_times
from harness.engines.ask import ask
from harness.engines.base import Sampling
from harness.executors.ledger import Ledger, Tally, Watcher
from harness.measure.machine import machine_class
from harness.method import user
from harness.plan import WARMUP_PROMPTS, Block, Plan, Unit
from harness.serving import EngineSet
from harness.store import Store
from harness.unit_server import Served, UnitServer
from harness.window import Window


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
    ledger = Ledger(plan, store, watcher, max_errors)
    if not ledger.blocks:
        return ledger.tally()
    engines = load_engines()
    run = _Serving(plan, store, engines, ledger, watcher)
    try:
        if plan.spec.warmup:
            watcher.warming()
            await warm_up(engines)
        for block in ledger.blocks:
            await engines.reset()
            await run.block(block)
    finally:
        await engines.close()
    return ledger.tally()


async def warm_up(engines: EngineSet) -> None:
    """Let every model do once what it will be measured at: short and long prompts, embedding."""
    for engine in (engines.F, engines.G):
        for prompt in WARMUP_PROMPTS:
            await ask(engine, [user(prompt)], Sampling(max_new_tokens=8))
    await engines.encoder.embed(WARMUP_PROMPTS)


class _Serving:
    def __init__(
        self, plan: Plan, store: Store, engines: EngineSet, ledger: Ledger, watcher: Watcher
    ) -> None:
        self.plan = plan
        self.watcher = watcher
        self._ledger = ledger
        self._server = UnitServer(plan.spec, engines, plan.warm_turns, store.folder)
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
            self._ledger.keep(unit, await self._serve(unit, window, arrival))

    async def _serve(self, unit: Unit, window: Window, arrival: float | None) -> Served:
        missing = self._ledger.missing(unit)
        if missing is not None:
            return missing
        stored = self._ledger.stored(unit)
        return await self._server.serve(unit, window, arrived_s=arrival, stored=stored)
