"""The small real model, loaded once, and a cache of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.context.likelihood import LikelihoodModel
from harness.context.settings import ContextSettings


@pytest.fixture(scope="session")
def model() -> LikelihoodModel:
    return LikelihoodModel(ContextSettings())


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "scores.sqlite"
