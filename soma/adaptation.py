"""Stages 1 to 3 for one warm start: mine, weigh, train, measure the Gap, and train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from harness.engines.transformers.adapters import LoraAdapter
from harness.method import Engines
from soma.cases import Case, Limits
from soma.encoder import Phi, embed
from soma.gate import centroid, gap
from soma.hardness import Fidelity, hardness, turn_weights
from soma.localization import (
    Lesson,
    Localized,
    LoraSettings,
    Schedule,
    Training,
    epochs,
    localize,
)
from soma.mining import Mined, MiningProblem, MiningSettings, mine
from soma.warm_start import Dialogue

MinedCases = Literal["warm", "verbalized"]


@dataclass(frozen=True)
class AdaptationSettings:
    """`holdout`: warm turns kept back for the gate. `gate`: whether the Gap is measured at all.

    `epsilon`: the mean Gap up to which training goes on to all turns.
    """

    fidelity: Fidelity
    mining: MiningSettings
    lora: LoraSettings
    steps: int
    mined_cases: MinedCases
    limits: Limits
    gate: bool
    epsilon: float
    holdout: int
    phi: Phi


@dataclass(frozen=True)
class Adapted:
    """`gaps`: of the acceptance batch, empty without a gate. `centroid`: of the warm queries."""

    adapter: LoraAdapter
    gaps: tuple[float, ...]
    centroid: tuple[float, ...]


@dataclass(frozen=True)
class Payer:
    """Who waits for an adaptation: the user of `turn` when it blocks, nobody in the background."""

    mode: Literal["blocking", "background"]
    turn: int | None


async def adapt(
    dialogue: Dialogue, places: Sequence[int], settings: AdaptationSettings, payer: Payer
) -> Adapted | None:
    """Adapt G to the warm turns at `places`. None when F said nothing in them to learn from.

    Of the steps, the share of the turns that are not held out comes before the gate, the rest
    after it, on all turns and only if the Gap allows.
    """
    engines = dialogue.engines
    with engines.span("adaptation"):
        mined, weights = await _mine(dialogue, places, settings)
        if mined is None:
            return None
        cases, omegas = await _cases(dialogue, weights, mined, settings)
        held = _held_out(list(weights), settings)
        known = [i for i, case in enumerate(cases) if case.turn_index - 1 not in held]
        before = max(1, round(settings.steps * (1 - len(held) / len(weights))))
        lessons = Lessons(engines, settings.lora, payer)
        localized = await lessons.train(
            [cases[i] for i in known],
            [omegas[i] for i in known],
            epochs(len(known), before, settings.lora.batch, engines.seed),
            "before_gate" if held else "all",
        )
        gaps = await _gaps(dialogue, held or list(weights), localized.adapter, settings)
        left = settings.steps - before
        if held and left and fmean(gaps) <= settings.epsilon:
            schedule = epochs(len(cases), left, settings.lora.batch, engines.seed + 1)
            localized = await lessons.train(cases, omegas, schedule, "all")
        queries = [dialogue.turns[place].query for place in places]
        center = centroid(await embed(engines, settings.phi, queries))
    return Adapted(localized.adapter, tuple(gaps), tuple(center))


async def _mine(
    dialogue: Dialogue, places: Sequence[int], settings: AdaptationSettings
) -> tuple[Mined | None, dict[int, float]]:
    """Mined prompts, and omega_t by place for the turns that can be learned from."""
    found = {place: dialogue.mining_case(place, settings.limits) for place in places}
    cases = {place: case for place, case in found.items() if case is not None}
    if not cases:
        return None, {}
    engines = dialogue.engines
    problem = MiningProblem(tuple(cases.values()), settings.mining, engines.seed)
    with engines.span("mining"):
        mined = await engines.G.work(mine, problem, key=settings.mining, purpose="mining")
    hard = hardness(mined, settings.fidelity)
    weights = turn_weights(hard)
    engines.event(
        "mined",
        turns=[place + 1 for place in cases],
        candidates=settings.mining.candidates,
        kept=list(mined.kept),
        losses=list(mined.losses),
        prompts=list(mined.texts),
        hardness=hard,
        weights=weights,
        fidelity=settings.fidelity,
        trace=list(mined.trace),
    )
    return mined, dict(zip(cases, weights, strict=True))


async def _cases(
    dialogue: Dialogue, weights: dict[int, float], mined: Mined, settings: AdaptationSettings
) -> tuple[list[Case], list[float]]:
    """Training cases and their omega: the warm turns, and F's replies under V(P) if asked for."""
    cases: list[Case] = []
    omegas: list[float] = []
    for place, weight in weights.items():
        found = [await dialogue.training_case(place, settings.limits)]
        if settings.mined_cases == "verbalized":
            for text in mined.texts:
                with dialogue.engines.span("probing"):
                    probe = await dialogue.probe_f(place, text)
                found.append(await dialogue.probed_case(place, text, probe, settings.limits))
        for case in found:
            if case is not None:
                cases.append(case)
                omegas.append(weight)
    return cases, omegas


def _held_out(places: list[int], settings: AdaptationSettings) -> list[int]:
    """The last warm turns, which the adapter does not train on before the gate."""
    if not settings.gate or not settings.holdout:
        return []
    return places[-settings.holdout :] if len(places) > settings.holdout else []


class Lessons:
    """What one adapter is trained on, lesson by lesson. Every method that trains does so here."""

    def __init__(self, engines: Engines, lora: LoraSettings, payer: Payer) -> None:
        self._engines = engines
        self._payer = payer
        self._training = Training(lora, engines.seed)

    async def train(
        self, cases: Sequence[Case], weights: Sequence[float], schedule: Schedule, stage: str
    ) -> Localized:
        """Train on `cases` with omega `weights`, and note what came of it under `stage`."""
        lesson = Lesson(self._training, tuple(cases), tuple(weights), schedule)
        with self._engines.span("training"):
            localized = await self._engines.G.work(
                localize, lesson, key=self._training.settings, purpose="training"
            )
        losses = localized.losses
        self._engines.event(
            "adapted",
            stage=stage,
            mode=self._payer.mode,
            paid_by_turn=self._payer.turn,
            cases=[case.turn_index for case in cases],
            weights=list(weights),
            planned_steps=len(schedule),
            steps=len(losses),
            first_loss=losses[0] if losses else None,
            last_loss=losses[-1] if losses else None,
        )
        return localized


async def _gaps(
    dialogue: Dialogue, places: Sequence[int], adapter: LoraAdapter, settings: AdaptationSettings
) -> list[float]:
    """Gap of the adapted G's replies to F's on the acceptance batch."""
    if not settings.gate:
        return []
    with dialogue.engines.span("gating"):
        gaps = []
        for place in places:
            theirs, ours = dialogue.turns[place].reply, await dialogue.replay_g(place, adapter)
            gaps.append(await reply_gap(dialogue.engines, settings.phi, theirs, ours))
    return gaps


async def reply_gap(engines: Engines, phi: Phi, theirs: str, ours: str) -> float:
    """Gap of two replies; 0 for the same text, also where both are empty."""
    if theirs == ours:
        return 0.0
    return gap(*await embed(engines, phi, [theirs, ours]))
