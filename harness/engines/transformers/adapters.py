"""LoRA adapters beside frozen weights: several in one batch, each row of it with its own.

The projections of a model become `AdaptableLinear`s in place, so that no weight is copied, moved
or renamed. What is active is set for one stretch of work and taken away at its end. Projections
that read the same input (q, k, v; gate, up) share one product with their A matrices, and one
dropout mask.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from harness.engines.transformers.dropout import Dropout

INPUTS = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
"""The projections that are adapted, grouped by the input they share."""


@dataclass(frozen=True, eq=False)
class LoraAdapter:
    """delta W = (alpha / r) B A for each module path; A (r, in) and B (out, r), float32.

    Implements `harness.method.Adapter`.
    """

    rank: int
    alpha: float
    weights: Mapping[str, tuple[Tensor, Tensor]]

    @property
    def nbytes(self) -> int:
        return sum(a.nbytes + b.nbytes for a, b in self.weights.values())

    def save(self, folder: Path) -> None:
        """Write PEFT's two files; `PeftModel.from_pretrained(base, folder)` loads them."""
        tensors = {}
        for path, pair in self.weights.items():
            for part, weight in zip(("lora_A", "lora_B"), pair, strict=True):
                tensors[f"base_model.model.{path}.{part}.weight"] = weight.cpu().contiguous()
        names = {path.rsplit(".", 1)[-1] for path in self.weights}
        write_peft(folder, tensors, rank=self.rank, alpha=self.alpha, targets=names)

    @classmethod
    def read(cls, folder: Path, device: torch.device | str = "cpu") -> LoraAdapter:
        """What `save` wrote. Raises OSError or KeyError for a folder without an adapter."""
        from safetensors.torch import load_file

        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        tensors = load_file(folder / "adapter_model.safetensors", device=str(device))
        prefix, suffix = "base_model.model.", ".lora_A.weight"
        paths = [name[len(prefix) : -len(suffix)] for name in tensors if name.endswith(suffix)]
        weights = {
            path: (
                tensors[f"{prefix}{path}{suffix}"].float(),
                tensors[f"{prefix}{path}.lora_B.weight"].float(),
            )
            for path in paths
        }
        return cls(config["r"], config["lora_alpha"], MappingProxyType(weights))


def write_peft(
    folder: Path, tensors: dict[str, Tensor], *, rank: int, alpha: float, targets: set[str]
) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` as PEFT would."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted(targets),
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


class AdaptableLinear(torch.nn.Linear):
    """A projection that adds its adapters' part while some are active."""

    active: _Active | None = None

    def forward(self, input: Tensor) -> Tensor:
        output = torch.nn.functional.linear(input, self.weight, self.bias)
        return output if self.active is None else output + self.active.delta(input)


@dataclass(frozen=True, eq=False)
class Site:
    """Projections of one layer that read the same input, by module path."""

    members: tuple[tuple[str, AdaptableLinear], ...]

    @property
    def width(self) -> int:
        return self.members[0][1].in_features


def adaptable_sites(model: Any) -> tuple[Site, ...]:
    """Make the projections of `model` adaptable, in place and once, and return them by input."""
    sites = []
    for path, parent in model.named_modules():
        children = dict(parent.named_children())
        for names in INPUTS:
            members = []
            for name in names:
                child = children.get(name)
                if isinstance(child, torch.nn.Linear):
                    child.__class__ = AdaptableLinear
                    members.append((f"{path}.{name}", child))
            if members:
                sites.append(Site(tuple(members)))  # type: ignore[arg-type]
    if not sites:
        known = ", ".join(name for group in INPUTS for name in group)
        raise ValueError(f"the model has none of the projections {known}")
    return tuple(sites)


class TrainableAdapter(torch.nn.Module):
    """A fresh adapter: A uniform as PEFT draws it, B zero, so that it changes nothing yet.

    One A (sum of ranks, in) per site and one B (out, r) per projection, float32 on the model's
    device. `seed` decides A.
    """

    def __init__(self, sites: Sequence[Site], *, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.sites, self.rank, self.alpha = tuple(sites), rank, alpha
        generator = torch.Generator().manual_seed(seed)
        self.down = torch.nn.ParameterList()
        self.up = torch.nn.ParameterList()
        for site in self.sites:
            device = site.members[0][1].weight.device
            bound = 1 / math.sqrt(site.width)
            start = torch.empty(rank * len(site.members), site.width)
            start.uniform_(-bound, bound, generator=generator)
            self.down.append(torch.nn.Parameter(start.to(device)))
            for _, linear in site.members:
                zeros = torch.zeros(linear.out_features, rank, device=device)
                self.up.append(torch.nn.Parameter(zeros))

    def freeze(self) -> LoraAdapter:
        """A copy of the weights as they are now."""
        weights = {}
        ups = iter(self.up)
        for site, down in zip(self.sites, self.down, strict=True):
            for (path, _), part in zip(site.members, down.split(self.rank), strict=True):
                weights[path] = (part.detach().clone(), next(ups).detach().clone())
        return LoraAdapter(self.rank, self.alpha, MappingProxyType(weights))


@contextmanager
def training(
    adapters: Sequence[TrainableAdapter], rows: Sequence[int], dropout: Dropout | None
) -> Iterator[None]:
    """Within it, row i of every batch runs with `adapters[rows[i]]`, and gradients reach them."""
    sites = adapters[0].sites
    with _activated(sites):
        places = [0] if len(adapters) == 1 else list(rows)
        ups = [iter(adapters[place].up) for place in places]
        for at, site in enumerate(sites):
            down = [adapters[place].down[at] for place in places]
            parts = [
                [(next(up), adapters[p].alpha / adapters[p].rank) for _ in site.members]
                for p, up in zip(places, ups, strict=True)
            ]
            _activate(site, down, parts, adapters[0].rank, dropout)
        yield


class Serving:
    """The adapters of a batch being decoded; rows may leave it."""

    def __init__(self, sites: Sequence[Site], adapters: Sequence[LoraAdapter | None]) -> None:
        self._sites = sites
        self._set(adapters)

    def select(self, rows: Sequence[int]) -> None:
        """Keep these rows of the batch."""
        if len(rows) < len(self._adapters):
            self._set([self._adapters[row] for row in rows])

    def _set(self, adapters: Sequence[LoraAdapter | None]) -> None:
        self._adapters = list(adapters)
        _deactivate(self._sites)
        chosen = [a for a in self._adapters if a is not None]
        if not chosen:
            return
        alike = all(a is self._adapters[0] for a in self._adapters)
        rows = self._adapters[:1] if alike else self._adapters
        rank = max(a.rank for a in chosen)
        for site in self._sites:
            down, parts = [], []
            for adapter in rows:
                members = [_padded(adapter, path, linear, rank) for path, linear in site.members]
                down.append(torch.cat([a for a, _ in members]))
                scale = 0.0 if adapter is None else adapter.alpha / adapter.rank
                parts.append([(b, scale) for _, b in members])
            _activate(site, down, parts, rank, None)


@contextmanager
def serving(
    sites: Sequence[Site], adapters: Sequence[LoraAdapter | None]
) -> Iterator[Serving | None]:
    """Within it, row i of the batch runs with `adapters[i]`; None of them: nothing to select."""
    if all(adapter is None for adapter in adapters):
        yield None
        return
    with _activated(sites):
        yield Serving(sites, adapters)


class _Active:
    """One projection's part of what is active at its site."""

    def __init__(self, shared: _Shared, columns: slice, up: Tensor) -> None:
        self._shared, self._columns, self._up = shared, columns, up

    def delta(self, x: Tensor) -> Tensor:
        low = self._shared.low(x)[..., self._columns]
        if self._up.dim() == 2:
            return torch.nn.functional.linear(low, self._up)
        return torch.bmm(low, self._up.mT)


class _Shared:
    """x -> dropout(x) A^T for all projections of a site, computed once per input."""

    def __init__(self, down: Tensor, dropout: Dropout | None) -> None:
        self._down, self._dropout = down, dropout
        self._input: Tensor | None = None
        self._low: Tensor | None = None

    def low(self, x: Tensor) -> Tensor:
        if self._low is None or self._input is not x:
            seen = x if self._dropout is None else self._dropout(x)
            if self._down.dim() == 2:
                self._low = torch.nn.functional.linear(seen, self._down)
            else:
                self._low = torch.bmm(seen, self._down.mT)
            self._input = x
        return self._low


def _activate(
    site: Site,
    down: Sequence[Tensor],
    parts: Sequence[Sequence[tuple[Tensor, float]]],
    rank: int,
    dropout: Dropout | None,
) -> None:
    """Set a site's active adapters: `down[i]` and `parts[i]` of row i, or of all rows if one."""
    dtype = site.members[0][1].weight.dtype
    shared = _Shared(_rows([d.to(dtype) for d in down]), dropout)
    for place, (_, linear) in enumerate(site.members):
        up = _rows([(row[place][0] * row[place][1]).to(dtype) for row in parts])
        linear.active = _Active(shared, slice(place * rank, (place + 1) * rank), up)


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.stack(list(tensors))


@contextmanager
def _activated(sites: Sequence[Site]) -> Iterator[None]:
    try:
        yield
    finally:
        _deactivate(sites)


def _deactivate(sites: Sequence[Site]) -> None:
    for site in sites:
        for _, linear in site.members:
            linear.active = None


def _padded(
    adapter: LoraAdapter | None, path: str, linear: AdaptableLinear, rank: int
) -> tuple[Tensor, Tensor]:
    """A and B of one projection with zeros up to `rank`; all zero where the adapter has none."""
    device = linear.weight.device
    found = None if adapter is None else adapter.weights.get(path)
    if found is None:
        return (
            torch.zeros(rank, linear.in_features, device=device),
            torch.zeros(linear.out_features, rank, device=device),
        )
    a, b = (part.to(device) for part in found)
    missing = rank - a.shape[0]
    pad = torch.nn.functional.pad
    return (pad(a, (0, 0, 0, missing)), pad(b, (0, missing))) if missing else (a, b)
