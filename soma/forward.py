"""Running G on rows of unequal length: micro-batches of bounded size, with little or no padding.

On a CPU rows share a micro-batch only when they are equally long, so that nothing is padded: the
candidates of one turn do that by nature. On a GPU, where one launch costs more than padding, rows
of any length share one. A micro-batch holds at most `budget` tokens (or one row), which bounds
memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.engines.transformers.attention import TRAINING, register

LONG = 512
"""From this many tokens on, attention that keeps no matrix of scores is worth its overhead."""


@dataclass(frozen=True)
class Row:
    """One sequence to run. `index` is its caller's; `length` tokens in, `reply` tokens predicted.

    The last token of the reply is predicted but never read, so it is not among the `length`.
    """

    index: int
    length: int
    reply: int


def micro_batches(rows: Iterable[Row], budget: int, *, mixed: bool) -> Iterator[tuple[Row, ...]]:
    """`rows` in groups of at most `budget` tokens, padding included; a longer row goes alone.

    Not `mixed`: only rows of equal length and reply share a group.
    """
    group: list[Row] = []
    for row in sorted(rows, key=lambda r: (r.length, r.reply, r.index)):
        alike = not group or mixed or (group[0].length, group[0].reply) == (row.length, row.reply)
        if group and (not alike or (len(group) + 1) * row.length > budget):
            yield tuple(group)
            group = []
        group.append(row)
    if group:
        yield tuple(group)


def is_mixed(model: Any) -> bool:
    """Whether rows of unequal length should share a batch on the model's device."""
    return bool(model.device.type == "cuda")


def token_budget(model: Any) -> int:
    """Tokens in one micro-batch: with more, memory grows and speed does not."""
    return 32_768 if model.device.type == "cuda" else 2_048


def predict(model: Any, embeds: Sequence[Tensor], replies: int) -> Tensor:
    """Logits (rows, replies, V) for the last `replies` places of each of `embeds` (length, d).

    Shorter rows are padded on the left, masked, with positions that count real tokens only.
    """
    lengths = [len(e) for e in embeds]
    longest = max(lengths)
    if min(lengths) == longest:
        batch, mask = torch.stack(list(embeds)), None
    else:
        pad = torch.nn.functional.pad
        batch = torch.stack([pad(e, (0, 0, longest - len(e), 0)) for e in embeds])
        real = torch.tensor(lengths, device=batch.device)[:, None]
        mask = (torch.arange(longest, device=batch.device) >= longest - real).long()
    with _attention(model, longest):
        output = model(
            inputs_embeds=batch,
            attention_mask=mask,
            position_ids=None if mask is None else (mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=replies,
        )
    logits: Tensor = output.logits
    return logits


def embed(model: Any, ids: Sequence[int]) -> Tensor:
    """Input embeddings (length, d) of `ids`, without gradients."""
    with torch.no_grad():
        rows: Tensor = model.get_input_embeddings()(torch.tensor(ids, device=model.device))
    return rows


@contextmanager
def _attention(model: Any, length: int) -> Iterator[None]:
    """The fastest attention on a CPU; for long rows one that never holds length x length scores."""
    config = model.config.get_text_config()
    usual = config._attn_implementation
    if model.device.type == "cpu":
        register()
        config._attn_implementation = "sdpa" if length >= LONG else TRAINING
    try:
        yield
    finally:
        config._attn_implementation = usual
