"""Adapters that vLLM has loaded: each from its own folder, under a name that was never used.

vLLM tells adapters apart by name when it reuses keys and values: one loaded under an old name would
be served with those that another left.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engines.vllm.calls import utility
from harness.errors import UserError
from harness.method import Adapter


@dataclass
class _Held:
    """A loaded adapter, the sessions it is held for, and how many requests use it now.

    It holds on to `adapter`, so that no other object can get that one's `id`.
    """

    adapter: Adapter
    request: Any
    folder: Path
    sessions: set[str] = field(default_factory=set)
    users: int = 0


class AdapterShelf:
    """Loads adapters into `llm` and unloads them. All but `holds` runs in the engine's loop.

    `folder`: where their files lie. `place`: the option that limits their rank, as messages name
    it. `max_rank`: 0, no adapters.
    """

    def __init__(self, llm: Any, folder: Path, *, place: str, max_rank: int) -> None:
        self._llm = llm
        self._folder = folder
        self._place = place
        self._max_rank = max_rank
        self._held: dict[int, _Held] = {}
        self._numbers = itertools.count(1)
        self._loading = asyncio.Lock()

    def holds(self, adapter: Adapter) -> bool:
        return id(adapter) in self._held

    async def hold(self, adapter: Adapter, session: str) -> None:
        """Load `adapter`, if it is not, until `session` is released.

        Raises UserError for one that vLLM cannot take.
        """
        async with self._loading:
            held = self._held.get(id(adapter))
            if held is None:
                held = self._held[id(adapter)] = await self._load(adapter)
            held.sessions.add(session)

    @asynccontextmanager
    async def using(self, adapter: Adapter | None, session: str) -> AsyncIterator[Any]:
        """Within it, `adapter` stays loaded; gives what a request names it by, None for none."""
        if adapter is None:
            yield None
            return
        await self.hold(adapter, session)
        held = self._held[id(adapter)]
        held.users += 1
        try:
            yield held.request
        finally:
            held.users -= 1
            await self._unload_if_free(held)

    async def release(self, session: str) -> None:
        """Unload what is held for no other session."""
        for held in list(self._held.values()):
            if session in held.sessions:
                held.sessions.remove(session)
                await self._unload_if_free(held)

    def close(self) -> None:
        """Let go of vLLM, which has ended."""
        self._llm = None
        self._held.clear()

    async def _load(self, adapter: Adapter) -> _Held:
        from vllm.lora.request import LoRARequest

        number = next(self._numbers)
        folder = self._folder / f"adapter-{number}"
        await asyncio.to_thread(adapter.save, folder)
        try:
            self._check_rank(folder)
            request = LoRARequest(folder.name, number, str(folder))
            try:
                await utility(self._llm, self._llm.add_lora(request))
            except Exception as error:
                # vLLM gives every refusal of its workers as a plain Exception.
                if self._llm.errored:
                    raise
                raise UserError(self._place, f"vLLM cannot load an adapter: {error}") from error
        except BaseException:
            shutil.rmtree(folder)
            raise
        return _Held(adapter, request, folder)

    def _check_rank(self, folder: Path) -> None:
        """Refuse an adapter that is too large: tried, it would end the engine."""
        rank = int(json.loads((folder / "adapter_config.json").read_text("utf-8"))["r"])
        if rank > self._max_rank:
            allows = f"is {self._max_rank}" if self._max_rank else "allows no adapters"
            raise UserError(self._place, f"{allows}, the adapter's rank is {rank}; give {rank}")

    async def _unload_if_free(self, held: _Held) -> None:
        """Unload an adapter that no session and no request needs.

        A request whose adapter is gone would end the engine.
        """
        if held.sessions or held.users or self._held.pop(id(held.adapter), None) is None:
            return
        await utility(self._llm, self._llm.remove_lora(held.request.lora_int_id))
        await asyncio.to_thread(shutil.rmtree, held.folder)
