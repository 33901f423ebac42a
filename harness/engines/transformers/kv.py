"""The size of the key-value cache, by formula and as it lies in memory."""

from __future__ import annotations

from typing import Any

import torch


def kv_bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """2 (keys, values) x layers x key-value heads x head width x bytes per number."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return int(2 * text.num_hidden_layers * kv_heads * width * dtype.itemsize)


def kv_bytes_held(cache: Any) -> int:
    """Bytes of all key and value tensors in a transformers cache."""
    return sum(
        tensor.nbytes
        for layer in cache.layers
        for tensor in (layer.keys, layer.values)
        if tensor is not None
    )
