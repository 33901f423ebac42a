"""The bar of the embedded surrogate, measured anew on kinds of prompts it never trained on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.engines.embedded.fetch import SURROGATE, fetch_embedded
from harness.engines.embedded.recipe.evaluate import HeldOut, evaluate
from harness.engines.embedded.recipe.prompts import dialogues
from harness.engines.transformers.attention import register
from harness.engines.transformers.precision import choose_dtype

PROMPTS = 200
SEED = 2026  # neither the recipe's seed nor its prompts' order


def load(folder: Path) -> Any:
    dtype = choose_dtype("auto", torch.device("cpu"))
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation=register()
    ).eval()


@pytest.fixture(scope="module")
def figures() -> HeldOut:
    folders = fetch_embedded()
    held_out = dialogues(PROMPTS, seed=SEED, held_out=True, follow_up_share=0.0)
    return evaluate(
        load(folders["F"]),
        load(folders["G"]),
        AutoTokenizer.from_pretrained(folders["F"]),
        held_out,
        seed=SEED,
        sampled_tokens=64,
        greedy_tokens=64,
    )


@pytest.mark.slow
def test_the_surrogate_meets_its_bar(figures: HeldOut) -> None:
    assert figures.prompts >= 200
    assert figures.positions > 5_000
    assert figures.agreement >= 0.50
    assert figures.kl <= 1.0
    assert figures.repetition_g <= 1.5 * figures.repetition_f
    assert figures.block_share <= 0.62


@pytest.mark.slow
def test_the_card_says_what_is_measured(figures: HeldOut) -> None:
    card = json.loads((SURROGATE / "card.json").read_text("utf-8"))
    stated = card["held_out"]
    assert stated["prompts"] >= 200
    assert stated["agreement"] == pytest.approx(figures.agreement, abs=0.05)
    assert stated["kl"] == pytest.approx(figures.kl, abs=0.15)
    assert stated["block_share"] == pytest.approx(figures.block_share, abs=1e-3)


def test_the_adapter_is_small_and_its_data_was_enough() -> None:
    card = json.loads((SURROGATE / "card.json").read_text("utf-8"))
    assert (SURROGATE / "adapter_model.safetensors").stat().st_size <= 10_000_000
    assert card["reply_tokens"] >= 300_000
    assert (
        card["kept_layers"] == json.loads((SURROGATE / "surrogate.json").read_text())["kept_layers"]
    )
    assert card["curve"]
