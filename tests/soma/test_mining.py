"""Mining on a tiny model: it minimizes J, in company as alone, and touches nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from soma import forward, mining
from soma.cases import Case
from soma.mining import Mined, MiningProblem, MiningSettings, mine
from soma.objective import Objective
from tests.soma import tiny
from tests.soma.drive import finish

SETTINGS = MiningSettings(
    length=3,
    candidates=3,
    keep=2,
    iterations=12,
    learning_rate=0.05,
    patience=50,
    objective=Objective(neighbours=5, top_m=10, tail=2),
)
CASES = (
    Case(1, (0, 7, 21, 33), (12, 45, 2, 1)),
    Case(2, (0, 50, 3, 9, 9, 8), (9, 1)),
    Case(3, (0, 14, 29, 30, 58), (31, 32, 18)),
)


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.llama(seed=3)


def run(model: Any, *problems: MiningProblem) -> list[Mined]:
    return [worked.value for worked in finish(mine(model, tiny.tokenizer(), problems))]


def problem(seed: int = 0, **changes: Any) -> MiningProblem:
    return MiningProblem(CASES, replace(SETTINGS, **changes), seed)


def test_every_candidate_ends_below_its_start_and_the_best_are_kept(model: Any) -> None:
    (mined,) = run(model, problem())
    first = [s["loss"] for s in mined.trace if s["iteration"] == 0]
    assert all(end < start for end, start in zip(mined.losses, first, strict=True))
    best = sorted(range(3), key=lambda c: mined.losses[c])[:2]
    assert mined.kept == tuple(best)
    assert mined.prompts.shape == (2, 3, tiny.WIDTH)
    assert mined.turn_losses.shape == mined.turn_nll.shape == (2, 3)
    assert float(mined.prompts.abs().max()) < SETTINGS.scale
    assert all(text.split() for text in mined.texts)


def test_the_trace_has_every_step_of_every_candidate(model: Any) -> None:
    (mined,) = run(model, problem())
    assert [(s["iteration"], s["candidate"]) for s in mined.trace] == [
        (i, c) for i in range(12) for c in range(3)
    ]
    for step in mined.trace:
        whole = step["weighted"] - 0.05 * step["entropy"] + 1e-4 * step["norm"]
        assert step["loss"] == pytest.approx(whole)
        assert step["gradient"] > 0


def test_sessions_mined_together_get_what_they_get_alone(model: Any) -> None:
    other = MiningProblem(CASES[1:], SETTINGS, 7)
    together = run(model, problem(), other)
    for mined, alone in zip(
        together, [run(model, problem())[0], run(model, other)[0]], strict=True
    ):
        assert mined.kept == alone.kept
        assert torch.allclose(mined.prompts, alone.prompts, atol=1e-10)
        assert mined.losses == pytest.approx(alone.losses)


@pytest.mark.parametrize(("budget", "mixed"), [(1, False), (16, False), (1000, True), (16, True)])
def test_micro_batches_change_memory_and_not_results(
    model: Any, monkeypatch: pytest.MonkeyPatch, budget: int, mixed: bool
) -> None:
    (whole,) = run(model, problem())
    sizes = []

    def predict(model: Any, embeds: Any, replies: int) -> Any:
        sizes.append(len(embeds) * max(len(e) for e in embeds))
        return forward.predict(model, embeds, replies)

    monkeypatch.setattr(mining, "predict", predict)
    monkeypatch.setattr(mining, "token_budget", lambda model: budget)
    monkeypatch.setattr(mining, "is_mixed", lambda model: mixed)
    (parts,) = run(model, problem())
    assert torch.allclose(parts.prompts, whole.prompts, atol=1e-10)
    longest = max(SETTINGS.length + case.tokens - 1 for case in CASES)
    assert max(sizes) <= max(budget, longest)


def test_a_candidate_that_gains_nothing_stops_and_stays(model: Any) -> None:
    (mined,) = run(model, problem(learning_rate=1e-9, patience=2, min_gain=0.01))
    assert max(s["iteration"] for s in mined.trace) == 2
    longer = run(model, problem(learning_rate=1e-9, patience=2, min_gain=0.01, iterations=40))[0]
    assert torch.equal(longer.prompts, mined.prompts)


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others(model: Any) -> None:
    first, again, other = (
        run(model, problem(1))[0],
        run(model, problem(1))[0],
        run(model, problem(2))[0],
    )
    assert torch.equal(first.prompts, again.prompts)
    assert not torch.allclose(first.prompts, other.prompts, atol=1e-3)


def test_nothing_but_prompts_changes_and_tokens_are_counted(model: Any) -> None:
    before = [p.clone() for p in model.parameters()]
    (worked,) = finish(mine(model, tiny.tokenizer(), [problem(iterations=2)]))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.grad is None and not p.requires_grad for p in model.parameters())
    once = sum(3 * (SETTINGS.length + case.tokens) for case in CASES)
    assert (worked.trained, worked.forward) == (2 * once, once)


def test_work_that_is_broken_off_leaves_the_model_as_it_was(model: Any) -> None:
    ids = torch.tensor([[1, 2, 3]])
    before = model(ids).logits
    usual = model.config._attn_implementation
    steps = mine(model, tiny.tokenizer(), [problem()])
    next(steps)
    assert model.config._attn_implementation == usual
    steps.close()
    assert torch.equal(model(ids).logits, before)


def test_without_the_entropy_term_the_tail_is_surer_of_itself(model: Any) -> None:
    """The anti-degeneration switch does what it is for: with beta, the tail's entropy is higher."""
    ends = {}
    for beta in (0.0, 5.0):
        objective = replace(SETTINGS.objective, anti_degeneration=beta)
        (mined,) = run(model, problem(objective=objective, candidates=1, keep=1))
        # Judged by the same yardstick: J's entropy term is traced only where it is used.
        both = MiningProblem(
            CASES, replace(SETTINGS, candidates=1, keep=1, iterations=1), 0, mined.prompts
        )
        ends[beta] = run(model, replace(both, initial=torch.atanh(mined.prompts / SETTINGS.scale)))[
            0
        ]
    assert ends[5.0].trace[0]["entropy"] > ends[0.0].trace[0]["entropy"]
