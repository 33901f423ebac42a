"""One vLLM engine on the CPU for all tests here, and the same model in transformers beside it."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Resolution:
    """A dry run of pip that goes on beside the tests. `folder`: for what it finds and says."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def report(self) -> Path:
        return self.folder / "report.json"

    @property
    def log(self) -> Path:
        return self.folder / "log"


RESOLUTION = pytest.StashKey[Resolution]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin the dry run, which takes most of a minute, where a test will ask for it."""
    missing = importlib.util.find_spec("vllm") is None
    if missing or not any(
        item.name == "test_the_extra_for_gpus_resolves" for item in session.items
    ):
        return
    folder = Path(tempfile.mkdtemp())
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--dry-run", "--ignore-installed"]
    words = ["--no-build-isolation", "--report", str(folder / "report.json"), ".[vllm]"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*pip, *words], cwd=HERE.parents[1], stdout=log, stderr=log)
    session.config.stash[RESOLUTION] = Resolution(process, folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the dry run where no test waited for it."""
    resolution = config.stash.get(RESOLUTION, None)
    if resolution is not None:
        resolution.process.kill()
        resolution.process.wait()
        shutil.rmtree(resolution.folder)


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
