"""The recipe of the embedded surrogate: its parts on tiny models, and the command on F itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.engines.embedded.recipe.distill import TOP, partition_kl
from harness.engines.embedded.recipe.evaluate import compare, repeated_share
from harness.engines.embedded.recipe.prompts import dialogues
from harness.engines.embedded.recipe.prune import layers_to_keep, select_layers
from harness.engines.embedded.recipe.settle import repeats, unlikelihood
from harness.engines.transformers import lora


def tiny(layers: int = 4, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=200,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def test_prompts_are_distinct_seeded_and_held_out_kinds_stay_out() -> None:
    train = dialogues(400, seed=1, held_out=False, follow_up_share=0.3)
    held = dialogues(200, seed=1, held_out=True, follow_up_share=0.0)
    assert train == dialogues(400, seed=1, held_out=False, follow_up_share=0.3)
    assert len({d.turns[0] for d in train}) == 400
    assert not {d.kind for d in train} & {d.kind for d in held}
    assert len(held) == 200
    assert {len(d.turns) for d in held} == {1}
    assert {len(d.turns) for d in train} == {1, 2, 3}
    assert not any("{" in t for d in train + held for t in d.turns)


def test_partition_kl_is_the_full_kl_when_the_partition_is_the_vocabulary() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, TOP)
    logp = torch.randn(7, TOP).log_softmax(-1)
    full = (logp.exp() * (logp - logits.log_softmax(-1))).sum(-1)
    top = logp.topk(TOP, dim=-1)
    assert torch.allclose(partition_kl(logits, top.indices, top.values), full, atol=1e-4)


def test_partition_kl_is_a_lower_bound_and_zero_for_the_same_model() -> None:
    torch.manual_seed(0)
    logits = torch.randn(7, 500) * 3
    f = torch.randn(7, 500).mul(3).log_softmax(-1)
    top = f.topk(TOP, dim=-1)
    full = (f.exp() * (f - logits.log_softmax(-1))).sum(-1)
    bound = partition_kl(logits, top.indices, top.values)
    assert (bound <= full + 1e-5).all()
    assert (bound > 0).all()
    assert torch.allclose(partition_kl(f, top.indices, top.values), torch.zeros(7), atol=1e-4)


def test_a_block_that_does_nothing_is_dropped_first() -> None:
    model = tiny()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        torch.nn.init.zeros_(model.model.layers[2].get_submodule(name).weight)
    before = model(torch.arange(9)[None]).logits
    assert layers_to_keep(model, [list(range(20))], keep=3) == [0, 1, 3]
    assert torch.equal(model(torch.arange(9)[None]).logits, before)


def test_selected_layers_decode_with_a_cache_as_without() -> None:
    model = tiny()
    select_layers(model, model.model.layers, [0, 3])
    ids = torch.arange(6)[None]
    whole = model(ids).logits[:, -1]
    first = model(ids[:, :5], use_cache=True)
    second = model(ids[:, 5:], past_key_values=first.past_key_values)
    assert torch.allclose(second.logits[:, -1], whole, atol=1e-5)
    assert sum(1 for _ in model.model.layers) == model.config.num_hidden_layers == 2


def test_the_lora_is_loaded_by_peft_and_gives_the_same_logits(tmp_path: Path) -> None:
    from peft import PeftModel

    model = tiny()
    plain = model(torch.arange(9)[None]).logits
    trainable = lora.attach(model, rank=3, alpha=6.0, seed=1)
    assert torch.equal(model(torch.arange(9)[None]).logits, plain)
    assert all(p.requires_grad for p in trainable)
    assert not any(p.requires_grad for n, p in model.named_parameters() if "lora_" not in n)
    with torch.no_grad():
        for p in trainable:
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(2)) * 0.1)
    ours = model(torch.arange(9)[None]).logits
    assert not torch.allclose(ours, plain, atol=1e-3)
    lora.save(model, tmp_path, rank=3, alpha=6.0, dtype=torch.float32)
    theirs = PeftModel.from_pretrained(tiny(), tmp_path)(torch.arange(9)[None]).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_compare_against_brute_force() -> None:
    f, g = tiny(seed=0), tiny(seed=1)
    ids, spans = list(range(12)), [(3, 6), (9, 12)]
    agreement, kl, positions = compare(f, g, [(ids, spans)])
    logp_f, logp_g = (m(torch.tensor([ids])).logits[0].log_softmax(-1) for m in (f, g))
    where = [2, 3, 4, 8, 9, 10]
    expected = [float((logp_f[i].exp() * (logp_f[i] - logp_g[i])).sum()) for i in where]
    same = [bool(logp_f[i].argmax() == logp_g[i].argmax()) for i in where]
    assert positions == 6
    assert kl == pytest.approx(sum(expected) / 6, abs=1e-5)
    assert agreement == pytest.approx(sum(same) / 6)
    assert compare(f, f, [(ids, spans)])[0:2] == (1.0, 0.0)


@pytest.mark.parametrize(
    ("text", "share"),
    [("", 0.0), ("a b c", 0.0), ("a b c d", 0.0), ("a a a a a a", 2 / 3), ("a b c d a b c d", 0.2)],
)
def test_repeated_share(text: str, share: float) -> None:
    assert repeated_share(text.split()) == pytest.approx(share)


@pytest.mark.parametrize(
    ("reply", "where"),
    [
        ([], []),
        ([1, 2, 3, 4], []),
        ([1, 2, 3, 4, 1, 2, 3, 4], [7]),
        ([5, 5, 5, 5, 5, 5], [4, 5]),
        ([1, 2, 3, 4, 9, 1, 2, 3, 4, 9], [8, 9]),
    ],
)
def test_repeats_are_the_tokens_that_complete_a_known_4_gram(
    reply: list[int], where: list[int]
) -> None:
    assert repeats(reply) == where


def test_unlikelihood_against_brute_force() -> None:
    model = tiny()
    pairs = [([7, 8], [1, 2, 3, 4, 1, 2, 3, 4]), ([9], [5] * 6), ([9], [1, 2])]
    expected = []
    for prompt, reply in pairs:
        p = model(torch.tensor([prompt + reply])).logits[0].softmax(-1)
        for i in repeats(reply):
            expected.append(-torch.log(1 - p[len(prompt) + i - 1, reply[i]]))
    loss = unlikelihood(model, pairs)
    assert loss.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)
    assert unlikelihood(model, pairs[2:]).item() == 0.0


def test_a_saved_lora_is_loaded_back(tmp_path: Path) -> None:
    model = tiny()
    for p in lora.attach(model, rank=3, alpha=6.0, seed=1):
        torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(3))
    expected = model(torch.arange(9)[None]).logits
    lora.save(model, tmp_path, rank=3, alpha=6.0, dtype=torch.float32)
    other = tiny()
    lora.attach(other, rank=3, alpha=6.0, seed=2)
    lora.load(other, tmp_path)
    assert torch.equal(other(torch.arange(9)[None]).logits, expected)


@pytest.mark.slow
def test_the_command_makes_an_adapter_from_f_alone(tmp_path: Path) -> None:
    words = ["--work", tmp_path / "work", "--out", tmp_path / "out"]
    tiny_run = [
        "--dialogues",
        3,
        "--reply-tokens",
        12,
        "--epochs",
        1,
        "--held-out",
        2,
        "--loop-steps",
        1,
    ]
    command = [sys.executable, "-m", "harness.engines.embedded.recipe", *words, *tiny_run]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    kept = json.loads((tmp_path / "out" / "surrogate.json").read_text())["kept_layers"]
    assert len(kept) == 18
    assert card["kept_layers"] == kept
    assert card["held_out"]["block_share"] == pytest.approx(0.6)
    assert card["held_out"]["prompts"] == 2
    assert card["curve"]
