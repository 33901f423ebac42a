"""Calls of vLLM's engine that are no requests for tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_LOOK_EVERY_S = 1.0


async def utility(llm: Any, call: Coroutine[Any, Any, T]) -> T:
    """What `call`, one of `llm`'s own, gives; raises vLLM's EngineDeadError where nobody answers.

    vLLM itself ends only the requests for tokens when its processes die, and leaves others waiting.
    """
    task = asyncio.ensure_future(call)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=_LOOK_EVERY_S)
            if llm.errored and not task.done():
                raise llm.dead_error
        return task.result()
    finally:
        task.cancel()
