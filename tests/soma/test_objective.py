"""J(P) and each of its terms against brute force in float64, its gradient by finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from soma.cases import Case
from soma.forward import embed, predict
from soma.mining import MiningProblem, MiningSettings, mine
from soma.neighbours import Neighbourhood, neighbourhood
from soma.objective import (
    Objective,
    expectation_weights,
    norm_penalty,
    position_losses,
    tail_entropy,
    turn_terms,
)
from soma.soft_prompt import initial, squash
from tests.soma import brute, tiny
from tests.soma.drive import finish

EXACT = 1e-6
LENGTH, SCALE = 4, 0.25
SETTINGS = Objective(
    neighbours=6,
    tau=0.7,
    top_m=10,
    expectation_weight=1.0,
    anti_degeneration=0.05,
    norm_weight=0.01,
    tail=3,
)
CASES = (
    Case(1, (0, 7, 21, 33, 8), (12, 45, 45, 2, 60, 1)),
    Case(2, (0, 50, 3), (9, 1)),
    Case(3, (0, 14, 14, 29, 30, 58, 4, 11), (31, 32, 18, 5)),
)
"""Replies longer and shorter than the tail, one of them with a token twice."""

seeds = pytest.mark.parametrize("seed", [0, 1, 2])


@pytest.fixture(scope="module", params=[0.3, 0.8], ids=["doubtful", "confident"])
def model(request: pytest.FixtureRequest) -> Any:
    return tiny.llama(seed=5, spread=request.param)


@pytest.fixture(scope="module")
def table(model: Any) -> Tensor:
    return model.get_input_embeddings().weight.detach()


def raw_prompts(count: int, seed: int) -> Tensor:
    """Large enough for tanh to bend."""
    return initial(count, LENGTH, tiny.WIDTH, std=1.0, seed=seed).double()


def plain_logits(model: Any, prompt: Tensor, case: Case) -> Tensor:
    """Logits (m, V) for the reply, cut out of those of the whole sequence."""
    ids = torch.tensor([*case.prompt, *case.reply])
    embeds = torch.cat([prompt, model.get_input_embeddings()(ids)])[None]
    with torch.no_grad():
        logits = model(inputs_embeds=embeds, use_cache=False).logits[0]
    first = len(prompt) + len(case.prompt) - 1
    return logits[first : first + len(case.reply)]


def brute_objective(model: Any, table: Tensor, settings: Objective) -> Callable[[Tensor], float]:
    """J as a function of the raw soft prompt (L, d)."""

    hoods = [
        [brute.substitutes(y, table.numpy(), settings.neighbours, settings.tau) for y in case.reply]
        for case in CASES
    ]

    def objective(raw: Tensor) -> float:
        prompt = brute.squash(raw.numpy(), SCALE)
        turns = [
            brute.turn(
                plain_logits(model, torch.from_numpy(prompt), case).numpy(),
                case.reply,
                near,
                table.numpy(),
                m=settings.top_m,
                expectation=settings.expectation_weight,
                tail=settings.tail,
            )
            for case, near in zip(CASES, hoods, strict=True)
        ]
        return brute.objective(
            turns,
            prompt,
            anti_degeneration=settings.anti_degeneration,
            norm_weight=settings.norm_weight,
        )

    return objective


def our_objective(model: Any, table: Tensor, settings: Objective, raw: Tensor) -> Tensor:
    """J (B,) of raw prompts (B, L, d), all candidates of a turn in one batch."""
    prompts = squash(raw, SCALE)
    parts = []
    for case in CASES:
        reply = torch.tensor(case.reply)
        inputs = embed(model, (*case.prompt, *case.reply[:-1]))
        logits = predict(model, [torch.cat([p, inputs]) for p in prompts], len(reply))
        hood = neighbourhood(reply, table, settings.neighbours, settings.tau)
        parts.append(turn_terms(logits, reply, hood, table, settings).objective(settings))
    return torch.stack(parts).mean(0) + settings.norm_weight * norm_penalty(prompts)


# Each term, on the logits of the tiny model.


@seeds
def test_position_losses(model: Any, table: Tensor, seed: int) -> None:
    for case, logits in batch_by_case(model, seed):
        found = position_losses(logits, neighbourhood(torch.tensor(case.reply), table, 6, 0.7))
        assert found.shape == logits.shape[:2] and found.dtype == torch.float64
        near = [brute.substitutes(y, table.numpy(), 6, 0.7) for y in case.reply]
        expected = [
            [brute.position_loss(z, hood) for z, hood in zip(row, near, strict=True)]
            for row in logits.numpy()
        ]
        assert found.numpy() == pytest.approx(np.array(expected), rel=0, abs=EXACT)


@seeds
@pytest.mark.parametrize("top_m", [1, 10, tiny.VOCABULARY, 100])
@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_expectation_weights(
    model: Any, table: Tensor, seed: int, top_m: int, weight: float
) -> None:
    for case, logits in batch_by_case(model, seed):
        found = expectation_weights(logits, torch.tensor(case.reply), table, top_m, weight)
        assert found.shape == logits.shape[:2]
        expected = [
            [
                brute.expectation_weight(z, y, table.numpy(), top_m, weight)
                for z, y in zip(row, case.reply, strict=True)
            ]
            for row in logits.numpy()
        ]
        assert found.numpy() == pytest.approx(np.array(expected), rel=0, abs=EXACT)


@seeds
@pytest.mark.parametrize("tail", [1, 3, 8])
def test_tail_entropy(model: Any, seed: int, tail: int) -> None:
    for _, logits in batch_by_case(model, seed):
        found = tail_entropy(logits, tail)
        expected = [brute.tail_entropy(row, tail) for row in logits.numpy()]
        assert found.tolist() == pytest.approx(expected, rel=0, abs=EXACT)


@seeds
def test_norm_of_the_squashed_prompt(seed: int) -> None:
    raw = raw_prompts(3, seed)
    expected = [brute.squared_norm(brute.squash(r, SCALE)) for r in raw.numpy()]
    assert norm_penalty(squash(raw, SCALE)).tolist() == pytest.approx(expected, rel=0, abs=EXACT)


@seeds
def test_the_terms_of_a_turn(model: Any, table: Tensor, seed: int) -> None:
    for case, logits in batch_by_case(model, seed):
        reply = torch.tensor(case.reply)
        hood = neighbourhood(reply, table, SETTINGS.neighbours, SETTINGS.tau)
        terms = turn_terms(logits, reply, hood, table, SETTINGS)
        found = torch.stack([terms.position, terms.weighted, terms.entropy], dim=1)
        near = [brute.substitutes(y, table.numpy(), 6, 0.7) for y in case.reply]
        expected = [
            brute.turn(row, case.reply, near, table.numpy(), m=10, expectation=1.0, tail=3)
            for row in logits.numpy()
        ]
        assert found.numpy() == pytest.approx(np.array(expected), rel=0, abs=EXACT)


@pytest.mark.parametrize("lead", [15.0, 20.0, 30.0])
def test_a_token_that_is_all_but_certain(lead: float) -> None:
    """Of 61 tokens 60 have score 1 and token 0 has e^lead: 1 - p(0) = 60 / (e^lead + 60).

    A token that G is sure of is where J has most to take away: neither its loss nor its gradient
    (the derivative by z_0 is p(0), about 1) may vanish there.
    """
    logits = torch.zeros(1, 1, tiny.VOCABULARY, dtype=torch.float64)
    logits[0, 0, 0] = lead
    logits.requires_grad_()
    hood = Neighbourhood(torch.tensor([[0]]), torch.ones(1, 1, dtype=torch.float64))
    loss = position_losses(logits, hood)
    expected = lead + math.log1p(60 * math.exp(-lead)) - math.log(60)
    assert loss.item() == pytest.approx(expected, abs=EXACT)
    loss.sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0].item() == pytest.approx(1.0, abs=1e-3)


# By hand.


def test_position_loss_by_hand() -> None:
    """-(0.6 ln(1 - 0.5) + 0.4 ln(1 - 0.25)) = 0.6 * 0.693147 + 0.4 * 0.287682 = 0.530961."""
    logits = torch.tensor([[[0.5, 0.25, 0.25]]]).double().log() + 3
    hood = Neighbourhood(torch.tensor([[0, 1]]), torch.tensor([[0.6, 0.4]], dtype=torch.float64))
    assert position_losses(logits, hood).tolist() == [[pytest.approx(0.530961, abs=1e-6)]]


def test_expectation_weight_by_hand() -> None:
    """p = (0.5, 0.3, 0.2), e = (1, 0), (0, 2), (-1, 0), and m = 2.

    e_bar = 0.5 (1, 0) + 0.3 (0, 2) = (0.5, 0.6), of length sqrt(0.61) = 0.781025.
    cos with e_0 is 0.5 / 0.781025 = 0.640184, with e_1 0.6 / 0.781025 = 0.768221, and with e_2
    -0.640184, which is clipped to 0. Over all three tokens (m = 3) e_bar = (0.3, 0.6), of length
    0.670820: cos with e_0 is 0.447214.
    """
    table = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]]).double()
    logits = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64).log().expand(1, 3, 3)
    reply = torch.tensor([0, 1, 2])

    def weights(top_m: int, weight: float) -> list[float]:
        return expectation_weights(logits, reply, table, top_m, weight)[0].tolist()

    assert weights(2, 1.0) == pytest.approx([1.640184, 1.768221, 1.0], abs=1e-6)
    assert weights(2, 0.5) == pytest.approx([1.320092, 1.384111, 1.0], abs=1e-6)
    assert weights(3, 1.0)[0] == pytest.approx(1.447214, abs=1e-6)


def test_tail_entropy_by_hand() -> None:
    """Rows: certain, H = 0; (1/2, 1/4, 1/4), H = 1.5 ln 2 = 1.039721; even, H = ln 3 = 1.098612.

    The last two: 1.069167. All three: 0.712778.
    """
    certain = [0.0, -1000.0, -1000.0]
    rows = [certain, [math.log(0.5), math.log(0.25), math.log(0.25)], [7.0, 7.0, 7.0]]
    logits = torch.tensor([rows], dtype=torch.float64)
    assert tail_entropy(logits, 1).item() == pytest.approx(1.098612, abs=1e-6)
    assert tail_entropy(logits, 2).item() == pytest.approx(1.069167, abs=1e-6)
    assert tail_entropy(logits, 3).item() == pytest.approx(0.712778, abs=1e-6)
    assert tail_entropy(logits, 8).item() == pytest.approx(0.712778, abs=1e-6)


def test_squash_and_norm_by_hand() -> None:
    """tanh(ln 2) = (2 - 1/2) / (2 + 1/2) = 0.6, tanh(ln 3) = 0.8; ||0.5 (0.6, 0.8)||^2 = 0.25."""
    prompt = squash(torch.tensor([[[math.log(2), math.log(3)]]], dtype=torch.float64), 0.5)
    assert prompt.flatten().tolist() == pytest.approx([0.3, 0.4], abs=1e-12)
    assert norm_penalty(prompt).tolist() == pytest.approx([0.25], abs=1e-12)


# J as a whole.


@seeds
def test_the_objective_of_several_turns(model: Any, table: Tensor, seed: int) -> None:
    raw = raw_prompts(3, seed)
    brute_j = brute_objective(model, table, SETTINGS)
    found = our_objective(model, table, SETTINGS, raw)
    assert found.tolist() == pytest.approx([brute_j(r) for r in raw], rel=0, abs=EXACT)


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, expectation_weight=0.0),
        replace(SETTINGS, anti_degeneration=0.0),
        replace(SETTINGS, anti_degeneration=2.0, norm_weight=0.5),
    ],
    ids=["all terms", "no expectation", "no entropy", "much entropy and norm"],
)
def test_the_gradient_by_finite_differences(model: Any, table: Tensor, settings: Objective) -> None:
    """Central differences of brute force, along single coordinates and random directions."""
    raw = raw_prompts(2, seed=11).requires_grad_()
    our_objective(model, table, settings, raw).sum().backward()
    assert raw.grad is not None
    brute_j = brute_objective(model, table, settings)
    generator = torch.Generator().manual_seed(3)
    directions = torch.randn(3, LENGTH, tiny.WIDTH, generator=generator, dtype=torch.float64)
    for place in torch.randperm(LENGTH * tiny.WIDTH, generator=generator)[:5].tolist():
        one = torch.zeros(LENGTH * tiny.WIDTH, dtype=torch.float64)
        one[place] = 1.0
        directions = torch.cat([directions, one.view(1, LENGTH, tiny.WIDTH)])
    step = 1e-5
    for candidate in range(2):
        at = raw[candidate].detach()
        for direction in directions:
            ahead, behind = brute_j(at + step * direction), brute_j(at - step * direction)
            slope = (raw.grad[candidate] * direction).sum().item()
            assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-5, abs=1e-8)


def test_mining_notes_j_and_follows_its_gradient(model: Any, table: Tensor) -> None:
    """One step without decay or clipping: AdamW moves each number by lr against its gradient.

    The trace's J and gradient norm are those before the step, `losses` those after it.
    """
    rate = 1e-2
    settings = MiningSettings(
        length=LENGTH,
        candidates=2,
        keep=2,
        iterations=1,
        learning_rate=rate,
        weight_decay=0.0,
        clip=1e9,
        scale=SCALE,
        objective=SETTINGS,
    )
    start = raw_prompts(2, seed=4)
    problem = MiningProblem(CASES, settings, seed=0, initial=start.clone())
    mined = finish(mine(model, tiny.tokenizer(), [problem]))[0].value
    brute_j = brute_objective(model, table, SETTINGS)
    assert [step["loss"] for step in mined.trace] == pytest.approx(
        [brute_j(raw) for raw in start], rel=0, abs=EXACT
    )
    for candidate, raw in enumerate(start):
        gradient = differences(brute_j, raw)
        assert mined.trace[candidate]["gradient"] == pytest.approx(gradient.norm().item(), rel=1e-5)
        moved = raw - rate * gradient.sign()
        prompt = mined.prompts[mined.kept.index(candidate)]
        clear = gradient.abs() > 1e-4  # elsewhere Adam's epsilon, 1e-8, shortens the step
        assert clear.sum() > clear.numel() // 2
        assert torch.allclose(prompt[clear], squash(moved, SCALE)[clear], rtol=0, atol=EXACT)
        raw_end = torch.atanh(prompt / SCALE)
        assert mined.losses[candidate] == pytest.approx(brute_j(raw_end), rel=0, abs=EXACT)
        assert mined.losses[candidate] < mined.trace[candidate]["loss"]


def differences(function: Callable[[Tensor], float], at: Tensor) -> Tensor:
    """The whole gradient of `function` by central differences."""
    step, gradient = 1e-5, torch.zeros_like(at)
    for place in range(at.numel()):
        shift = torch.zeros(at.numel(), dtype=at.dtype)
        shift[place] = step
        shift = shift.view_as(at)
        gradient.view(-1)[place] = (function(at + shift) - function(at - shift)) / (2 * step)
    return gradient


# The switches.


@seeds
def test_without_expectation_every_weight_is_exactly_one(
    model: Any, table: Tensor, seed: int
) -> None:
    off = replace(SETTINGS, expectation_weight=0.0)
    for case, logits in batch_by_case(model, seed):
        reply = torch.tensor(case.reply)
        hood = neighbourhood(reply, table, off.neighbours, off.tau)
        ones = expectation_weights(logits, reply, table, off.top_m, 0.0)
        assert torch.equal(ones, torch.ones_like(ones))
        terms = turn_terms(logits, reply, hood, table, off)
        assert torch.equal(terms.weighted, terms.position)
        on = turn_terms(logits, reply, hood, table, SETTINGS)
        assert torch.equal(on.position, terms.position) and (on.weighted > terms.weighted).any()


@seeds
def test_without_anti_degeneration_the_entropy_has_no_part(
    model: Any, table: Tensor, seed: int
) -> None:
    off = replace(SETTINGS, anti_degeneration=0.0)
    for case, logits in batch_by_case(model, seed):
        reply = torch.tensor(case.reply)
        hood = neighbourhood(reply, table, off.neighbours, off.tau)

        def gradient(
            settings: Objective,
            part: str,
            at: Tensor = logits,
            y: Tensor = reply,
            near: Neighbourhood = hood,
        ) -> tuple[Tensor, Tensor]:
            leaf = at.clone().requires_grad_()
            terms = turn_terms(leaf, y, near, table, settings)
            value = terms.weighted if part == "weighted" else terms.objective(settings)
            value.sum().backward()
            assert leaf.grad is not None
            return value.detach(), leaf.grad

        alone, alone_gradient = gradient(SETTINGS, "weighted")
        without, without_gradient = gradient(off, "objective")
        assert torch.equal(without, alone) and torch.equal(without_gradient, alone_gradient)
        full, full_gradient = gradient(SETTINGS, "objective")
        assert (full < alone).all() and not torch.equal(full_gradient, alone_gradient)


def batch_by_case(model: Any, seed: int) -> list[tuple[Case, Tensor]]:
    """Each case with the logits (3, m, V) of its reply under three prompts."""
    prompts = squash(raw_prompts(3, seed), SCALE)
    return [(case, torch.stack([plain_logits(model, p, case) for p in prompts])) for case in CASES]
