"""The embedded pair, loaded once in float32 for every test that serves sessions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from harness.engines.load import load_encoder, load_engine
from harness.engines.pairs import load_pair
from harness.serving import EngineSet


@pytest.fixture(scope="session")
def embedded() -> Iterator[EngineSet]:
    """F, G and encoder of the embedded pair."""
    pair = load_pair("embedded")
    f, g = (m.model_copy(update={"dtype": "float32"}) for m in (pair.F, pair.G))
    engines = EngineSet(
        pair,
        load_engine(f, "F", offline=True, batch_size=8),
        load_engine(g, "G", offline=True, batch_size=8),
        load_encoder(pair.encoder, offline=True),
    )
    yield engines
    asyncio.run(engines.close())
