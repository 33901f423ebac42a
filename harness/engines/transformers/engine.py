"""The `transformers` engine: an asyncio front over one model on one thread."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch

from harness.engines.base import NOBODY, ModelFacts, Sampling, Scope
from harness.engines.chat import prompt_hash
from harness.engines.compute import cpu_thread
from harness.engines.transformers.adapters import LoraAdapter, Site, adaptable_sites
from harness.engines.transformers.decode import Row, clock, decode
from harness.engines.transformers.kv import kv_bytes_per_token
from harness.engines.transformers.worker import Request, Worker
from harness.errors import BenchError, ContextOverflow, OutOfMemory
from harness.method import Adapter, Completion, Tokens
from harness.session import Role

T = TypeVar("T")


class TransformersEngine:
    """Implements `harness.engines.base.Engine` for a causal language model of transformers.

    Requests that wait when the model becomes free are decoded as one batch of at most
    `batch_size`; a batch that runs out of memory is tried again request by request. `model` may
    be used only inside `run_exclusive`, whose work never overlaps a generation.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, model_id: str, role: Role, batch_size: int
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.model: Any = model
        self.tokenizer: Any = tokenizer
        self.role: Role = role
        self.facts = _facts(model, model_id)
        self.stop_ids = turn_end_ids(model, tokenizer)
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
            if not _is_out_of_memory(error):
                raise
            message = (str(error).splitlines() or [""])[0]
        _release()
        raise OutOfMemory(f"{self.facts.model}: {message}")

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Where adapters act in the model."""
        return adaptable_sites(self.model)

    async def release(self, session: str) -> None:
        """Nothing is kept for a session."""

    async def reset(self) -> None:
        """Nothing outlives a request here: each has a key-value cache of its own."""

    async def close(self) -> None:
        """End the thread and free the model. Requests that still wait get a BenchError."""
        await asyncio.to_thread(self._worker.close)
        self.model = None
        _release()

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
        for request in [r for r in requests if not r.future.done()]:
            if not request.is_wanted():
                request.future.set_exception(BenchError("the request was cancelled"))
            elif isinstance(problem, OutOfMemory) and len(requests) > 1:
                # Too much together may fit one by one.
                self._serve([request])
            else:
                request.future.set_exception(problem or BenchError("the request got no answer"))

    def _attempt(self, requests: list[Request], started_at: float) -> BaseException | None:
        """Decode a batch, answering each request as it ends. Returns what went wrong, if it did."""
        rows = {Row(r.prompt, r.sampling, r.adapter, wanted=r.is_wanted): r for r in requests}
        sites = self.sites if any(r.adapter for r in requests) else ()
        message: str
        try:
            for row in decode(self.model, self.tokenizer, list(rows), self.stop_ids, sites):
                request = rows[row]
                request.future.set_result(self._completion(request, row, started_at))
            return None
        except BaseException as error:
            if not _is_out_of_memory(error):
                return error
            message = str(error)
        # Only here, with the traceback gone, are the batch's tensors free to be released.
        _release()
        return OutOfMemory(f"{self.facts.model}: {(message.splitlines() or [''])[0]}")

    def _completion(self, request: Request, row: Row, started_at: float) -> Completion:
        assert row.stop_reason is not None
        assert row.first_token_at is not None and row.last_token_at is not None
        shown = row.output[:-1] if row.stop_reason == "end_of_turn" else row.output
        # The last token was never fed back, so the cache holds neither its key nor its value.
        cached_tokens = len(row.prompt) + len(row.output) - 1
        per_token = self.facts.kv_bytes_per_token
        return Completion(
            role=self.role,
            text=self.tokenizer.decode(
                shown, skip_special_tokens=True, clean_up_tokenization_spaces=False
            ),
            output_ids=tuple(row.output),
            tokens=Tokens(prompt=len(row.prompt), cached=0, output=len(row.output)),
            stop_reason=row.stop_reason,
            prompt_hash=prompt_hash(row.prompt),
            sent_at=request.sent_at,
            started_at=started_at,
            first_token_at=row.content_at or row.first_token_at,
            last_token_at=row.last_token_at,
            kv_bytes_formula=None if per_token is None else per_token * cached_tokens,
            kv_bytes_measured=row.kv_bytes,
        )


def turn_end_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a reply: every end-of-sequence id declared, and every other special token."""
    declared = (
        getattr(model.generation_config, "eos_token_id", None),
        model.config.get_text_config().eos_token_id,
        tokenizer.eos_token_id,
    )
    ids: set[int] = set(tokenizer.all_special_ids)
    for value in declared:
        if value is not None:
            ids.update(value if isinstance(value, Sequence) else [value])
    ids.update(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset(ids)


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU allocator has no exception type of its own.
    on_cpu = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return on_cpu or isinstance(error, torch.OutOfMemoryError | MemoryError)


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


def _release() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
