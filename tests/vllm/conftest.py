"""One vLLM engine on the CPU for all tests here, and the same model in transformers beside it."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.engines.pairs import ModelSpec, TrainingSpec

HERE = Path(__file__).parent
BLOCK = 32
"""Tokens in a block of the engine's cache."""

SPEC = ModelSpec(
    id="embedded:G",
    dtype="float32",
    engine="vllm",
    options={
        "max_model_len": 1024,
        "block_size": BLOCK,
        "max_lora_rank": 12,
        "max_loras": 2,
        "max_cpu_loras": 3,
    },
    training=TrainingSpec(dtype="float32", device="cpu"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip everything in this folder where vLLM is not installed."""
    missing = importlib.util.find_spec("vllm") is None
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            if missing:
                item.add_marker(pytest.mark.skip(reason="vLLM is not installed: make test-vllm"))


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """G served by vLLM in float32, with adapters up to rank 16 and the prefix cache on.

    Once closed, it must leave neither a process nor a file.
    """
    import psutil

    from harness.engines.load import load_engine

    engine: Any = load_engine(SPEC, "G", offline=True, batch_size=8, prefix_cache=True)
    served = [p for p in psutil.Process().children(recursive=True) if "VLLM" in p.name()]
    home: Path = engine._home
    assert served
    assert home.is_dir()
    yield engine
    asyncio.run(engine.close())
    assert not [p for p in served if p.is_running()]
    assert not home.exists()


@pytest.fixture(scope="session")
def local() -> Iterator[Any]:
    """The same model in transformers, as it is adapted, in float32."""
    from harness.engines.load import load_trainer

    local: Any = load_trainer(SPEC, "G", offline=True)
    yield local
    asyncio.run(local.close())


@pytest.fixture(scope="session")
def adapters(local: Any) -> list[Any]:
    """Four adapters of rank 4, each of which changes G's replies in its own way."""
    return [loud(local.model, seed) for seed in range(4)]


def loud(model: Any, seed: int, rank: int = 4) -> Any:
    """A random adapter, strong enough to change replies."""
    import torch

    from harness.engines.transformers.adapters import TrainableAdapter, adaptable_sites

    trainable = TrainableAdapter(adaptable_sites(model), rank=rank, alpha=8.0, seed=seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        trainable.up.copy_(torch.randn(trainable.up.shape, generator=generator) * 0.4)
    return trainable.freeze()
