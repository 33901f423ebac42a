"""Stage 2, localization: a fresh LoRA on G for this session, trained on F's replies by weight.

Minimizes mean over a batch of omega_t times the mean token NLL of a_t^F. The mined prompts are not
part of the input any more: what they taught is in the weights omega. SOMA, plain fine-tuning and
random fine-tuning differ in weights and schedule only, and all of them train here.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from harness.engines.transformers.adapters import (
    LoraAdapter,
    Site,
    TrainableAdapter,
    adaptable_sites,
    training,
)
from harness.engines.transformers.dropout import Dropout
from harness.method import Worked
from soma.cases import Case
from soma.forward import Row, embed, is_mixed, micro_batches, predict, token_budget
from soma.likelihood import token_nll


@dataclass(frozen=True)
class LoraSettings:
    """The adapter and how it is trained. `steps` optimizer steps of `batch` cases each.

    Training stops early when the batch loss has not fallen below its best, by a thousandth of it,
    for `patience` steps.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    batch: int = 2
    learning_rate: float = 2e-4
    weight_decay: float = 1e-2
    clip: float = 1.0
    patience: int = 20


_GAIN = 1e-3

Schedule = tuple[tuple[int, ...], ...]
"""For each optimizer step, the places of its cases."""


def epochs(cases: int, steps: int, batch: int, seed: int) -> Schedule:
    """Each case once per pass, in an order drawn anew for every pass."""
    rng, order = random.Random(seed), list[int]()
    while len(order) < steps * batch:
        order += rng.sample(range(cases), cases)
    return tuple(tuple(order[s * batch : (s + 1) * batch]) for s in range(steps))


def draws(cases: int, steps: int, batch: int, seed: int) -> Schedule:
    """Each case drawn at random, with replacement."""
    rng = random.Random(seed)
    return tuple(tuple(rng.choices(range(cases), k=batch)) for _ in range(steps))


@dataclass(eq=False)
class Training:
    """An adapter in the making, with its optimizer: it can be trained on, as the gate asks.

    Belongs to one session. `seed` decides its start and its dropout masks.
    """

    settings: LoraSettings
    seed: int
    adapter: TrainableAdapter | None = None
    best: float = float("inf")
    best_step: int = 0
    steps_done: int = 0
    losses: list[float] = field(default_factory=list)

    def prepare(self, model: Any, sites: Sequence[Site]) -> TrainableAdapter:
        """The adapter and its optimizer, made at the first lesson. Patience begins anew."""
        self.best, self.best_step = float("inf"), self.steps_done
        if self.adapter is None:
            s = self.settings
            self.adapter = TrainableAdapter(sites, rank=s.rank, alpha=s.alpha, seed=self.seed)
            self.masks = torch.Generator(device=model.device).manual_seed(self.seed)
            self.optimizer = torch.optim.AdamW(
                self.adapter.parameters(),
                lr=s.learning_rate,
                weight_decay=s.weight_decay,
                fused=True,
            )
        return self.adapter

    def step(self, loss: float) -> None:
        """Clip, update, and note the loss of the batch just done."""
        assert self.adapter is not None
        torch.nn.utils.clip_grad_norm_(self.adapter.parameters(), self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps_done += 1
        self.losses.append(loss)
        if loss < self.best * (1 - _GAIN) or self.best == float("inf"):
            self.best, self.best_step = loss, self.steps_done

    @property
    def stalled(self) -> bool:
        return self.steps_done - self.best_step >= self.settings.patience


@dataclass(frozen=True)
class Lesson:
    """What one session's adapter is to be trained on next; `weights` are omega, one per case."""

    training: Training
    cases: tuple[Case, ...]
    weights: tuple[float, ...]
    schedule: Schedule


@dataclass(frozen=True)
class Localized:
    """The adapter after a lesson, and the batch loss of every step of it."""

    adapter: LoraAdapter
    losses: tuple[float, ...]


def localize(
    model: Any, tokenizer: Any, lessons: Sequence[Lesson]
) -> Generator[None, None, list[Worked[Localized]]]:
    """Train several sessions' adapters together, each with its own optimizer and randomness.

    Work in the sense of `harness.method.Work`.
    """
    sites = adaptable_sites(model)
    adapters = [lesson.training.prepare(model, sites) for lesson in lessons]
    inputs = [[embed(model, (*c.prompt, *c.reply[:-1])) for c in le.cases] for le in lessons]
    replies = [[torch.tensor(c.reply, device=model.device) for c in le.cases] for le in lessons]
    starts = [lesson.training.steps_done for lesson in lessons]
    trained = [0] * len(lessons)
    for step in range(max(len(lesson.schedule) for lesson in lessons)):
        live = [
            place
            for place, lesson in enumerate(lessons)
            if step < len(lesson.schedule) and not lesson.training.stalled
        ]
        if not live:
            break
        losses = dict.fromkeys(live, 0.0)
        places = [(place, case) for place in live for case in lessons[place].schedule[step]]
        rows = [
            Row(i, len(inputs[place][case]), len(replies[place][case]))
            for i, (place, case) in enumerate(places)
        ]
        for group in micro_batches(rows, token_budget(model), mixed=is_mixed(model)):
            parts = [places[row.index] for row in group]
            owners = [place for place, _ in parts]
            dropout = _dropout(lessons, owners, [row.length for row in group])
            with torch.enable_grad(), training(adapters, owners, dropout):
                embeds = [inputs[place][case] for place, case in parts]
                logits = predict(model, embeds, max(row.reply for row in group))
                parts_of_loss = []
                for at, (place, case) in enumerate(parts):
                    reply = replies[place][case]
                    nll = token_nll(logits[at : at + 1, -len(reply) :], reply).mean()
                    loss = nll * lessons[place].weights[case] / len(lessons[place].schedule[step])
                    losses[place] += float(loss.detach())
                    trained[place] += lessons[place].cases[case].tokens
                    parts_of_loss.append(loss)
                torch.stack(parts_of_loss).sum().backward()
            yield
        for place in live:
            lessons[place].training.step(losses[place])
    return [
        Worked(Localized(a.freeze(), tuple(le.training.losses[start:])), trained=count)
        for a, le, start, count in zip(adapters, lessons, starts, trained, strict=True)
    ]


def _dropout(
    lessons: Sequence[Lesson], owners: Sequence[int], lengths: Sequence[int]
) -> Dropout | None:
    p = lessons[0].training.settings.dropout
    if not p:
        return None
    return Dropout(p, [lesson.training.masks for lesson in lessons], owners, lengths)
