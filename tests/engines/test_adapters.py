"""Adapters beside frozen weights: PEFT's numbers, one per row, and nothing left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engines.base import Sampling
from harness.engines.chat import encode_chat
from harness.engines.transformers.adapters import (
    LoraAdapter,
    TrainableAdapter,
    adaptable_sites,
    serving,
    training,
)
from harness.engines.transformers.dropout import Dropout
from harness.method import user
from harness.serving import EngineSet


def tiny(seed: int = 0) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def loud(model: Any, seed: int, rank: int = 4) -> LoraAdapter:
    """An adapter that changes a model's replies."""
    trainable = TrainableAdapter(adaptable_sites(model), rank=rank, alpha=8.0, seed=seed)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(seed)
        trainable.up.copy_(torch.randn(trainable.up.shape, generator=generator) * 0.3)
    return trainable.freeze()


def test_peft_loads_what_is_saved_and_computes_the_same(tmp_path: Path) -> None:
    from peft import PeftModel

    adapter = loud(tiny(), seed=1)
    adapter.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    ours = tiny()
    plain = ours(ids).logits
    with serving(adaptable_sites(ours), [adapter]):
        adapted = ours(ids).logits
    theirs = PeftModel.from_pretrained(tiny(), tmp_path)(ids).logits
    assert torch.allclose(adapted, theirs, atol=1e-6)
    assert not torch.allclose(adapted, plain, atol=1e-3)


def test_gradients_are_peft_s() -> None:
    from peft import LoraConfig, get_peft_model

    model = tiny()
    ours = TrainableAdapter(adaptable_sites(model), rank=4, alpha=8.0, seed=5)
    with torch.no_grad():
        ours.up.normal_(generator=torch.Generator().manual_seed(2))
    names = [path.rsplit(".", 1)[-1] for path in ours.freeze().weights]
    config = LoraConfig(r=4, lora_alpha=8.0, target_modules=sorted(set(names)))
    theirs: Any = get_peft_model(tiny(), config)
    with torch.no_grad():
        for path, (a, b) in ours.freeze().weights.items():
            layer = theirs.base_model.model.get_submodule(path)
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.copy_(b)
    ids = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    with training([ours], [0, 0], None):
        model(ids, labels=ids).loss.backward()
    theirs(ids, labels=ids).loss.backward()
    grads = ours.freeze.__func__(_gradients(ours))  # type: ignore[attr-defined]
    for path, (a, b) in grads.weights.items():
        layer = theirs.base_model.model.get_submodule(path)
        assert torch.allclose(a, layer.lora_A["default"].weight.grad, atol=1e-6)
        assert torch.allclose(b, layer.lora_B["default"].weight.grad, atol=1e-6)


def _gradients(adapter: TrainableAdapter) -> TrainableAdapter:
    """An adapter whose numbers are the gradients of `adapter`."""
    copy = TrainableAdapter(adapter.sites, rank=adapter.rank, alpha=adapter.alpha, seed=0)
    assert adapter.down.grad is not None
    assert adapter.up.grad is not None
    with torch.no_grad():
        copy.down.copy_(adapter.down.grad)
        copy.up.copy_(adapter.up.grad)
    return copy


def test_each_row_has_its_own_adapter_and_rows_may_leave() -> None:
    model = tiny()
    sites = adaptable_sites(model)
    one, two = loud(model, 1), loud(model, 2, rank=2)
    ids = torch.tensor([[3, 1, 4], [1, 5, 9], [2, 6, 5]])
    alone = []
    for row, adapter in zip(ids, (one, None, two), strict=True):
        with serving(sites, [adapter]):
            alone.append(model(row[None]).logits[0])
    with serving(sites, [one, None, two]) as active:
        together = model(ids).logits
        assert active is not None
        active.select([2, 1])
        rest = model(ids[[2, 1]]).logits
    assert torch.allclose(together, torch.stack(alone), atol=1e-5)
    assert torch.allclose(rest, torch.stack([alone[2], alone[1]]), atol=1e-5)


def test_adapters_trained_together_get_the_gradients_they_get_alone() -> None:
    model = tiny()
    sites = adaptable_sites(model)
    ids = torch.tensor([[3, 1, 4, 1], [1, 5, 9, 2], [2, 6, 5, 3]])
    rows = [1, 0, 1]
    pair = [TrainableAdapter(sites, rank=2, alpha=4.0, seed=s) for s in (1, 2)]
    with training(pair, rows, None):
        (model(ids).logits.logsumexp(-1).sum()).backward()
    for place, seed in enumerate((1, 2)):
        lone = TrainableAdapter(sites, rank=2, alpha=4.0, seed=seed)
        mine = ids[[i for i, row in enumerate(rows) if row == place]]
        with training([lone], [0] * len(mine), None):
            model(mine).logits.logsumexp(-1).sum().backward()
        assert float(pair[place].up.grad.abs().max()) > 1e-3  # type: ignore[union-attr]
        for ours, theirs in ((pair[place].down, lone.down), (pair[place].up, lone.up)):
            assert ours.grad is not None
            assert theirs.grad is not None
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_nothing_stays_active_when_work_fails() -> None:
    model = tiny()
    ids = torch.tensor([[3, 1, 4]])
    plain = model(ids).logits
    sites = adaptable_sites(model)
    with pytest.raises(ZeroDivisionError), serving(sites, [loud(model, 1)]):
        raise ZeroDivisionError
    assert torch.equal(model(ids).logits, plain)


def test_a_model_without_known_projections_is_refused() -> None:
    with pytest.raises(ValueError, match="q_proj"):
        adaptable_sites(torch.nn.Sequential(torch.nn.Linear(2, 2)))


def test_masks_depend_on_their_generator_alone() -> None:
    def masked(lengths: list[int], width: int = 6) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(s) for s in range(len(lengths))]
        dropout = Dropout(0.5, generators, range(len(lengths)), lengths)
        return dropout(torch.ones(len(lengths), max(lengths), width))

    together = masked([3, 9])
    alone = masked([3])
    assert torch.equal(together[0, 6:], alone[0])
    assert torch.equal(together[0, :6], torch.zeros(6, 6))  # padding draws nothing


@pytest.mark.parametrize("p", [0.05, 0.5])
def test_dropout_drops_its_share_and_keeps_the_mean(p: float) -> None:
    dropout = Dropout(p, [torch.Generator().manual_seed(3)], [0], [1000])
    out = dropout(torch.ones(1, 1000, 400)) * dropout.scale
    dropped = float((out == 0).float().mean())
    # 400,000 draws: a standard deviation of at most 0.0008.
    assert dropped == pytest.approx(p, abs=0.004)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.005)


def test_the_engine_serves_sessions_with_their_own_adapters_in_one_batch(
    embedded: EngineSet,
) -> None:
    engine: Any = embedded.G
    before = {name: p.clone() for name, p in engine.model.named_parameters()}
    adapters = [loud(engine.model, 1), None, loud(engine.model, 2)]
    texts = ("Tell me about cats.", "What is a good plan for a picnic with friends?", "Hi")
    prompts = [encode_chat(engine.tokenizer, [user(text)]) for text in texts]

    async def serve() -> tuple[list[Any], list[Any], list[Any]]:
        pairs = list(zip(prompts, adapters, strict=True))
        plain = [await engine.generate(ids, Sampling(8)) for ids in prompts]
        alone = [await engine.generate(ids, Sampling(8), adapter) for ids, adapter in pairs]
        jobs = [engine.generate(ids, Sampling(8), adapter) for ids, adapter in pairs]
        return plain, alone, list(await asyncio.gather(*jobs))

    plain, alone, together = asyncio.run(serve())
    assert [c.output_ids for c in together] == [c.output_ids for c in alone]
    assert [a.output_ids == p.output_ids for a, p in zip(alone, plain, strict=True)] == [
        False,
        True,
        False,
    ]
    assert all(torch.equal(p, before[name]) for name, p in engine.model.named_parameters())


def test_another_engine_s_adapter_is_refused(embedded: EngineSet) -> None:
    with pytest.raises(ValueError, match="no adapter of this engine"):
        asyncio.run(embedded.G.generate([1], Sampling(1), object()))  # type: ignore[arg-type]
