"""Hardness: what the paper means by it, what the released code computes, and that they differ."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from harness.engines.base import Sampling
from harness.engines.chat import encode_chat, encode_reply
from harness.method import user
from harness.serving import EngineSet
from soma.cases import Case
from soma.hardness import hardness, turn_weights
from soma.mining import Mined, MiningProblem, MiningSettings, mine
from tests.soma.drive import finish


def mined(nll: list[list[float]], losses: list[list[float]]) -> Mined:
    return Mined(
        prompts=torch.zeros(len(nll), 1, 1),
        kept=tuple(range(len(nll))),
        losses=(0.0,) * len(nll),
        turn_losses=torch.tensor(losses),
        turn_nll=torch.tensor(nll),
        texts=("",) * len(nll),
        trace=(),
    )


def test_hardness_is_averaged_over_the_kept_prompts() -> None:
    result = mined([[1.0, 2.0], [3.0, 6.0]], [[0.5, 0.1], [0.7, 0.3]])
    assert hardness(result, "paper") == pytest.approx([2.0, 4.0])
    assert hardness(result, "released") == pytest.approx([0.6, 0.2])


def test_weights_are_proportional_with_mean_one() -> None:
    assert turn_weights([1.0, 3.0]) == pytest.approx([0.5, 1.5])
    assert turn_weights([0.0, 0.0, 0.0]) == [1.0, 1.0, 1.0]


def test_the_two_readings_weigh_an_agreeing_and_a_disagreeing_turn_oppositely(
    embedded: EngineSet,
) -> None:
    """On one turn F's reply is what G says itself; on the other it is nothing that G would say."""
    engine: Any = embedded.G
    questions = ("What is the capital of France?", "Tell me about dogs.")
    prompts = [encode_chat(engine.tokenizer, [user(q)]) for q in questions]
    same = asyncio.run(engine.generate(prompts[0], Sampling(12)))
    strange = encode_reply(engine.tokenizer, "Violet gravel sang the ledger seven.", ended=True)
    cases = (
        Case(1, tuple(prompts[0]), same.output_ids),
        Case(2, tuple(prompts[1]), tuple(strange)),
    )
    settings = MiningSettings(length=4, candidates=2, iterations=2)
    problem = MiningProblem(cases, settings, seed=0)
    (worked,) = finish(mine(engine.model, engine.tokenizer, [problem]))
    paper, released = (turn_weights(hardness(worked.value, f)) for f in ("paper", "released"))
    assert paper[1] > 1 > paper[0]
    assert released[0] > 1 > released[1]
