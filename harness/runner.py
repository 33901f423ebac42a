"""Serving a plan: block by block, session by session, every finished one stored at once."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from harness.engines.base import Sampling
from harness.engines.chat import encode_chat
from harness.errors import BenchError, TooManyErrors
from harness.method import user
from harness.plan import WARMUP_PROMPTS, Block, Plan, Unit
from harness.record import SessionRecord
from harness.serving import EngineSet, StoredReply, serve_session, stored_replies, unserved
from harness.store import Store, UnitKey, key_of, read_sessions


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
    `max_errors` raises TooManyErrors. Sessions of a block are served `concurrency` at a time.
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
            ids = encode_chat(engine.tokenizer, [user(prompt)])
            await engine.generate(ids, Sampling(max_new_tokens=8))
    await engines.encoder.embed(WARMUP_PROMPTS)


class _Serving:
    def __init__(
        self, plan: Plan, store: Store, engines: EngineSet, watcher: Watcher, max_errors: int
    ) -> None:
        self.plan = plan
        self.store = store
        self.engines = engines
        self.watcher = watcher
        self.max_errors = max_errors
        self.served = 0
        self.errors = 0
        self._stored: dict[UnitKey, tuple[StoredReply, ...]] = {}
        if plan.spec.history == "replay":
            for record in read_sessions(store.folder):
                self._keep(record)

    async def block(self, block: Block) -> None:
        gate = asyncio.Semaphore(self.plan.spec.concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for unit in block.units:
                    group.create_task(self._guarded(unit, gate))
        except BaseExceptionGroup as failures:
            # One reason ends a run; the other sessions of the block were only cancelled by it.
            raise failures.exceptions[0] from None

    async def _guarded(self, unit: Unit, gate: asyncio.Semaphore) -> None:
        async with gate:
            self.watcher.started(unit)
            record = await self._serve(unit)
            self.store.append(record)
            self.watcher.finished(unit, record)
            if self.errors > self.max_errors:
                raise TooManyErrors(
                    f"{self.errors} sessions failed, --max-errors allows {self.max_errors};"
                    f" the last: {record['reason']}"
                )

    def _keep(self, record: SessionRecord) -> None:
        """In replay: remember the replies that other methods' histories will be made of."""
        spec = self.plan.spec
        of_reference = record["method"] == spec.reference and record["outcome"] == "scored"
        if spec.history == "replay" and of_reference:
            self._stored[key_of(record)] = stored_replies(record)

    async def _serve(self, unit: Unit) -> SessionRecord:
        spec = self.plan.spec
        stored = None
        if spec.history == "replay" and unit.key.method != spec.reference:
            stored = self._stored.get(unit.key._replace(method=str(spec.reference)))
            if stored is None:
                reason = f"{spec.reference} was not served: there are no replies to replay"
                return unserved(unit.key, unit.session, "skipped", reason)
        try:
            record = await serve_session(
                unit.key,
                unit.method,
                unit.session,
                self.engines,
                spec.generation,
                alone=spec.concurrency == 1,
                warm_turns=self.plan.warm_turns[unit.key.task],
                think_time_s=spec.think_time_s,
                run_folder=self.store.folder,
                stored=stored,
            )
        except Exception as error:
            # Whatever a Method raises is that session's outcome; the traceback is kept beside it.
            self.errors += 1
            self.store.write_traceback(unit.key, traceback.format_exc())
            return unserved(unit.key, unit.session, "error", _one_line(error))
        self.served += 1
        self._keep(record)
        return record


def _left(block: Block, finished: set[UnitKey]) -> Block:
    units = tuple(u for u in block.units if u.key not in finished)
    return Block(block.method, block.task, block.seed, units)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    name = type(error).__name__
    return text if isinstance(error, BenchError) and text else f"{name}: {text}"[:500]
