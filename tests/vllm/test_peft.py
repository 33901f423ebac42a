"""An adapter that the library PEFT trained and saved: vLLM serves with it as PEFT applies it."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.engines.base import Sampling, Scope
from harness.engines.chat import encode_chat
from harness.engines.embedded.fetch import fetch_one
from harness.engines.transformers.adapters import INPUTS
from harness.method import user

TOKENS = 12
SAID = " The ferry to the island leaves at nine, and nobody knows why."


@dataclass(frozen=True)
class Saved:
    """An adapter in the folder that PEFT wrote; implements `harness.method.Adapter`."""

    folder: Path

    @property
    def nbytes(self) -> int:
        return (self.folder / "adapter_model.safetensors").stat().st_size

    def save(self, folder: Path) -> None:
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


@dataclass(frozen=True)
class Trained:
    """A prompt, G's greedy ids under PEFT with the adapter and without it, and the adapter."""

    prompt: list[int]
    adapted: tuple[int, ...]
    plain: tuple[int, ...]
    adapter: Saved


@pytest.fixture(scope="module")
def trained(engine: Any, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_pretrained(fetch_one("G"), dtype=torch.float32)
    names = [name for group in INPUTS for name in group]
    config = LoraConfig(r=8, lora_alpha=16, target_modules=names, task_type="CAUSAL_LM")
    peft: Any = get_peft_model(model, config)
    prompt = encode_chat(engine.tokenizer, [user("When does the ferry leave?")])
    reply = engine.tokenizer(SAID, add_special_tokens=False)["input_ids"]
    ids = torch.tensor([[*prompt, *reply]])
    labels = ids.clone()
    labels[:, : len(prompt)] = -100
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(12):
        peft(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("peft")
    peft.save_pretrained(folder, safe_serialization=True)
    peft.eval()
    adapted = _greedy(peft, prompt)
    with peft.disable_adapter():
        plain = _greedy(peft, prompt)
    return Trained(prompt, adapted, plain, Saved(folder))


def _greedy(model: Any, prompt: list[int]) -> tuple[int, ...]:
    """Every step from the whole sequence, without a cache."""
    import torch

    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(TOKENS):
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return tuple(ids[len(prompt) :])


def test_training_changed_what_g_says(trained: Trained) -> None:
    assert trained.adapted != trained.plain


def test_vllm_says_what_peft_says_with_the_adapter_and_without(
    engine: Any, trained: Trained
) -> None:
    async def serve() -> tuple[tuple[int, ...], tuple[int, ...]]:
        await engine.hold(trained.adapter, "peft")
        sampling, scope = Sampling(TOKENS), Scope("peft", prefix_cache=True)
        adapted = await engine.generate(trained.prompt, sampling, trained.adapter, scope)
        plain = await engine.generate(trained.prompt, sampling, None, scope)
        await engine.release("peft")
        return adapted.output_ids, plain.output_ids

    adapted, plain = asyncio.run(serve())
    assert adapted == trained.adapted[: len(adapted)]
    assert plain == trained.plain[: len(plain)]
    assert len(adapted) == TOKENS
    assert not engine.holds(trained.adapter)
