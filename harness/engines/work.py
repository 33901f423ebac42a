"""Work on a model's weights (mining, training), in slices between which requests are served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Hashable
from dataclasses import dataclass
from typing import Any

from harness.engines.base import LocalEngine
from harness.errors import BenchError, OutOfMemory
from harness.measure.memory import PeakWatch
from harness.method import Work, Worked


@dataclass(frozen=True)
class Finished:
    """One payload's result; `queue_s` until its work began, `peak_bytes` that the work added."""

    worked: Worked[Any]
    queue_s: float
    peak_bytes: int


@dataclass(eq=False)
class _Order:
    run: Work[Any, Any]
    key: Hashable
    payload: Any
    future: asyncio.Future[Finished]
    asked_at: float


class WorkQueue:
    """First come, first served; waiting payloads of the same work and key share a run.

    At most `limit` share one. A run that does not fit in memory is tried again payload by payload.
    """

    def __init__(self, engine: LocalEngine, limit: int) -> None:
        self._engine = engine
        self._limit = limit
        self._waiting: list[_Order] = []
        self._driver: asyncio.Task[None] | None = None

    async def do(self, run: Work[Any, Any], payload: Any, key: Hashable) -> Finished:
        """Have `payload` worked on. What the work raises is raised here."""
        future: asyncio.Future[Finished] = asyncio.get_running_loop().create_future()
        order = _Order(run, key, payload, future, time.perf_counter())
        self._waiting.append(order)
        if self._driver is None:
            self._driver = asyncio.create_task(self._drive())
        return await future

    async def close(self) -> None:
        """Wait until what is running has ended or has been broken off."""
        if self._driver is not None:
            await self._driver

    async def _drive(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(0)  # sessions that are ready at the same moment join
                await self._serve(self._take())
        finally:
            self._driver = None

    def _take(self) -> list[_Order]:
        head = self._waiting[0]
        alike = [o for o in self._waiting if o.run is head.run and o.key == head.key]
        batch = alike[: self._limit]
        self._waiting = [o for o in self._waiting if o not in batch]
        return [o for o in batch if not o.future.done()]

    async def _serve(self, orders: list[_Order]) -> None:
        started = time.perf_counter()
        try:
            results, peak = await self._run(orders)
        except OutOfMemory as error:
            if len(orders) > 1:
                for order in orders:
                    await self._serve([order])
            else:
                _settle(orders, error)
        except Exception as error:
            _settle(orders, error)
        except BaseException:
            _settle(orders, BenchError("the work was cancelled"))
            raise
        else:
            for order, worked in zip(orders, results, strict=True):
                if not order.future.done():
                    order.future.set_result(Finished(worked, started - order.asked_at, peak))

    async def _run(self, orders: list[_Order]) -> tuple[list[Worked[Any]], int]:
        """Slice by slice to the end, or until nobody waits for it any more."""
        if not orders:
            return [], 0
        engine = self._engine
        steps = orders[0].run(engine.model, engine.tokenizer, [o.payload for o in orders])
        with PeakWatch(engine.model.device.type == "cuda") as peak:
            while True:
                results = await engine.run_exclusive(lambda: _advance(steps))
                if results is not None:
                    return results, peak.bytes
                if all(o.future.done() for o in orders):
                    await engine.run_exclusive(steps.close)
                    return [Worked(None) for _ in orders], peak.bytes


def _advance(steps: Generator[None, None, list[Worked[Any]]]) -> list[Worked[Any]] | None:
    try:
        next(steps)
    except StopIteration as end:
        results: list[Worked[Any]] = end.value
        return results
    return None


def _settle(orders: list[_Order], error: Exception) -> None:
    for order in orders:
        if not order.future.done():
            order.future.set_exception(error)
