"""An event loop on a thread of its own.

vLLM's engine lives in the event loop that it was made in. One of its own lets it be made before
there is any other, and be asked from several in turn; and what a request's tokens cost is paid
there, not between a method's steps.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine
from multiprocessing import resource_tracker
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines for other threads until it is closed.

    Processes that are started there do not hear an interrupt from the keyboard, which goes to all
    processes of a terminal at once: they are ended by whoever started them.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # What a thread blocks, the processes that it starts block too. Python's own helper process,
        # when it is started with the first of them, would lift the block.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._loop.run_forever()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; blocks until it is there."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; when the caller is cancelled, so is `work`."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def close(self) -> None:
        """Cancel what still runs, wait for its end, and end the thread."""
        self.call(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
