"""The embedded sentence encoder, against properties it must have."""

from __future__ import annotations

import asyncio
import math

import pytest

from harness.engines.load import load_encoder
from harness.engines.pairs import load_pair

TEXTS = ["A dog runs in the park.", "A puppy is running outdoors.", "Interest rates rose.", ""]


@pytest.fixture(scope="module")
def encoder():
    encoder = load_encoder(load_pair("embedded").encoder, offline=True)
    yield encoder
    asyncio.run(encoder.close())


def test_unit_vectors_that_mean_something(encoder):
    vectors = asyncio.run(encoder.embed(TEXTS))
    assert [len(v) for v in vectors] == [384] * 4
    for vector in vectors:
        assert math.isclose(math.hypot(*vector), 1, abs_tol=1e-5)

    def cosine(i: int, j: int) -> float:
        return sum(a * b for a, b in zip(vectors[i], vectors[j], strict=True))

    assert cosine(0, 1) > 0.5 > 0.2 > cosine(0, 2)


def test_the_same_call_gives_the_same_numbers(encoder):
    async def main():
        return await asyncio.gather(encoder.embed(TEXTS), encoder.embed(TEXTS))

    first, second = asyncio.run(main())
    assert first == second
    assert asyncio.run(encoder.embed([])) == []


def test_token_counts(encoder):
    # [CLS] and [SEP] count; a text beyond the model's 256 tokens is cut there.
    assert encoder.count_tokens([""]) == 2
    assert encoder.count_tokens(["dog", "dog dog"]) == 3 + 4
    assert encoder.count_tokens(["dog " * 1000]) == 256
    assert encoder.count_tokens([]) == 0


def test_facts(encoder):
    facts = encoder.facts
    assert (facts.dtype, facts.context_tokens) == ("float32", 256)
    assert facts.weights_bytes == 4 * facts.parameters == 4 * 22_713_216
