"""Which layers the surrogate keeps: block influence, the least influential dropped one by one.

A block's influence is 1 - mean cosine of the hidden state before and after it (Men et al. 2024,
ShortGPT). Dropping a block changes what its neighbours see, so influence is measured again after
each drop instead of being ranked once.
"""

from __future__ import annotations

from typing import Any

import torch


@torch.inference_mode()
def layers_to_keep(model: Any, texts: list[list[int]], keep: int) -> list[int]:
    """Indices of the `keep` layers of `model` that stay, judged on token sequences `texts`.

    `model` is left as it was.
    """
    everything = model.model.layers
    types = getattr(model.config, "layer_types", None)
    kept = list(range(len(everything)))
    try:
        while len(kept) > keep:
            select_layers(model, everything, kept, types)
            influence = torch.zeros(len(kept), dtype=torch.float64)
            for ids in texts:
                states = model.model(torch.tensor([ids]), output_hidden_states=True).hidden_states
                # The last hidden state comes after the final norm and says nothing of its block;
                # the last block is always kept.
                for i in range(len(kept) - 1):
                    cosine = torch.nn.functional.cosine_similarity(
                        states[i][0].float(), states[i + 1][0].float(), dim=-1
                    )
                    influence[i] += 1 - cosine.mean().double()
            influence[-1] = float("inf")
            del kept[int(influence.argmin())]
    finally:
        select_layers(model, everything, list(range(len(everything))), types)
    return kept


def select_layers(
    model: Any, layers: torch.nn.ModuleList, kept: list[int], types: list[str] | None = None
) -> None:
    """Make `model` consist of `layers[i] for i in kept`, renumbered for the key-value cache.

    `types`: the attention type of each of `layers`, where the configuration lists them.
    """
    chosen = torch.nn.ModuleList(layers[i] for i in kept)
    layer: Any
    for index, layer in enumerate(chosen):
        layer.self_attn.layer_idx = index
    model.model.layers = chosen
    model.config.num_hidden_layers = len(kept)
    if types:
        model.config.layer_types = [types[i] for i in kept]
