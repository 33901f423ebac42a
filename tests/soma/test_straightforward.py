"""The benchmark's straightforward loop and the project's own code reach the same losses."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
import torch

from benchmarks import straightforward
from harness.engines.transformers.adapters import adaptable_sites
from soma.cases import Case
from soma.likelihood import Judged, judge
from soma.localization import Lesson, LoraSettings, Training, epochs, localize
from soma.mining import MiningProblem, MiningSettings, mine
from soma.objective import Objective
from soma.soft_prompt import initial
from tests.soma import tiny

CASES = (
    Case(1, (0, 7, 21, 33, 8), (12, 45, 45, 2, 60, 1)),
    Case(2, (0, 50, 3), (9, 1)),
    Case(3, (0, 14, 14, 29, 30, 58, 4, 11), (31, 32, 18, 5)),
)
PAIRS = [(case.prompt, case.reply) for case in CASES]


@pytest.fixture
def model() -> Any:
    """In float32, as adapters are."""
    return tiny.llama(seed=5, dtype=torch.float32)


def finish(work: Any) -> Any:
    """The first result of work on a model's weights."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value[0].value


def weights_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_both_say_the_same_of_their_defaults() -> None:
    """Every constant of the plain loop has the name and the value that it has in the pipeline."""
    objective = {f.name: f.default for f in fields(Objective)}
    mining = {f.name: f.default for f in fields(MiningSettings)}
    for constant in fields(straightforward.MiningSettings):
        assert constant.default == {**objective, **mining}[constant.name], constant.name
    lora = {f.name: f.default for f in fields(LoraSettings)}
    for constant in fields(straightforward.LoraSettings):
        assert constant.default == lora[constant.name], constant.name


def test_mining_reaches_the_same_losses() -> None:
    """In float64, so that twelve steps end in the same place to far below any noise."""
    model = tiny.llama(seed=5)
    iterations, rate, clip = 12, 3e-2, 0.02
    start = initial(3, 4, tiny.WIDTH, std=0.5, seed=2).double()
    objective = Objective(neighbours=6, top_m=10, anti_degeneration=0.1, norm_weight=0.01, tail=3)
    settings = MiningSettings(
        length=4,
        candidates=3,
        iterations=iterations,
        learning_rate=rate,
        clip=clip,
        patience=iterations,
        objective=objective,
    )
    problem = MiningProblem(CASES, settings, seed=0, initial=start.clone())
    ours = finish(mine(model, tiny.tokenizer(), [problem]))
    before = weights_of(model)
    constants = straightforward.MiningSettings(
        iterations=iterations,
        learning_rate=rate,
        clip=clip,
        neighbours=6,
        top_m=10,
        anti_degeneration=0.1,
        norm_weight=0.01,
        tail=3,
    )
    prompts = straightforward.mine(model, PAIRS, start, constants)
    plain = straightforward.mining_losses(model, PAIRS, prompts, constants)
    assert plain == pytest.approx(list(ours.losses), abs=1e-9)
    torch.testing.assert_close(ours.prompts, prompts[list(ours.kept)], rtol=0, atol=1e-9)
    assert sum(step["gradient"] > clip for step in ours.trace) > iterations, "clipping had no part"
    first = [step["loss"] for step in ours.trace if step["iteration"] == 0]
    assert all(end < begin - 0.01 for end, begin in zip(plain, first, strict=True))
    after = weights_of(model)
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    assert all(weight.grad is None for weight in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_mining_leaves_the_start_that_it_was_given_as_it_was(dtype: torch.dtype) -> None:
    """Else a second miner, given the same start, would begin where the first one ended."""
    start = initial(1, 4, tiny.WIDTH, std=0.5, seed=2).to(dtype)
    given = start.clone()
    settings = MiningSettings(length=4, candidates=1, keep=1, iterations=2)
    problem = MiningProblem(CASES, settings, seed=0, initial=given)
    finish(mine(tiny.llama(seed=5, dtype=dtype), tiny.tokenizer(), [problem]))
    assert torch.equal(given, start)


def test_training_reaches_the_same_losses(model: Any) -> None:
    """Without dropout, whose masks the two draw in different order."""
    settings = LoraSettings(rank=4, dropout=0.0, learning_rate=1e-2, patience=30)
    schedule = epochs(cases=3, steps=15, batch=2, seed=1)
    training = Training(settings, seed=9)
    start = training.prepare(model, adaptable_sites(model)).freeze()
    before = weights_of(model)
    omega = (0.5, 1.7, 0.8)
    ours = finish(localize(model, tiny.tokenizer(), [Lesson(training, CASES, omega, schedule)]))
    plain = straightforward.train(
        model,
        PAIRS,
        omega,
        schedule,
        straightforward.LoraSettings(rank=4, dropout=0.0, learning_rate=1e-2),
        {path: a for path, (a, _) in start.weights.items()},
    )
    judged = finish(judge(model, tiny.tokenizer(), [Judged(CASES, ours.adapter)]))
    assert plain == pytest.approx(judged, abs=1e-4)
    assert ours.losses[-1] < ours.losses[0] - 1
    after = weights_of(model)
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_training_refuses_starts_that_do_not_fit(model: Any) -> None:
    with pytest.raises(ValueError, match=r"14 adapted projections.*model\.layers\.0"):
        straightforward.train(
            model, PAIRS, (1.0,) * 3, [(0, 1)], straightforward.LoraSettings(), {}
        )
