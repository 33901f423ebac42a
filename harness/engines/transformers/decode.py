"""Decoding a batch of requests of unequal length, token by token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.engines.base import Sampling
from harness.engines.transformers.adapters import LoraAdapter, Serving, Site, serving
from harness.engines.transformers.kv import (
    begin_with,
    close_gaps,
    kv_bytes_held,
    leave_behind,
)
from harness.engines.transformers.prefix import Prefix
from harness.engines.transformers.sampling import draw
from harness.engines.turn_end import has_content
from harness.method import StopReason


@dataclass(eq=False)
class Row:
    """One request while it is decoded. `wanted` tells whether anyone still waits for it.

    `output` ends with the stopping token, if there was one. Times are `time.perf_counter()`
    seconds: of the first token, of the first that shows something, of the last. `kv_bytes` is
    its share of the cache at its largest, padding included: what the batch's tensors held, divided
    by the rows in them.

    `reuse`: what the prompt begins with, to be read from there; taken when decoding begins, which
    sets `cached`, its length. `keep_up_to`: `left` is to hold what the row leaves behind (prompt
    and output, without the last token, which the model never read) if that has no more bytes.
    """

    prompt: list[int]
    sampling: Sampling
    adapter: LoraAdapter | None = None
    wanted: Callable[[], bool] = lambda: True
    reuse: Prefix | None = None
    keep_up_to: int = 0
    output: list[int] = field(default_factory=list)
    stop_reason: StopReason | None = None
    first_token_at: float | None = None
    content_at: float | None = None
    last_token_at: float | None = None
    kv_bytes: int = 0
    cached: int = 0
    left: Prefix | None = None

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

    What prompts reuse, and what of them is still to be read, are each padded on the left and
    masked; positions count real tokens only. A row that nobody wants any more leaves unfinished
    (its `stop_reason` stays None) and is not yielded. `sites`: the model's, needed when
    some row has an adapter.
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

    cache = DynamicCache(config=model.config)
    begun = _take_reused(cache, live, model.device)
    step, mask = _left_pad([row.prompt[row.cached :] for row in live], model.device)
    if begun is not None:
        mask = torch.cat([begun, mask], dim=1)
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
            _note_share(ended, cache, len(live))
            for row in ended:
                row.left = _left_of(row, live.index(row), cache, mask)
                yield row
        stay = [i for i, row in enumerate(live) if row.stop_reason is None and row.wanted()]
        if len(stay) < len(live):
            live = [live[i] for i in stay]
            index = torch.tensor(stay, dtype=torch.long, device=model.device)
            cache.batch_select_indices(index)
            if adapters is not None:
                adapters.select(stay)
            mask = mask[index]
            tokens = [tokens[i] for i in stay]
        if begun is not None and live:
            _note_share(live, cache, len(live))
            mask, begun = close_gaps(cache, mask, begun.shape[1]), None
        step = torch.tensor(tokens, dtype=torch.long, device=model.device)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(live), 1)], dim=1)


def _take_reused(cache: Any, rows: Sequence[Row], device: torch.device) -> torch.Tensor | None:
    """Begin the cache with what the rows reuse. Returns its mask, (rows, longest), or None."""
    reused = [row.reuse for row in rows]
    for row in rows:
        row.cached = 0 if row.reuse is None else len(row.reuse.ids)
        row.reuse = None  # or its memory stays while the row is decoded
    return begin_with(cache, reused, device) if any(reused) else None


def _note_share(rows: Sequence[Row], cache: Any, sharing: int) -> None:
    share = kv_bytes_held(cache) // sharing
    for row in rows:
        row.kv_bytes = max(row.kv_bytes, share)


def _left_of(row: Row, place: int, cache: Any, mask: torch.Tensor) -> Prefix | None:
    """What a row that has ended leaves behind, if that is wanted; `place`: its row in the batch."""
    if not (row.keep_up_to and row.wanted()):
        return None
    ids = row.prompt + row.output[:-1]
    nbytes = kv_bytes_held(cache) // mask.numel() * len(ids)
    if nbytes > row.keep_up_to:
        return None
    return leave_behind(cache, mask, place, ids)


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
    if row.content_at is None and has_content(tokenizer, row.output):
        row.content_at = now
