"""The key-value cache of a batch: its size, and how it begins with and leaves behind prefixes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.engines.transformers.memory import is_out_of_memory
from harness.engines.transformers.prefix import Prefix


def kv_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """2 (keys, values) x layers x key-value heads x head width x bytes per number."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * text.num_hidden_layers * kv_heads * width * dtype.itemsize)


def kv_bytes_held(cache: Any) -> int:
    """Bytes of all key and value tensors in a transformers cache; some layers have none."""
    tensors = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def can_keep_prefixes(config: Any) -> bool:
    """Whether a token's keys and values are all that later tokens need of it, and never change.

    Not so for layers with a sliding window (they forget the tokens that a shorter prefix would
    end with) or with a recurrent state, and for rotary embeddings that are scaled by the length
    of the text (its first keys would be those of a shorter one).
    """
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    layers = DynamicCache(config=config).layers
    plain = all(type(layer) is DynamicLayer for layer in layers)
    rope = getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}
    kinds = [part.get("rope_type") or "" for part in (rope, *rope.values()) if _is_table(part)]
    return bool(layers) and plain and not any("dynamic" in k or k == "longrope" for k in kinds)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def begin_with(cache: Any, prefixes: Sequence[Prefix | None], device: torch.device) -> Tensor:
    """Fill an empty cache with one prefix per row, padded on the left; some row has one.

    Returns the mask of the real tokens, (rows, longest prefix). A single row's prefix is not
    copied.
    """
    lengths = [0 if prefix is None else len(prefix.ids) for prefix in prefixes]
    width = max(lengths)
    for at, layer in enumerate(cache.layers):
        pairs = [None if prefix is None else prefix.layers[at] for prefix in prefixes]
        keys = _left_padded([None if pair is None else pair[0] for pair in pairs], width)
        values = _left_padded([None if pair is None else pair[1] for pair in pairs], width)
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
    return _right_aligned(lengths, width, device)


def _right_aligned(lengths: Sequence[int], width: int, device: torch.device) -> Tensor:
    """A mask, (rows, width), that is 1 in the last `lengths[i]` columns of row i."""
    starts = width - torch.tensor(lengths, device=device)
    return (torch.arange(width, device=device) >= starts[:, None]).long()


def _left_padded(parts: Sequence[Tensor | None], width: int) -> Tensor:
    """One tensor (rows, kv_heads, width, d) of the rows' (1, kv_heads, n, d); zeros for None."""
    some = next(part for part in parts if part is not None)
    if len(parts) == 1:
        return some
    together = some.new_zeros(len(parts), some.shape[1], width, some.shape[3])
    for row, part in enumerate(parts):
        if part is not None:
            together[row, :, width - part.shape[2] :] = part[0]
    return together


def close_gaps(cache: Any, mask: Tensor, boundary: int) -> Tensor:
    """Move the real tokens of each row to the right end, and drop the columns that nobody needs.

    Columns up to `boundary` hold prefixes and the others new tokens, each padded to its longest:
    together they are wider than the longest row if that row has a short prefix. Returns the new
    mask, (rows, longest row); the same one if too little would be dropped to pay for the copy.
    """
    real = torch.stack([mask[:, :boundary].sum(-1), mask[:, boundary:].sum(-1)], dim=1)
    lengths: list[tuple[int, int]] = [(old, new) for old, new in real.tolist()]
    width = max(old + new for old, new in lengths)
    if width > _WORTH_CLOSING * mask.shape[1]:
        return mask

    def closed(wide: Tensor) -> Tensor:
        rows, heads, _, d = wide.shape
        narrow = wide.new_zeros(rows, heads, width, d)
        for row, (old, new) in enumerate(lengths):
            middle = width - new
            narrow[row, :, middle - old : middle] = wide[row, :, boundary - old : boundary]
            narrow[row, :, middle:] = wide[row, :, wide.shape[2] - new :]
        return narrow

    for layer in cache.layers:
        layer.keys, layer.values = closed(layer.keys), closed(layer.values)
    return _right_aligned([old + new for old, new in lengths], width, mask.device)


_WORTH_CLOSING = 0.95
"""Closing gaps copies everything once; every later step reads and copies that much less."""


def leave_behind(cache: Any, mask: Tensor, row: int, ids: Sequence[int]) -> Prefix | None:
    """The real tokens of one row as a prefix of its own; the cache's own tensors if that is all.

    `ids`: those tokens. None if a model has not put one column per token into each layer, or if
    there is no memory for a copy.
    """
    tensors = [(layer.keys, layer.values) for layer in cache.layers]
    if any(t is None or t.shape[-2] != mask.shape[1] for pair in tensors for t in pair):
        return None
    if mask.shape == (1, len(ids)):
        return Prefix(tuple(ids), tuple((_own(keys), _own(values)) for keys, values in tensors))
    columns = mask[row].nonzero()[:, 0]
    assert len(columns) == len(ids)
    gapless = int(columns[0]) == mask.shape[1] - len(ids)

    def pick(tensor: Tensor) -> Tensor:
        mine = tensor[row : row + 1]
        if gapless:
            return mine[:, :, -len(ids) :].clone(memory_format=torch.contiguous_format)
        return mine.index_select(2, columns.to(tensor.device))

    try:
        layers = tuple((pick(keys), pick(values)) for keys, values in tensors)
    except (RuntimeError, MemoryError) as error:
        # The answer is there; only the next one's head start is lost.
        if not is_out_of_memory(error):
            raise
        return None
    return Prefix(tuple(ids), layers)


def _own(tensor: Tensor) -> Tensor:
    """`tensor` itself unless it is a part of something larger, which would stay alive with it."""
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()
