"""Stage 1, soft-prompt mining: M candidates per session, each minimizing J(P) on the warm turns."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from harness.method import Worked
from soma.cases import Case
from soma.forward import Row, embed, is_mixed, micro_batches, predict, token_budget
from soma.likelihood import token_nll
from soma.neighbours import Neighbourhood, neighbourhood
from soma.objective import Objective, Terms, norm_penalty, turn_terms
from soma.soft_prompt import initial, squash, verbalize


@dataclass(frozen=True)
class MiningSettings:
    """How P is sought. `length`: L. `init_std`, `scale`: of P = scale tanh(raw), raw ~ N(0, std^2).

    `keep`: the so many candidates of least final loss are kept. A candidate stops early when its
    loss has not fallen by the share `min_gain` of its best for `patience` iterations.
    """

    length: int = 16
    candidates: int = 3
    keep: int = 2
    iterations: int = 30
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    init_std: float = 0.02
    scale: float = 0.25
    patience: int = 5
    min_gain: float = 1e-3
    objective: Objective = field(default_factory=Objective)


@dataclass(frozen=True)
class MiningProblem:
    """One session's warm turns. `initial` (M, L, d) replaces the seeded start, for comparisons."""

    cases: tuple[Case, ...]
    settings: MiningSettings
    seed: int
    initial: Tensor | None = None


class Step(TypedDict):
    """One iteration of one candidate: J and its terms before the step, and the gradient's norm."""

    iteration: int
    candidate: int
    loss: float
    weighted: float
    entropy: float
    norm: float
    gradient: float


@dataclass(frozen=True)
class Mined:
    """The result. `prompts` (K, L, d): the kept P, best first; `losses`: final J by candidate.

    Of each warm turn under each kept prompt at its end, both (K, W): `turn_losses`, mean_i w l, and
    `turn_nll`, mean token NLL of F's reply. `texts`: V(P) of the kept.
    """

    prompts: Tensor
    kept: tuple[int, ...]
    losses: tuple[float, ...]
    turn_losses: Tensor
    turn_nll: Tensor
    texts: tuple[str, ...]
    trace: tuple[Step, ...]


def mine(
    model: Any, tokenizer: Any, problems: Sequence[MiningProblem]
) -> Generator[None, None, list[Worked[Mined]]]:
    """Mine the prompts of several sessions together; each is a problem of its own.

    Work in the sense of `harness.method.Work`. Gradients reach the prompts alone.
    """
    searches = [_Search(model, problem) for problem in problems]
    rounds = max(s.settings.iterations for s in searches)
    for iteration in range(rounds):
        live = [s for s in searches if s.goes_on(iteration)]
        if not live:
            break
        for search in live:
            search.begin()
        yield from _evaluate(model, live, gradients=True)
        for search in live:
            search.step(iteration)
    for search in searches:
        search.begin(every=True)
    yield from _evaluate(model, searches, gradients=False)
    return [search.finish(tokenizer) for search in searches]


def _evaluate(
    model: Any, searches: Sequence[_Search], *, gradients: bool
) -> Generator[None, None, None]:
    """J's terms of every live candidate on every turn, micro-batch by micro-batch."""
    places = [
        (search, candidate, turn)
        for search in searches
        for turn in range(len(search.cases))
        for candidate in search.live
    ]
    rows = [
        Row(i, s.settings.length + s.cases[t].tokens - 1, len(s.cases[t].reply))
        for i, (s, _, t) in enumerate(places)
    ]
    for group in micro_batches(rows, token_budget(model), mixed=is_mixed(model)):
        with torch.set_grad_enabled(gradients):
            parts = [places[row.index] for row in group]
            embeds = [search.row(candidate, turn) for search, candidate, turn in parts]
            logits = predict(model, embeds, max(row.reply for row in group))
            total: Tensor | None = None
            for search, turn, candidates, chosen in _by_turn(parts):
                loss = search.judge(turn, candidates, logits[chosen], gradients=gradients)
                total = loss if total is None else total + loss
        if gradients and total is not None:
            total.backward()
        yield


def _by_turn(
    parts: Sequence[tuple[_Search, int, int]],
) -> Iterator[tuple[_Search, int, list[int], list[int]]]:
    """(search, turn, its candidates, their rows) of a micro-batch."""
    groups: dict[tuple[int, int], list[int]] = {}
    for row, (search, _, turn) in enumerate(parts):
        groups.setdefault((id(search), turn), []).append(row)
    for rows in groups.values():
        search, _, turn = parts[rows[0]]
        yield search, turn, [parts[row][1] for row in rows], rows


class _Values(NamedTuple):
    """Of one turn under one candidate: mean w l, H_tail, mean token NLL of the reply."""

    weighted: float
    entropy: float
    nll: float


@dataclass(eq=False)
class _Search:
    """One session's candidates while they are mined."""

    model: Any
    problem: MiningProblem
    live: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings, model = self.settings, self.model
        self.table: Tensor = model.get_input_embeddings().weight.detach()
        start = self.problem.initial
        if start is None:
            shape = (settings.candidates, settings.length, self.table.shape[1])
            start = initial(*shape, std=settings.init_std, seed=self.problem.seed)
        device = self.table.device
        dtype = torch.float64 if self.table.dtype == torch.float64 else torch.float32
        # Copies: the caller's tensor must not be trained.
        self.raw = [torch.nn.Parameter(raw.clone().to(device, dtype)) for raw in start]
        self.optimizer = torch.optim.AdamW(
            self.raw, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self.inputs = [embed(model, (*c.prompt, *c.reply[:-1])) for c in self.cases]
        self.replies = [torch.tensor(c.reply, device=device) for c in self.cases]
        k, tau = settings.objective.neighbours, settings.objective.tau
        self.hoods: list[Neighbourhood] = [
            neighbourhood(reply, self.table, k, tau) for reply in self.replies
        ]
        self.live = list(range(len(self.raw)))
        self.best = [float("inf")] * len(self.raw)
        self.best_at = [0] * len(self.raw)
        self.trace: list[Step] = []
        self.trained = self.forward = 0
        self.begin()

    @property
    def settings(self) -> MiningSettings:
        return self.problem.settings

    @property
    def cases(self) -> tuple[Case, ...]:
        return self.problem.cases

    def goes_on(self, iteration: int) -> bool:
        return bool(self.live) and iteration < self.settings.iterations

    def begin(self, *, every: bool = False) -> None:
        """Forget the terms of the last iteration. `every`: take stopped candidates up again."""
        if every:
            self.live = list(range(len(self.raw)))
        self.optimizer.zero_grad(set_to_none=True)
        self.terms: dict[tuple[int, int], _Values] = {}

    def row(self, candidate: int, turn: int) -> Tensor:
        """Embeddings of P, S_t and the reply but its last token."""
        prompt = squash(self.raw[candidate], self.settings.scale)
        return torch.cat([prompt.to(self.inputs[turn].dtype), self.inputs[turn]])

    def judge(self, turn: int, candidates: list[int], logits: Tensor, *, gradients: bool) -> Tensor:
        """The turn's share of the sum of J over `candidates`, without the norm term."""
        reply = self.replies[turn]
        logits = logits[:, -len(reply) :]
        terms: Terms = turn_terms(
            logits, reply, self.hoods[turn], self.table, self.settings.objective
        )
        with torch.no_grad():
            nll = token_nll(logits, reply).mean(-1)
            values = torch.stack([terms.weighted, terms.entropy, nll], dim=1).tolist()
        for candidate, value in zip(candidates, values, strict=True):
            self.terms[candidate, turn] = _Values(*value)
        count = len(candidates) * (self.settings.length + self.cases[turn].tokens)
        if gradients:
            self.trained += count
        else:
            self.forward += count
        return terms.objective(self.settings.objective).sum() / len(self.cases)

    def step(self, iteration: int) -> None:
        """Clip each candidate's gradient, take the optimizer's step, retire who no longer gains."""
        settings = self.settings
        for candidate in list(self.live):
            raw = self.raw[candidate]
            penalty = norm_penalty(squash(raw[None], settings.scale))[0]
            (settings.objective.norm_weight * penalty).backward()
            gradient = torch.nn.utils.clip_grad_norm_([raw], settings.clip)
            loss, weighted, entropy = self._summed(candidate, float(penalty.detach()))
            self.trace.append(
                Step(
                    iteration=iteration,
                    candidate=candidate,
                    loss=loss,
                    weighted=weighted,
                    entropy=entropy,
                    norm=float(penalty.detach()),
                    gradient=float(gradient),
                )
            )
            if self._stalled(candidate, iteration, loss):
                self.live.remove(candidate)
                raw.grad = None  # the optimizer passes over what has no gradient
        self.optimizer.step()

    def finish(self, tokenizer: Any) -> Worked[Mined]:
        settings = self.settings
        prompts = torch.stack([squash(raw.detach(), settings.scale) for raw in self.raw])
        norms = norm_penalty(prompts).tolist()
        losses = [self._summed(c, norm)[0] for c, norm in enumerate(norms)]
        kept = sorted(range(len(losses)), key=lambda c: losses[c])[: settings.keep]
        turns = range(len(self.cases))
        mined = Mined(
            prompts=prompts[kept],
            kept=tuple(kept),
            losses=tuple(losses),
            turn_losses=torch.tensor([[self.terms[c, t].weighted for t in turns] for c in kept]),
            turn_nll=torch.tensor([[self.terms[c, t].nll for t in turns] for c in kept]),
            texts=tuple(verbalize(prompts[c], self.table, tokenizer)[1] for c in kept),
            trace=tuple(self.trace),
        )
        return Worked(mined, forward=self.forward, trained=self.trained)

    def _summed(self, candidate: int, norm: float) -> tuple[float, float, float]:
        """J, mean w l and mean H_tail of a candidate over the turns."""
        values = [self.terms[candidate, turn] for turn in range(len(self.cases))]
        weighted = fmean(v.weighted for v in values)
        entropy = fmean(v.entropy for v in values)
        objective = self.settings.objective
        loss = weighted - objective.anti_degeneration * entropy + objective.norm_weight * norm
        return loss, weighted, entropy

    def _stalled(self, candidate: int, iteration: int, loss: float) -> bool:
        best = self.best[candidate]
        if loss < best - self.settings.min_gain * abs(best) or best == float("inf"):
            self.best[candidate], self.best_at[candidate] = loss, iteration
        return iteration - self.best_at[candidate] >= self.settings.patience
