"""LoRA adapters that a server loads while it runs, each under a name and a folder of its own."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.engines.openai.faults import ServerRefused
from harness.engines.openai.transport import Transport
from harness.errors import BenchError, UserError
from harness.method import Adapter

_NO_SUCH_PATH = (404, 405)


@dataclass
class _Held:
    """`names`: every name under which the server may have loaded it, the one to use last.

    `failures`: lines of the tries of loading it that failed, until a completion has told them.
    """

    adapter: Adapter
    session: str
    folder: Path
    names: list[str] = field(default_factory=list)
    failures: tuple[str, ...] = ()


class AdapterShelf:
    """The adapters of one engine at its server.

    A server that is told of other weights under a name it knows answers from the keys and values
    of the old ones: a name is never used twice, not even for another try.
    """

    def __init__(self, transport: Transport, model: str, *, allowed: bool) -> None:
        self._transport = transport
        self._model = model
        self._allowed = allowed
        self._prefix = f"adapter-{uuid.uuid4().hex[:12]}"
        self._count = 0
        self._held: dict[int, _Held] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    def holds(self, adapter: Adapter) -> bool:
        return id(adapter) in self._held

    def name(self, adapter: Adapter) -> str:
        """What the server calls it. Raises BenchError when it is not loaded."""
        held = self._held.get(id(adapter))
        if held is None:
            raise BenchError(f"model {self._model}: an adapter is used that was not loaded")
        return held.names[-1]

    def tell_failures(self, adapter: Adapter) -> tuple[str, ...]:
        """The failed tries of loading it, to be told once."""
        held = self._held[id(adapter)]
        told, held.failures = held.failures, ()
        return told

    async def hold(self, adapter: Adapter, session: str) -> None:
        """Have the server load `adapter`. Raises UserError where it cannot, or must not."""
        if not self._allowed:
            raise UserError(
                f"model {self._model}",
                "a method uses an adapter, and this server is not known to load any; set "
                "options.loads_adapters = true if it does (vLLM with --enable-lora and "
                "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True), or use the engine 'transformers' or "
                "'vllm'",
            )
        async with self._locks.setdefault(id(adapter), asyncio.Lock()):
            if not self.holds(adapter):
                await self._load(adapter, session)

    async def release(self, session: str) -> None:
        """Have the server forget the adapters of a session, and delete their files."""
        for key in [k for k, held in self._held.items() if held.session == session]:
            self._locks.pop(key, None)
            await self._unload(self._held.pop(key))

    async def close(self) -> None:
        """Release what no session has released."""
        for session in {held.session for held in self._held.values()}:
            await self.release(session)

    async def _load(self, adapter: Adapter, session: str) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"{self._prefix}-"))
        held = _Held(adapter, session, folder)
        problem: BenchError
        try:
            await asyncio.to_thread(adapter.save, folder)
            tried = await self._transport.ask(lambda: self._load_once(held))
        except BenchError as error:
            problem = error
        else:
            held.failures = tuple(
                f"adapter load: {line}" for line in self._transport.lines(tried.failures)
            )
            self._held[id(adapter)] = held
            return
        await asyncio.to_thread(shutil.rmtree, folder)
        raise UserError(f"model {self._model}", _why_not(problem))

    async def _load_once(self, held: _Held) -> Any:
        self._count += 1
        name = f"{self._prefix}-{self._count}"
        held.names.append(name)
        body = {"lora_name": name, "lora_path": str(held.folder)}
        return await self._transport.post_once("/load_lora_adapter", body)

    async def _unload(self, held: _Held) -> None:
        """Delete its folder, and unload every name; the server may know none of them any more."""
        await asyncio.to_thread(shutil.rmtree, held.folder)
        for name in held.names:
            try:
                await self._transport.post("/unload_lora_adapter", {"lora_name": name})
            except ServerRefused as refusal:
                if refusal.status not in _NO_SUCH_PATH:
                    raise


def _why_not(error: BenchError) -> str:
    if isinstance(error, ServerRefused) and error.status in _NO_SUCH_PATH:
        return (
            f"it cannot be told to load an adapter while it runs: {error}; start vLLM with "
            "--enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, on this machine"
        )
    return f"its server does not load an adapter: {error}"
