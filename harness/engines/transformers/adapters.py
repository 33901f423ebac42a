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
        linear = torch.nn.functional.linear
        if self.active is None:
            return linear(input, self.weight, self.bias)
        if self.active.for_all_rows:
            # Flat and in place: no copy of the output is made only to add to it.
            output = linear(input.flatten(0, -2), self.weight, self.bias)
            return self.active.add_to(output, input).view(*input.shape[:-1], -1)
        return self.active.add_by_row(linear(input, self.weight, self.bias), input)


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

    All A lie in one float32 tensor, `down`, and all B in another, `up`: casting, clipping and the
    optimizer's step are then two operations each, not hundreds. `seed` decides A.
    """

    def __init__(self, sites: Sequence[Site], *, rank: int, alpha: float, seed: int) -> None:
        super().__init__()
        self.sites, self.rank, self.alpha = tuple(sites), rank, alpha
        members = [member for site in self.sites for _, member in site.members]
        generator = torch.Generator().manual_seed(seed)
        starts = []
        for site in self.sites:
            bound = 1 / math.sqrt(site.width)
            start = torch.empty(rank * len(site.members) * site.width)
            starts.append(start.uniform_(-bound, bound, generator=generator))
        self._down_sizes = [len(start) for start in starts]
        self._up_sizes = [linear.out_features * rank for linear in members]
        device = members[0].weight.device
        self.down = torch.nn.Parameter(torch.cat(starts).to(device))
        self.up = torch.nn.Parameter(torch.zeros(sum(self._up_sizes), device=device))

    def parts(self, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        """In `dtype`: A (sum of ranks, in) per site, and alpha / r times B (out, r) per member."""
        down = torch.split(self.down.to(dtype), self._down_sizes)
        up = torch.split((self.up * (self.alpha / self.rank)).to(dtype), self._up_sizes)
        widths = [site.width for site in self.sites]
        return (
            [part.view(-1, width) for part, width in zip(down, widths, strict=True)],
            [part.view(-1, self.rank) for part in up],
        )

    def freeze(self) -> LoraAdapter:
        """A copy of the weights as they are now."""
        down = torch.split(self.down.detach().clone(), self._down_sizes)
        ups = iter(torch.split(self.up.detach().clone(), self._up_sizes))
        weights = {}
        for site, part in zip(self.sites, down, strict=True):
            rows = torch.split(part.view(-1, site.width), self.rank)
            for (path, _), a in zip(site.members, rows, strict=True):
                weights[path] = (a, next(ups).view(-1, self.rank))
        return LoraAdapter(self.rank, self.alpha, MappingProxyType(weights))


@contextmanager
def training(
    adapters: Sequence[TrainableAdapter], rows: Sequence[int], dropout: Dropout | None
) -> Iterator[None]:
    """Within it, row i of every batch runs with `adapters[rows[i]]`, and gradients reach them."""
    sites = adapters[0].sites
    dtype = sites[0].members[0][1].weight.dtype
    with _activated(sites):
        used = [0] if len(adapters) == 1 else list(rows)
        parts = {place: adapters[place].parts(dtype) for place in set(used)}
        ups = {place: iter(parts[place][1]) for place in parts}
        for at, site in enumerate(sites):
            mine = {place: [next(ups[place]) for _ in site.members] for place in parts}
            down = [parts[place][0][at] for place in used]
            _activate(site, down, [mine[place] for place in used], adapters[0].rank, dropout)
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
                scale = 0.0 if adapter is None else adapter.alpha / adapter.rank
                down.append(torch.cat([a for a, _ in members]))
                parts.append([b * scale for _, b in members])
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

    @property
    def for_all_rows(self) -> bool:
        return self._up.dim() == 2

    def add_to(self, output: Tensor, x: Tensor) -> Tensor:
        """Add to `output` (tokens of all rows, out), in place, the one adapter's part for `x`."""
        low = self._shared.low(x).flatten(0, -2)[:, self._columns]
        return output.addmm_(low, self._up.T)

    def add_by_row(self, output: Tensor, x: Tensor) -> Tensor:
        """`output` (rows, tokens, out) plus each row's own adapter's part."""
        return torch.baddbmm(output, self._shared.low(x)[..., self._columns], self._up.mT)


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
                low = torch.nn.functional.linear(seen, self._down)
            else:
                low = torch.bmm(seen, self._down.mT)
            self._low = low if self._dropout is None else low * self._dropout.scale
            self._input = x
        return self._low


def _activate(
    site: Site,
    down: Sequence[Tensor],
    ups: Sequence[Sequence[Tensor]],
    rank: int,
    dropout: Dropout | None,
) -> None:
    """Set a site's active adapters: `down[i]` and `ups[i]` of row i, or of all rows if one."""
    dtype = site.members[0][1].weight.dtype
    shared = _Shared(_rows([d.to(dtype) for d in down]), dropout)
    for place, (_, linear) in enumerate(site.members):
        up = _rows([row[place].to(dtype) for row in ups])
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
