"""The `vllm` engine: vLLM's AsyncLLM in its own event loop, its processes behind it."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from harness.engines.base import NOBODY, Sampling, Scope
from harness.engines.chat import prompt_hash
from harness.engines.turn_end import has_content, reply_text
from harness.engines.vllm.adapters import AdapterShelf
from harness.engines.vllm.calls import utility
from harness.engines.vllm.card import ModelCard
from harness.engines.vllm.kv_meter import KvMeter
from harness.engines.vllm.log import EngineLog
from harness.engines.vllm.loop import LoopThread
from harness.engines.vllm.processes import Processes
from harness.errors import BenchError, ContextOverflow, OutOfMemory
from harness.method import Adapter, Completion, EngineTiming, Tokens
from harness.session import Role

T = TypeVar("T")


@dataclass
class _Answer:
    """What has come of one request so far. Times are `time.perf_counter()` seconds."""

    output: list[int] = field(default_factory=list)
    first_at: float | None = None
    content_at: float | None = None
    last_at: float = 0.0
    kv_bytes: int | None = None
    last: Any = None


class VllmEngine:
    """Implements `harness.engines.base.Engine` and `AdapterHost`.

    Requests are vLLM's from the moment they are sent: it batches at most `batch_size` of them and
    lets the others wait. `home`: a folder of the engine's own, removed when it is closed.
    """

    def __init__(
        self,
        llm: Any,
        card: ModelCard,
        *,
        role: Role,
        loop: LoopThread,
        processes: Processes,
        log: EngineLog,
        meter: KvMeter,
        shelf: AdapterShelf,
        home: Path,
        caches: bool,
        context: int,
    ) -> None:
        self.tokenizer: Any = card.tokenizer
        self.role: Role = role
        self.facts = replace(card.facts, context_tokens=context)
        self.stop_ids = card.stop_ids
        self._per_token = card.kv_bytes_per_token
        self._llm = llm
        self._processes = processes
        self._loop = loop
        self._log = log
        self._meter = meter
        self._shelf = shelf
        self._home = home
        self._caches = caches
        self._salts: dict[str, str] = {}
        self._closed = False
        # Python waits for vLLM's processes before it exits.
        atexit.register(self.stop)

    async def generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        """Generate until end of turn or `max_new_tokens`; the end-of-turn token is counted.

        Any special token ends the turn. An adapter that is not loaded is loaded first, on this
        request's clock. `kv_bytes_measured`: the blocks in use at their peak, this request's share
        of them; None for one that was over in a single step. Raises ContextOverflow before
        anything is computed, OutOfMemory, UserError for an adapter that cannot be loaded,
        BenchError when vLLM fails, and ValueError for an empty prompt or a `max_new_tokens`
        below 1.
        """
        sent_at = time.perf_counter()
        self._check(prompt_ids, sampling)
        return await self._run(self._generate(list(prompt_ids), sampling, adapter, scope, sent_at))

    def holds(self, adapter: Adapter) -> bool:
        return self._shelf.holds(adapter)

    async def hold(self, adapter: Adapter, session: str) -> None:
        """Load `adapter` until `session` is released. Raises UserError for one of a larger rank."""
        await self._run(self._shelf.hold(adapter, session))

    async def release(self, session: str) -> None:
        """Unload the session's adapters; no later request can reach its keys and values."""
        await self._run(self._release(session))

    async def reset(self) -> None:
        """Empty the prefix cache, and unload the adapters that belong to no session."""
        await self._run(self._reset())

    async def bare(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """The result of `work(llm)` on vLLM's AsyncLLM itself, in its loop.

        For measuring what this engine costs on top of it.
        """
        return await self._run(work(self._llm))

    async def close(self) -> None:
        """End vLLM's processes and remove every file. Requests that still run get a BenchError."""
        if not self._closed:
            await asyncio.to_thread(self.stop)

    def stop(self) -> None:
        """As `close`, but blocks."""
        self._closed = True
        atexit.unregister(self.stop)
        with self._processes.ending():
            self._loop.call(_shut_down(self._llm))
        self._loop.close()
        # Collected at the interpreter's end, vLLM would fail to shut down once more.
        self._llm = None
        self._shelf.close()
        shutil.rmtree(self._home)

    def _check(self, prompt_ids: list[int], sampling: Sampling) -> None:
        if not prompt_ids:
            raise ValueError("the prompt is empty")
        wanted = sampling.max_new_tokens
        if wanted < 1:
            raise ValueError(f"max_new_tokens is {wanted}; it must be at least 1")
        limit = self.facts.context_tokens
        if limit is not None and len(prompt_ids) + wanted > limit:
            raise ContextOverflow(
                f"{self.facts.model}: {len(prompt_ids)} prompt tokens and {wanted} new ones "
                f"do not fit its context of {limit}"
            )

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`, done in the engine's loop."""
        if self._closed:
            work.close()
            raise BenchError("the engine is closed")
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        try:
            return await self._loop.run(work)
        except asyncio.CancelledError:
            if self._closed:
                raise BenchError("the engine was closed") from None
            raise
        except (EngineDeadError, EngineGenerateError) as error:
            reason = f"{self.facts.model}: vLLM failed: {self._log.cause(error)}"
            full = "out of memory" in reason.lower()
            raise (OutOfMemory(reason) if full else BenchError(reason)) from error

    async def _generate(
        self,
        prompt: list[int],
        sampling: Sampling,
        adapter: Adapter | None,
        scope: Scope,
        sent_at: float,
    ) -> Completion:
        from vllm.exceptions import VLLMValidationError

        answer = _Answer()
        async with self._shelf.using(adapter, scope.session) as lora:
            submitted_at = time.perf_counter()
            try:
                await self._collect(answer, prompt, sampling, lora, scope)
            except VLLMValidationError as error:
                raise BenchError(
                    f"{self.facts.model}: vLLM refuses the request: {error}"
                ) from error
        return self._completion(answer, prompt, sent_at, submitted_at)

    async def _collect(
        self, answer: _Answer, prompt: list[int], sampling: Sampling, lora: Any, scope: Scope
    ) -> None:
        """Send the request and note what comes back, when it comes."""
        from vllm.inputs import tokens_input

        stream = self._llm.generate(
            tokens_input(prompt, cache_salt=self._salt(scope)),
            self._parameters(sampling),
            request_id=uuid.uuid4().hex,
            lora_request=lora,
        )
        async with aclosing(stream) as deltas:
            async for delta in deltas:
                now = time.perf_counter()
                answer.output += delta.outputs[0].token_ids
                answer.last_at = now
                if answer.first_at is None:
                    answer.first_at = now
                if answer.content_at is None and has_content(self.tokenizer, answer.output):
                    answer.content_at = now
                share = self._meter.share
                if not delta.finished and share is not None:
                    # With the last token the blocks are free, and the figure is of others.
                    answer.kv_bytes = max(answer.kv_bytes or 0, share)
                answer.last = delta

    def _parameters(self, sampling: Sampling) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        greedy = sampling.temperature == 0
        return SamplingParams(
            max_tokens=sampling.max_new_tokens,
            temperature=sampling.temperature,
            top_p=1.0 if greedy else sampling.top_p,
            seed=None if greedy else sampling.seed,
            stop_token_ids=sorted(self.stop_ids),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )

    def _salt(self, scope: Scope) -> str | None:
        """What the keys and values of a request are filed under: only its like finds them."""
        if not self._caches:
            return None
        if not scope.prefix_cache:
            return uuid.uuid4().hex
        return self._salts.setdefault(scope.session, uuid.uuid4().hex)

    def _completion(
        self, answer: _Answer, prompt: list[int], sent_at: float, submitted_at: float
    ) -> Completion:
        last = answer.last
        if last is None or not answer.output or last.outputs[0].finish_reason in ("abort", "error"):
            raise BenchError(f"{self.facts.model}: vLLM ended the request without an answer")
        assert answer.first_at is not None
        ended = answer.output[-1] in self.stop_ids
        stats = last.metrics
        timing = EngineTiming(
            queue_s=stats.scheduled_ts - stats.queued_ts,
            ttft_s=stats.first_token_ts - stats.queued_ts,
            e2e_s=stats.last_token_ts - stats.queued_ts,
        )
        # The last token was never fed back, so there is neither its key nor its value.
        read = len(prompt) + len(answer.output) - 1
        return Completion(
            role=self.role,
            text=reply_text(self.tokenizer, answer.output[:-1] if ended else answer.output),
            output_ids=tuple(answer.output),
            tokens=Tokens(
                prompt=len(prompt),
                cached=last.num_cached_tokens or 0,
                output=len(answer.output),
            ),
            stop_reason="end_of_turn" if ended else "length",
            prompt_hash=prompt_hash(prompt),
            sent_at=sent_at,
            started_at=submitted_at + timing.queue_s,
            first_token_at=answer.content_at or answer.first_at,
            last_token_at=answer.last_at,
            kv_bytes_formula=self._per_token * read,
            kv_bytes_measured=answer.kv_bytes,
            # vLLM does not tell which of the freed blocks it still knows.
            kv_bytes_kept=None,
            engine=timing,
        )

    async def _release(self, session: str) -> None:
        self._salts.pop(session, None)
        if not self._llm.errored:  # with it everything is gone
            await self._shelf.release(session)

    async def _reset(self) -> None:
        await self._release(NOBODY.session)
        self._salts.clear()
        if not self._caches:
            return
        # Blocks of a request that has just ended are freed with the engine's next step.
        for pause_s in (0.0, 0.05, 0.2, 1.0, 3.0):
            await asyncio.sleep(pause_s)
            if await utility(self._llm, self._llm.reset_prefix_cache()):
                return
        raise BenchError(
            f"{self.facts.model}: the prefix cache cannot be emptied while requests run"
        )


async def _shut_down(llm: Any) -> None:
    """End the engine's processes. Its own task is ended first: it would report their end."""
    if llm.output_handler is not None:
        llm.output_handler.cancel()
        await asyncio.sleep(0)
    llm.shutdown()
