"""A LoRA layer in PEFT's file format, light enough for a CPU.

PEFT's own layer spends more time on dtype casts and bookkeeping than on its matrix products when
batches are small. This one keeps float32 master weights, multiplies in the base's dtype, never
touches the frozen weight, and is saved under PEFT's names, so that `PeftModel.from_pretrained`,
and any engine that reads PEFT adapters, loads the result.

It is attached for good, as whoever makes a model wants it; `adapters.py` has what is switched on
and off under a model that serves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from harness.engines.transformers.adapters import write_peft

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class LoraLinear(torch.nn.Module):
    """y = W x + (alpha / r) B A x, W frozen; A (r, in) random, B (out, r) zero at the start."""

    def __init__(self, base: torch.nn.Linear, rank: int, alpha: float, generator: torch.Generator):
        super().__init__()
        self.base = base
        self.scale = alpha / rank
        device = base.weight.device
        bound = 1 / math.sqrt(base.in_features)
        start = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
        self.lora_A = torch.nn.Parameter(start.to(device))
        self.lora_B = torch.nn.Parameter(torch.zeros(base.out_features, rank, device=device))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low = torch.nn.functional.linear(x, self.lora_A.to(x.dtype))
        wide: torch.Tensor = self.base(x)
        return wide + torch.nn.functional.linear(low, (self.lora_B * self.scale).to(x.dtype))


def attach(model: Any, *, rank: int, alpha: float, seed: int) -> list[torch.nn.Parameter]:
    """Freeze `model`, wrap its projections in place, and return the trainable parameters."""
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    trainable: list[torch.nn.Parameter] = []
    for parent, name, linear in list(_projections(model)):
        layer = LoraLinear(linear, rank, alpha, generator)
        setattr(parent, name, layer)
        trainable += [layer.lora_A, layer.lora_B]
    return trainable


def save(model: Any, folder: Path, *, rank: int, alpha: float, dtype: torch.dtype) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` as PEFT would."""
    tensors = {}
    for path, module in model.named_modules():
        if isinstance(module, LoraLinear):
            for part in ("lora_A", "lora_B"):
                weight = getattr(module, part).detach().to("cpu", dtype).contiguous()
                tensors[f"base_model.model.{path}.{part}.weight"] = weight
    write_peft(folder, tensors, rank=rank, alpha=alpha, targets=set(TARGETS))


def load(model: Any, folder: Path) -> None:
    """Fill the layers of an attached `model` from what `save` wrote. KeyError for another model."""
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    with torch.no_grad():
        for path, module in model.named_modules():
            if isinstance(module, LoraLinear):
                for part in ("lora_A", "lora_B"):
                    weight = tensors[f"base_model.model.{path}.{part}.weight"]
                    getattr(module, part).copy_(weight)


def _projections(model: Any) -> Iterator[tuple[torch.nn.Module, str, torch.nn.Linear]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            if name in TARGETS and isinstance(child, torch.nn.Linear):
                yield parent, name, child
