"""The thread that owns a model: it serves waiting requests in batches and runs exclusive work."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from harness.engines.base import Sampling
from harness.engines.transformers.adapters import LoraAdapter
from harness.engines.transformers.prefix import Lease
from harness.errors import BenchError
from harness.method import Completion

T = TypeVar("T")


@dataclass(eq=False)
class Request:
    """One generation that waits for its answer. `abandoned`: its caller has gone.

    `lease`: its right to a session's prefix cache; None: it uses none.
    """

    prompt: list[int]
    sampling: Sampling
    sent_at: float
    adapter: LoraAdapter | None = None
    lease: Lease | None = None
    future: Future[Completion] = field(default_factory=Future)
    abandoned: bool = False

    def is_wanted(self) -> bool:
        return not self.abandoned


@dataclass(eq=False)
class _Task:
    run: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """First come, first served; requests next to each other in the queue share a batch.

    `serve` answers a batch: it settles every request's future, whatever happens. Nothing that a
    request or a task raises ends the thread. With `shared`, the work itself is done there, one
    piece at a time, and this thread only hands it over.
    """

    def __init__(
        self,
        name: str,
        batch_size: int,
        serve: Callable[[list[Request]], None],
        shared: Executor | None = None,
    ) -> None:
        self._serve = serve
        self._shared = shared
        self._batch_size = batch_size
        self._queue: deque[Request | _Task] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: Request) -> None:
        """Queue a request. Raises BenchError after `close`."""
        self._put(request)

    def run(self, fn: Callable[[], T]) -> Future[T]:
        """Queue `fn` to run alone on the thread. Raises BenchError after `close`."""
        task = _Task(fn)
        self._put(task)
        return task.future

    def close(self) -> None:
        """Finish what is running, refuse what waits, end the thread."""
        with self._changed:
            self._closed = True
            waiting = list(self._queue)
            self._queue.clear()
            self._changed.notify_all()
        for item in waiting:
            if item.future.set_running_or_notify_cancel():
                item.future.set_exception(BenchError("the engine was closed"))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _put(self, item: Request | _Task) -> None:
        with self._changed:
            if self._closed:
                raise BenchError("the engine is closed")
            self._queue.append(item)
            self._changed.notify()

    def _take(self) -> list[Request] | _Task | None:
        """A batch of the requests that wait, or a task; None once closed. Blocks until then."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            head = self._queue[0]
            if isinstance(head, _Task):
                self._queue.popleft()
                return head
            batch: list[Request] = []
            while self._queue and len(batch) < self._batch_size:
                item = self._queue[0]
                if isinstance(item, _Task):
                    break
                self._queue.popleft()
                if item.future.set_running_or_notify_cancel():
                    batch.append(item)
            return batch

    def _loop(self) -> None:
        while (work := self._take()) is not None:
            if isinstance(work, _Task):
                self._do(partial(_run, work))
            elif work:
                self._do(partial(self._serve, work))
            # Nothing of the last work may stay alive while the thread waits for more.
            del work

    def _do(self, piece: Callable[[], None]) -> None:
        if self._shared is None:
            piece()
        else:
            self._shared.submit(piece).result()


def _run(task: _Task) -> None:
    if not task.future.set_running_or_notify_cancel():
        return
    try:
        result = task.run()
    except BaseException as error:
        task.future.set_exception(error)
    else:
        task.future.set_result(result)
