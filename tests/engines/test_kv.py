"""The key-value cache of a batch: which models leave prefixes behind, and that none is changed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from harness.engines.base import Sampling, Scope
from harness.engines.transformers.decode import Row, decode
from harness.engines.transformers.kv import can_keep_prefixes, close_gaps, leave_behind
from harness.engines.transformers.prefix import Prefix
from tests.engines.tiny_models import SIZES, one, tiny_engine, words

LIMIT = 2**30
SCALED = {"rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 64}


@pytest.fixture(scope="module")
def engine():
    engine = tiny_engine()
    engine.stop_ids = frozenset()
    yield engine
    asyncio.run(engine.close())


def decoded(engine: Any, rows: list[Row]) -> None:
    def work() -> None:
        assert sorted(map(id, decode(engine.model, engine.tokenizer, rows, frozenset()))) == sorted(
            map(id, rows)
        )

    asyncio.run(engine.run_exclusive(work))


def left_by(engine: Any, ids: list[int]) -> Prefix:
    """The keys and values of `ids`, computed at once."""
    row = Row(ids, Sampling(1), keep_up_to=LIMIT)
    decoded(engine, [row])
    assert row.left is not None
    assert row.left.ids == tuple(ids)
    return row.left


def differs(a: Prefix, b: Prefix) -> float:
    """The largest difference between the numbers of two prefixes of the same ids."""
    assert a.ids == b.ids
    pairs = zip(a.layers, b.layers, strict=True)
    return max(float((x - y).abs().max()) for p, q in pairs for x, y in zip(p, q, strict=True))


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("shared", [4, 30])
def test_decoding_does_not_change_what_it_reuses(engine, rows, shared):
    kept = left_by(engine, words(1, 30))
    before = [(keys.clone(), values.clone()) for keys, values in kept.layers]
    batch = [
        Row([*words(1, shared), 90, 91], Sampling(5 + i), reuse=kept.first(shared))
        for i in range(rows)
    ]
    decoded(engine, batch)
    assert [row.cached for row in batch] == [shared] * rows
    assert [row.reuse for row in batch] == [None] * rows  # held no longer than needed
    for (keys, values), (old_keys, old_values) in zip(kept.layers, before, strict=True):
        assert torch.equal(keys, old_keys)
        assert torch.equal(values, old_values)


def test_what_a_row_leaves_is_what_its_ids_give(engine):
    """Whatever padding stood left of it or in its middle; of its own memory and nobody else's."""
    kept = left_by(engine, words(1, 40))
    rows = [
        Row([*words(1, 40), *words(2, 3)], Sampling(4), reuse=kept, keep_up_to=LIMIT),
        Row([*words(1, 12), *words(3, 5)], Sampling(1), reuse=kept.first(12), keep_up_to=LIMIT),
        Row([*words(1, 30), *words(4, 6)], Sampling(9), reuse=kept.first(30), keep_up_to=LIMIT),
        Row(words(5, 8), Sampling(6), keep_up_to=LIMIT),
    ]
    decoded(engine, rows)
    for row in rows:
        assert row.left is not None
        assert row.left.ids == tuple(row.prompt + row.output[:-1])
        assert differs(row.left, left_by(engine, list(row.left.ids))) < 1e-12
        for tensor in (tensor for pair in row.left.layers for tensor in pair):
            assert tensor.is_contiguous()
            assert tensor.untyped_storage().nbytes() == tensor.nbytes
        assert row.left.nbytes == engine.facts.kv_bytes_per_token * len(row.left.ids)


def test_a_part_of_a_larger_tensor_is_copied():
    """It would keep the whole in memory, uncounted."""

    class Layer:
        keys = torch.rand(1, 2, 10, 4)[:, :, :6]
        values = torch.rand(1, 2, 6, 4)

    class Cache:
        layers = (Layer(),)

    left = leave_behind(Cache, torch.ones(1, 6, dtype=torch.long), 0, range(6))
    assert left is not None
    ((keys, values),) = left.layers
    assert torch.equal(keys, Layer.keys)
    assert keys.untyped_storage().nbytes() == 2 * 6 * 4 * 4
    assert values is Layer.values


@pytest.mark.parametrize("rows", [1, 2])
def test_too_large_a_prefix_is_not_even_copied(engine, rows):
    limit = engine.facts.kv_bytes_per_token * 24
    batch = [Row(words(i, 20 + i), Sampling(5), keep_up_to=limit) for i in range(rows)]
    decoded(engine, batch)
    assert [row.left is None for row in batch] == [False, True][:rows]


def test_gaps_are_closed_where_that_pays():
    class Layer:
        def __init__(self) -> None:
            self.keys = torch.arange(2 * 12, dtype=torch.float32).view(2, 1, 12, 1)
            self.values = -self.keys

    class Cache:
        layers = (Layer(), Layer())

    #                     prefixes, 8 columns     | new tokens, 4 columns
    mask = torch.tensor(
        [[0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]]
    )
    closed = close_gaps(Cache, mask, boundary=8)
    assert closed.tolist() == [[1] * 7, [0] + [1] * 6]
    for layer in Cache.layers:
        assert layer.keys[0, 0, :, 0].tolist() == [3, 4, 5, 6, 7, 10, 11]
        assert layer.keys[1, 0, 1:, 0].tolist() == [18, 19, 20, 21, 22, 23]
        assert torch.equal(layer.values, -layer.keys)
    full = torch.ones(2, 12, dtype=torch.long)
    assert close_gaps(Cache, full, boundary=8) is full


@pytest.mark.parametrize(
    ("kind", "config", "kept"),
    [
        ("Llama", {}, True),
        ("Qwen3", {}, True),
        ("Mistral", {"sliding_window": None}, True),
        ("Mistral", {"sliding_window": 8}, False),
        ("Gemma2", {"sliding_window": 8}, False),
        ("Gemma3", {"config_class": "Gemma3TextConfig", "sliding_window": 8}, False),
        ("Lfm2", {"layer_types": ["conv", "full_attention", "conv"]}, False),
        ("Llama", {"rope_parameters": {"rope_type": "linear", **SCALED}}, True),
        ("Llama", {"rope_parameters": {"rope_type": "dynamic", **SCALED}}, False),
    ],
    ids=lambda value: str(value) if isinstance(value, str | bool) else "-".join(value) or "plain",
)
def test_models_whose_past_can_be_cut_anywhere_keep_it(kind, config, kept):
    engine = tiny_engine(kind, **config)
    assert can_keep_prefixes(engine.model.config) is kept
    scope = Scope("a", True)
    one(engine, words(1, 20), Sampling(4), None, scope)
    again = one(engine, [*words(1, 20), 5], Sampling(12), None, scope)
    assert again.output_ids == one(engine, [*words(1, 20), 5], Sampling(12)).output_ids
    assert again.tokens.cached == (20 if kept else 0)
    assert (again.kv_bytes_kept or 0) > 0 if kept else again.kv_bytes_kept == 0
    asyncio.run(engine.close())


def test_embeddings_scaled_by_the_length_of_the_text_are_noticed():
    from transformers import Phi3Config

    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    for kind, kept in (("default", True), ("longrope", False)):
        rope = {"rope_type": kind, **SCALED, **(factors if kind == "longrope" else {})}
        config = Phi3Config(
            **{k: v for k, v in SIZES.items() if k != "head_dim"}, rope_parameters=rope
        )
        assert can_keep_prefixes(config) is kept
