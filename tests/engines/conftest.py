"""Real models for the engine tests: F in float32, loaded once; a made-up adapter for G."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.engines.base import Sampling
from harness.engines.embedded.fetch import fetch_one
from harness.engines.load import load_engine
from harness.engines.pairs import ModelSpec

KEPT = [0, 1, 2, 10, 20, 29]
RANK, ALPHA = 4, 8.0


@pytest.fixture(scope="session")
def original() -> Path:
    return fetch_one("F")


@pytest.fixture(scope="session")
def engine(original: Path) -> Iterator:
    """F on the CPU in float32, batches of up to 4."""
    spec = ModelSpec(id=str(original), dtype="float32", device="cpu")
    engine = load_engine(spec, "F", offline=True, batch_size=4)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A surrogate folder as the project ships it, with few layers and random weights."""
    folder = tmp_path_factory.mktemp("surrogate")
    write_adapter(folder, seed=0)
    return folder


def write_adapter(folder: Path, seed: int) -> None:
    """A random rank-4 LoRA of two projections of every kept layer, in PEFT's format."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in range(len(KEPT)):
        for module, rows, columns in (("self_attn.k_proj", 192, 576), ("mlp.up_proj", 1536, 576)):
            name = f"base_model.model.model.layers.{layer}.{module}"
            a = torch.randn(RANK, columns, generator=generator) * 0.05
            b = torch.randn(rows, RANK, generator=generator) * 0.05
            tensors[f"{name}.lora_A.weight"] = a.to(torch.bfloat16)
            tensors[f"{name}.lora_B.weight"] = b.to(torch.bfloat16)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": ["k_proj", "up_proj"],
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    (folder / "surrogate.json").write_text(json.dumps({"kept_layers": KEPT}), "utf-8")


def greedy(tokens: int = 12) -> Sampling:
    return Sampling(max_new_tokens=tokens)
