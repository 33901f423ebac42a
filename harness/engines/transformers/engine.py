"""The `transformers` engine: an asyncio front over one model on one thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

from harness.engines.base import NOBODY, ModelFacts, Sampling, Scope
from harness.engines.chat import prompt_hash
from harness.engines.compute import cpu_thread
from harness.engines.transformers.adapters import LoraAdapter, Site, adaptable_sites
from harness.engines.transformers.decode import Row, clock, decode
from harness.engines.transformers.kv import can_keep_prefixes, kv_bytes_per_token
from harness.engines.transformers.memory import free_unused, is_out_of_memory
from harness.engines.transformers.prefix import PrefixCache
from harness.engines.transformers.worker import Request, Worker
from harness.engines.turn_end import reply_text, turn_end_ids
from harness.errors import BenchError, ContextOverflow, OutOfMemory
from harness.method import Adapter, Completion, Tokens
from harness.session import Role

T = TypeVar("T")


class TransformersEngine:
    """Implements `harness.engines.base.Engine` for a causal language model of transformers.

    Requests that wait when the model becomes free are decoded as one batch of at most
    `batch_size`. Where a scope asks for it, a request's keys and values are kept, and the
    session's next request with the same adapter reads the longest common prefix from there; at
    most `prefix_cache_bytes` are kept, and nothing for a model with layers that allow no such use
    (`can_keep_prefixes`). A batch that runs out of memory is tried again without what was kept,
    then request by request. `model` may be used only inside `run_exclusive`, whose work never
    overlaps a generation.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        model_id: str,
        role: Role,
        batch_size: int,
        prefix_cache_bytes: int = 2**30,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.model: Any = model
        self.tokenizer: Any = tokenizer
        self.role: Role = role
        self.facts = _facts(model, model_id)
        self.stop_ids = turn_end_ids(model.config, model.generation_config, tokenizer)
        self._prefixes = PrefixCache(prefix_cache_bytes if can_keep_prefixes(model.config) else 0)
        shared = cpu_thread() if model.device.type == "cpu" else None
        self._worker = Worker(f"model-{role}", batch_size, self._serve, shared)

    async def generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        """Generate until end of turn or `max_new_tokens`; the end-of-turn token is counted.

        Any special token ends the turn: a reply can show no turn that the model invented.
        Requests with different adapters share a batch. Raises ContextOverflow before anything is
        computed, OutOfMemory, and ValueError for an empty prompt, a `max_new_tokens` below 1 or
        an adapter of another engine.
        """
        if not isinstance(adapter, LoraAdapter | None):
            raise ValueError(f"{type(adapter).__name__} is no adapter of this engine")
        request = Request(list(prompt_ids), sampling, time.perf_counter(), adapter)
        self._check(request)
        with self._prefixes.lease(scope, adapter) as request.lease:
            self._worker.submit(request)
            try:
                return await asyncio.wrap_future(request.future)
            except asyncio.CancelledError:
                request.abandoned = True
                raise

    async def run_exclusive(self, fn: Callable[[], T]) -> T:
        """Run `fn` on the model's thread while no request is served, e.g. to train.

        Raises OutOfMemory besides what `fn` raises.
        """
        try:
            return await asyncio.wrap_future(self._worker.run(fn))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            message = (str(error).splitlines() or [""])[0]
        self._prefixes.clear()  # for whoever tries again
        free_unused()
        raise OutOfMemory(f"{self.facts.model}: {message}")

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Where adapters act in the model."""
        return adaptable_sites(self.model)

    async def release(self, session: str) -> None:
        """Drop the session's keys and values; its requests under way leave none behind."""
        self._prefixes.release(session)

    async def reset(self) -> None:
        """Drop the keys and values of all sessions; requests under way leave none behind."""
        self._prefixes.reset()

    async def close(self) -> None:
        """End the thread and free the model. Requests that still wait get a BenchError."""
        await asyncio.to_thread(self._worker.close)
        self.model = None
        self._prefixes.reset()
        free_unused()

    def _check(self, request: Request) -> None:
        if not request.prompt:
            raise ValueError("the prompt is empty")
        wanted = request.sampling.max_new_tokens
        if wanted < 1:
            raise ValueError(f"max_new_tokens is {wanted}; it must be at least 1")
        limit = self.facts.context_tokens
        if limit is not None and len(request.prompt) + wanted > limit:
            raise ContextOverflow(
                f"{self.facts.model}: {len(request.prompt)} prompt tokens and {wanted} new ones "
                f"do not fit its context of {limit}"
            )

    def _serve(self, requests: list[Request]) -> None:
        """Answer a batch. Runs on the worker's thread; settles every future."""
        started_at = clock(self.model.device)
        problem = self._attempt(requests, started_at)
        waiting = []
        for request in [r for r in requests if not r.future.done()]:
            if request.is_wanted():
                waiting.append(request)
            else:
                request.future.set_exception(BenchError("the request was cancelled"))
        if isinstance(problem, OutOfMemory) and waiting and self._prefixes.clear():
            free_unused()
            self._serve(waiting)
        elif isinstance(problem, OutOfMemory) and len(requests) > 1:
            # Too much together may fit one by one.
            for request in waiting:
                self._serve([request])
        else:
            for request in waiting:
                request.future.set_exception(problem or BenchError("the request got no answer"))

    def _attempt(self, requests: list[Request], started_at: float) -> BaseException | None:
        """Decode a batch, answering each request as it ends. Returns what went wrong, if it did."""
        rows = {self._row(r): r for r in requests}
        sites = self.sites if any(r.adapter for r in requests) else ()
        message: str
        try:
            for row in decode(self.model, self.tokenizer, list(rows), self.stop_ids, sites):
                request = rows[row]
                request.future.set_result(self._completion(request, row, started_at))
            return None
        except BaseException as error:
            if not is_out_of_memory(error):
                return error
            message = str(error)
        # Only here, with the traceback gone, are the batch's tensors free to be released.
        del rows
        free_unused()
        return OutOfMemory(f"{self.facts.model}: {(message.splitlines() or [''])[0]}")

    def _row(self, request: Request) -> Row:
        row = Row(request.prompt, request.sampling, request.adapter, request.is_wanted)
        if request.lease is not None:
            row.reuse = self._prefixes.find(request.lease, request.prompt)
            row.keep_up_to = self._prefixes.limit
        return row

    def _kept(self, request: Request, row: Row) -> int | None:
        """Keep what a row leaves behind. Bytes then kept for its session; None without a cache."""
        if request.lease is None:
            return None
        if row.left is not None:
            self._prefixes.keep(request.lease, row.left)
            row.left = None  # or it lives on until the whole batch has ended
        return self._prefixes.kept_bytes(request.lease.session)

    def _completion(self, request: Request, row: Row, started_at: float) -> Completion:
        assert row.stop_reason is not None
        assert row.first_token_at is not None and row.last_token_at is not None
        shown = row.output[:-1] if row.stop_reason == "end_of_turn" else row.output
        # The last token was never fed back, so the cache holds neither its key nor its value.
        read = len(row.prompt) + len(row.output) - 1
        per_token = self.facts.kv_bytes_per_token
        return Completion(
            role=self.role,
            text=reply_text(self.tokenizer, shown),
            output_ids=tuple(row.output),
            tokens=Tokens(prompt=len(row.prompt), cached=row.cached, output=len(row.output)),
            stop_reason=row.stop_reason,
            prompt_hash=prompt_hash(row.prompt),
            sent_at=request.sent_at,
            started_at=started_at,
            first_token_at=row.content_at or row.first_token_at,
            last_token_at=row.last_token_at,
            kv_bytes_formula=None if per_token is None else per_token * read,
            kv_bytes_measured=row.kv_bytes,
            kv_bytes_kept=self._kept(request, row),
        )


def _facts(model: Any, model_id: str) -> ModelFacts:
    weights = list(model.parameters())  # a tied weight appears once
    return ModelFacts(
        model=model_id,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        parameters=sum(p.numel() for p in weights),
        weights_bytes=sum(p.nbytes for p in weights),
        kv_bytes_per_token=kv_bytes_per_token(model.config, model.dtype),
        context_tokens=getattr(model.config.get_text_config(), "max_position_embeddings", None),
    )
