"""Serving a plan on a Ray cluster: units go out block by block, finished ones come back and are
stored here.

Ray carries JSON text both ways (`wire.py`), and bytes of the files that methods keep. Only this
process writes the run folder, with the lines that the local executor writes: either resumes what
the other began.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import BenchError, UserError
from harness.executors.hand_out import HandOut
from harness.executors.kept_files import put_kept
from harness.executors.ledger import Ledger, Tally, Watcher
from harness.executors.ray_cluster import (
    Cluster,
    Share,
    actor_options,
    cards_of,
    connected,
    shared_out,
)
from harness.executors.ray_worker import Worker, own_code
from harness.executors.wire import Job, Orders
from harness.plan import Plan, Unit
from harness.serving import unserved
from harness.store import Store, UnitKey
from harness.unit_server import Served

T = TypeVar("T")

MAX_LOSSES = 3
"""So often a unit may lose the worker that serves it, and a worker be lost in a row before it is
given any: what kills a worker must not do so forever."""


async def serve_on_ray(
    plan: Plan,
    store: Store,
    watcher: Watcher,
    *,
    max_errors: int,
    workers: int | None,
    offline: bool,
    say: Callable[[str], None],
) -> Tally:
    """Serve what `store` lacks of `plan` on the workers of a cluster; as `harness.runner.serve`.

    `workers`: how many; None, what the cluster has room for. Each serves `concurrency` sessions at
    a time. What a lost worker was serving is handed out again, and another worker takes its place.
    `say` is told of it. Raises UserError where the cluster or a worker's engines cannot be had, and
    BenchError where a worker is lost MAX_LOSSES times in a row before it is given a session.
    """
    ledger = Ledger(plan, store, watcher, max_errors)
    if not ledger.blocks:
        return ledger.tally()
    with connected() as cluster:
        share = shared_out(cluster.nodes, cards_of(plan.spec.pair), workers)
        run = _Run(plan, store, ledger, watcher, _Hiring(plan, cluster, share, offline), say)
        try:
            async with asyncio.TaskGroup() as posts:
                for index in range(min(share.workers, run.units)):
                    posts.create_task(run.post(index))
        except BaseExceptionGroup as failures:
            raise _reason(failures) from None
        return ledger.tally(tuple(sorted(run.machines)))


class _Hiring:
    """Starts workers: each the same but for its index."""

    def __init__(self, plan: Plan, cluster: Cluster, share: Share, offline: bool) -> None:
        import ray

        spec = plan.spec
        methods = {m.name for m in spec.methods}
        self._actor = ray.remote(Worker).options(**actor_options(share, spec.concurrency))
        self._orders = Orders(
            spec=spec,
            index=0,
            cores=None if share.gpus else share.cpus,
            warm_turns=plan.warm_turns,
            offline=offline,
            folder=str(Path.cwd()),
            sources={name: found for name, found in plan.sources().items() if name in methods},
            code=own_code(),
            scratch=cluster.scratch,
        )

    def worker(self, index: int) -> Any:
        """A handle to a worker that is being started, where and when there is room for it."""
        orders = self._orders.model_copy(update={"index": index})
        return self._actor.remote(orders.model_dump_json())


@dataclass
class _Shift:
    """What one worker did from its start to its end: units in flight by key, and how many came
    back.
    """

    flying: dict[UnitKey, tuple[int, Unit]] = field(default_factory=dict)
    served: int = 0


class _Run:
    """One start of a run. `machines`: the classes of the machines that its workers were on."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        ledger: Ledger,
        watcher: Watcher,
        hiring: _Hiring,
        say: Callable[[str], None],
    ) -> None:
        spec = plan.spec
        self.units = sum(len(block.units) for block in ledger.blocks)
        self.machines: set[str] = set()
        self._spec = spec
        self._folder = store.folder
        self._ledger = ledger
        self._watcher = watcher
        self._hiring = hiring
        self._say = say
        self._out = HandOut(ledger.blocks, spec.reference if spec.history == "replay" else None)
        self._losses: Counter[UnitKey] = Counter()

    async def post(self, index: int) -> None:
        """Keep one worker at work until every unit is finished, with another when it is lost."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        in_vain = 0
        while not self._out.done:
            shift = _Shift()
            worker = self._hiring.worker(index)
            try:
                await self._employ(worker, shift)
            except RayTaskError:
                raise  # a fault of the code that the worker runs, not of its machine
            except RayError as error:
                cause = _cause(error)
                in_vain = 0 if shift.served or shift.flying else in_vain + 1
                self._lost(index, shift, cause)
                if in_vain == MAX_LOSSES:
                    times = f"{MAX_LOSSES} times in a row before it could serve a session"
                    raise BenchError(f"worker {index} was lost {times}: {cause}") from error
            finally:
                ray.kill(worker)

    async def _employ(self, worker: Any, shift: _Shift) -> None:
        facts = await self._unless_done(worker.load.remote())
        if facts is None:
            return
        if "problem" in facts:
            raise UserError(facts["place"], facts["problem"])
        first = not self.machines
        self.machines.add(facts["machine_class"])
        if self._spec.warmup:
            if first:
                self._watcher.warming()
            await worker.warm_up.remote()
        while (place := await self._out.next_block()) is not None:
            await worker.begin.remote()
            try:
                async with asyncio.TaskGroup() as lanes:
                    for _ in range(self._spec.concurrency):
                        lanes.create_task(self._lane(worker, place, shift))
            except BaseExceptionGroup as failures:
                raise _reason(failures) from None
        await worker.close.remote()

    async def _unless_done(self, loading: Awaitable[T]) -> T | None:
        """What a worker says when it has loaded; None where there is nothing left for it to do."""
        loaded = asyncio.ensure_future(loading)
        done = asyncio.ensure_future(self._out.all_done())
        try:
            await asyncio.wait({loaded, done}, return_when=asyncio.FIRST_COMPLETED)
            return loaded.result() if loaded.done() else None
        finally:
            done.cancel()
            loaded.cancel()

    async def _lane(self, worker: Any, place: int, shift: _Shift) -> None:
        """Have a worker serve units of one block, one after another, for as long as it has some."""
        while (unit := self._out.take(place)) is not None:
            shift.flying[unit.key] = (place, unit)
            self._watcher.started(unit)
            served = self._ledger.missing(unit)
            if served is None:
                job = Job(key=unit.key, session=unit.session, stored=self._ledger.stored(unit))
                line, trace, kept = await worker.serve.remote(job.text())
                put_kept(self._folder, unit.key, kept)
                served = Served(json.loads(line), trace)
            shift.served += 1
            self._finish(shift, unit, served)

    def _finish(self, shift: _Shift, unit: Unit, served: Served) -> None:
        """Store what became of a unit. Nothing can come between: it is never handed out again."""
        place, _ = shift.flying.pop(unit.key)
        self._out.finished(place)
        self._ledger.keep(unit, served)

    def _lost(self, index: int, shift: _Shift, cause: str) -> None:
        """Hand out again what a lost worker was serving. A unit that was lost too often fails."""
        self._say(f"worker {index} was lost with {len(shift.flying)} sessions in flight: {cause}")
        for key, (place, unit) in list(shift.flying.items()):
            self._losses[key] += 1
            if self._losses[key] < MAX_LOSSES:
                self._out.give_back(place, unit)
                continue
            reason = f"its worker was lost {MAX_LOSSES} times; the last time: {cause}"
            self._finish(shift, unit, Served(unserved(key, unit.session, "error", reason), None))


def _cause(error: Exception) -> str:
    """What Ray says of a loss, without its details and its advice."""
    lines = [line for line in str(error).splitlines() if not line.startswith("\t")]
    told = " ".join(" ".join(lines).split())
    return told.split(" Some common causes include")[0][:300]


def _reason(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Why a group of tasks ended: what failed of itself, rather than for the want of a worker."""
    from ray.exceptions import RayError

    own = (e for e in failures.exceptions if not isinstance(e, RayError))
    return next(own, failures.exceptions[0])
