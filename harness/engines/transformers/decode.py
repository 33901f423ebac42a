"""Decoding a batch of requests of unequal length, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.engines.base import Sampling
from harness.engines.transformers.adapters import LoraAdapter, Serving, Site, serving
from harness.engines.transformers.kv import kv_bytes_held
from harness.engines.transformers.sampling import draw
from harness.method import StopReason


@dataclass(eq=False)
class Row:
    """One request while it is decoded. `wanted` tells whether anyone still waits for it.

    `output` ends with the stopping token, if there was one. Times are `time.perf_counter()`
    seconds: of the first token, of the first that shows something, of the last. `kv_bytes` is
    its share of the cache when it ended, padding included: what the batch's tensors held, divided
    by the rows in them.
    """

    prompt: list[int]
    sampling: Sampling
    adapter: LoraAdapter | None = None
    wanted: Callable[[], bool] = lambda: True
    output: list[int] = field(default_factory=list)
    stop_reason: StopReason | None = None
    first_token_at: float | None = None
    content_at: float | None = None
    last_token_at: float | None = None
    kv_bytes: int = 0

    def __post_init__(self) -> None:
        self.randomness = torch.Generator().manual_seed(self.sampling.seed & (2**63 - 1))


@torch.inference_mode()
def decode(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    stop_ids: frozenset[int],
    sites: Sequence[Site] = (),
) -> Iterator[Row]:
    """Decode `rows` together; each is yielded as soon as it ends and leaves the batch at once.

    Prompts are padded on the left and masked; positions count real tokens only. A row that
    nobody wants any more leaves unfinished (its `stop_reason` stays None) and is not yielded.
    `sites`: the model's, needed when some row has an adapter.
    """
    live = list(rows)
    with serving(sites, [row.adapter for row in live]) as adapters:
        yield from _decode(model, tokenizer, live, stop_ids, adapters)


def _decode(
    model: Any,
    tokenizer: Any,
    live: list[Row],
    stop_ids: frozenset[int],
    adapters: Serving | None,
) -> Iterator[Row]:
    from transformers import DynamicCache

    step, mask = _left_pad([row.prompt for row in live], model.device)
    cache = DynamicCache(config=model.config)
    while live:
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -step.shape[1] :]
        logits = model(
            step,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        tokens = draw(logits.float(), [r.sampling for r in live], [r.randomness for r in live])
        now = clock(model.device)
        for row, token in zip(live, tokens, strict=True):
            _accept(row, token, now, tokenizer, stop_ids)
        ended = [row for row in live if row.stop_reason is not None]
        if ended:
            share = kv_bytes_held(cache) // len(live)
            for row in ended:
                row.kv_bytes = share
            yield from ended
        stay = [i for i, row in enumerate(live) if row.stop_reason is None and row.wanted()]
        if len(stay) < len(live):
            live = [live[i] for i in stay]
            index = torch.tensor(stay, dtype=torch.long, device=model.device)
            cache.batch_select_indices(index)
            if adapters is not None:
                adapters.select(stay)
            mask = mask[index]
            tokens = [tokens[i] for i in stay]
        step = torch.tensor(tokens, dtype=torch.long, device=model.device)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)


def clock(device: torch.device) -> float:
    """`time.perf_counter()` once the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _left_pad(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, both (rows, longest prompt); padding is id 0 under a mask of 0."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


def _accept(row: Row, token: int, now: float, tokenizer: Any, stop_ids: frozenset[int]) -> None:
    row.output.append(token)
    row.last_token_at = now
    if row.first_token_at is None:
        row.first_token_at = now
    if token in stop_ids:
        row.stop_reason = "end_of_turn"
    elif len(row.output) == row.sampling.max_new_tokens:
        row.stop_reason = "length"
    if row.content_at is None and _has_content(tokenizer, row.output):
        row.content_at = now


def _has_content(tokenizer: Any, output: list[int]) -> bool:
    """Whether the reply so far shows anything; half a character does not."""
    text = tokenizer.decode(output, skip_special_tokens=True)
    return bool(text.replace("\N{REPLACEMENT CHARACTER}", "").strip())
