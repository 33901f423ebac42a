"""Localization: weighted, isolated, in company as alone, on a schedule that is a budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engines.transformers.adapters import LoraAdapter, adaptable_sites
from soma.cases import Case
from soma.fine_tuning import tokens_of, within
from soma.likelihood import Judged, judge
from soma.localization import (
    Lesson,
    Localized,
    LoraSettings,
    Training,
    draws,
    epochs,
    localize,
)
from tests.soma import tiny
from tests.soma.drive import finish

SETTINGS = LoraSettings(rank=4, alpha=8.0, dropout=0.1, learning_rate=0.02, patience=100)
CASES = (
    Case(1, (2, 7, 21, 33), (12, 45, 2, 4)),
    Case(2, (2, 50, 3, 9, 9, 8), (9, 5)),
    Case(3, (2, 14, 29, 30, 58), (31, 32, 18)),
)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.llama(seed=3)


def lesson(seed: int = 0, weights: tuple[float, ...] = (1, 1, 1), **changes: Any) -> Lesson:
    training = Training(replace(SETTINGS, **changes), seed)
    return Lesson(training, CASES, weights, epochs(3, 30, 2, seed))


def run(model: Any, *lessons: Lesson) -> list[Localized]:
    return [worked.value for worked in finish(localize(model, tiny.tokenizer(), lessons))]


def losses(model: Any, adapter: LoraAdapter | None) -> list[float]:
    (worked,) = finish(judge(model, tiny.tokenizer(), [Judged(CASES, adapter)]))
    return worked.value


def numbers(adapter: LoraAdapter) -> torch.Tensor:
    return torch.cat([part.flatten() for pair in adapter.weights.values() for part in pair])


def test_what_was_trained_on_becomes_likely(model: Any) -> None:
    before = losses(model, None)
    (done,) = run(model, lesson())
    after = losses(model, done.adapter)
    assert all(a < b / 2 for a, b in zip(after, before, strict=True))
    assert len(done.losses) == 30
    assert losses(model, None) == before


def test_a_heavier_turn_is_learned_better(model: Any) -> None:
    even, tilted = (
        run(model, lesson(weights=w))[0].adapter for w in ((1, 1, 1), (0.02, 2.9, 0.08))
    )
    assert losses(model, tilted)[0] > losses(model, even)[0] + 0.1
    assert losses(model, tilted)[1] < losses(model, even)[1]


def test_a_session_s_adapter_is_the_same_in_any_company_and_after_any_other(model: Any) -> None:
    weights = [p.clone() for p in model.parameters()]
    (alone,) = run(model, lesson(1))
    run(model, lesson(2))
    first, second = run(model, lesson(1), lesson(2))
    (after,) = run(model, lesson(1))
    assert torch.equal(numbers(alone.adapter), numbers(after.adapter))
    assert torch.allclose(numbers(first.adapter), numbers(alone.adapter), atol=1e-6)
    assert not torch.allclose(numbers(second.adapter), numbers(alone.adapter), atol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    assert all(m.active is None for s in adaptable_sites(model) for _, m in s.members)


def test_training_can_go_on_where_it_stopped(model: Any) -> None:
    begun = lesson(4)
    half = replace(begun, schedule=begun.schedule[:15])
    rest = replace(begun, schedule=begun.schedule[15:])
    run(model, half)
    (resumed,) = run(model, rest)
    (whole,) = run(model, lesson(4))
    assert torch.equal(numbers(resumed.adapter), numbers(whole.adapter))
    assert len(resumed.losses) == 15


def test_it_stops_when_the_loss_no_longer_falls(model: Any) -> None:
    (done,) = run(model, lesson(learning_rate=1e-12, dropout=0.0, patience=4))
    # Of the pairs that an epoch goes through, the first has the lowest loss, at step 1.
    assert done.losses[0] == min(done.losses[:3])
    assert len(done.losses) == 5


def test_tokens_are_counted(model: Any) -> None:
    task = lesson()
    (worked,) = finish(localize(model, tiny.tokenizer(), [task]))
    assert worked.trained == tokens_of(task.schedule, CASES)
    assert worked.forward == 0


def test_peft_loads_a_session_s_adapter(model: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    (done,) = run(model, lesson())
    done.adapter.save(tmp_path)
    peft = PeftModel.from_pretrained(tiny.llama(seed=3), tmp_path)
    case = CASES[0]
    ids = torch.tensor([[*case.prompt, *case.reply]])
    with torch.no_grad():
        log_p = peft(ids).logits.log_softmax(-1)
    places = range(len(case.prompt), ids.shape[1])
    nll = -sum(float(log_p[0, at - 1, ids[0, at]]) for at in places) / len(case.reply)
    assert nll == pytest.approx(losses(model, done.adapter)[0], abs=1e-5)


def test_schedules() -> None:
    plan = epochs(3, 6, 2, seed=1)
    flat = [place for step in plan for place in step]
    assert [sorted(flat[i : i + 3]) for i in (0, 3, 6, 9)] == [[0, 1, 2]] * 4
    drawn = draws(3, 50, 2, seed=1)
    assert drawn == draws(3, 50, 2, seed=1) != draws(3, 50, 2, seed=2)
    assert {len(step) for step in drawn} == {2}
    assert {place for step in drawn for place in step} == {0, 1, 2}


def test_a_budget_of_tokens_is_kept() -> None:
    plan = ((0, 0), (0, 0), (1, 1))  # 16, 16 and 16 tokens
    assert tokens_of(plan, CASES) == 48
    assert within(plan, CASES, 47) == plan[:2]
    assert within(plan, CASES, 48) == plan
    assert within(plan, CASES, 1) == plan[:1]
