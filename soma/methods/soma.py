"""F serves the first turns, G is adapted to the session and takes over, and F returns on drift.

The full SOMA pipeline (arXiv 2605.11317): mining, localization, gate, drift monitor, rollback.
"""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field, model_validator

from harness.method import Conversation, Engines
from harness.session import Session
from soma.adaptation import AdaptationSettings, MinedCases
from soma.adaptive import AdaptiveConversation, AfterRollback, Course, Mode
from soma.arguments import TrainedMethod
from soma.drift import DriftSettings, Signal
from soma.encoder import Phi
from soma.gate import GateSettings
from soma.hardness import Fidelity
from soma.mining import MiningSettings
from soma.objective import Objective

V = TypeVar("V")


class Soma(TrainedMethod):
    """Every argument is explained in docs/soma.md.

    fidelity: "paper" or "released"; arguments left out (None) follow it. expectation_weight and
    anti_degeneration set to 0, gate and rollback to false are the ablations.
    """

    fidelity: Fidelity = "paper"

    prompt_length: int = Field(default=16, ge=1)
    candidates: int = Field(default=3, ge=1)
    keep: int = Field(default=2, ge=1)
    iterations: int = Field(default=30, ge=1)
    mining_rate: float = Field(default=1e-3, gt=0)
    mining_patience: int = Field(default=5, ge=1)
    neighbours: int = Field(default=32, ge=1)
    tau: float = Field(default=0.7, gt=0)
    top_m: int = Field(default=100, ge=1)
    expectation_weight: float = Field(default=1.0, ge=0)
    anti_degeneration: float = Field(default=0.05, ge=0)
    norm_weight: float = Field(default=1e-4, ge=0)
    tail: int = Field(default=8, ge=1)
    mined_cases: MinedCases = "warm"

    gate: bool = True
    epsilon: float | None = Field(default=None, ge=0, le=2)
    min_locality: float | None = Field(default=None, ge=-1, le=1)
    holdout_turns: int | None = Field(default=None, ge=0)
    gate_encoder: Phi | None = None

    adaptation: Mode = "blocking"

    rollback: bool = True
    after_rollback: AfterRollback = "stay"
    drift_signal: Signal | None = None
    drift_threshold: float = Field(default=0.30, ge=0, le=2)
    drift_window: int = Field(default=4, ge=1)
    m_cons: int = Field(default=2, ge=1)
    probe_every: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _possible(self) -> Soma:
        if self.keep > self.candidates:
            raise ValueError(
                f"keep {self.keep} is more than candidates {self.candidates}; keep at most those"
            )
        holdout = self.holdout_turns
        if holdout is not None and self.warm_turns is not None and holdout >= self.warm_turns:
            raise ValueError(
                f"holdout_turns {holdout} leaves nothing of {self.warm_turns} turns to train on; "
                "hold fewer back"
            )
        if self.probe_every == 0 and self._follow(self.drift_signal, "gap", "locality") == "gap":
            raise ValueError(
                'probe_every = 0 leaves drift_signal "gap" without any Gap; probe at times, or use '
                '"locality"'
            )
        return self

    async def open(self, session: Session, engines: Engines) -> Conversation:
        return AdaptiveConversation(self._course(engines), self.dialogue(session, engines))

    def _course(self, engines: Engines) -> Course:
        return Course(
            warm_turns=self.warm(engines),
            mode=self.adaptation,
            adaptation=self._adaptation(),
            gate=GateSettings(self._epsilon(), self._min_locality()),
            drift=DriftSettings(
                signal=self._follow(self.drift_signal, "gap", "locality"),
                min_locality=self._min_locality(),
                threshold=self.drift_threshold,
                window=self.drift_window,
                m_cons=self.m_cons,
                probe_every=self._follow(self.probe_every, 3, 0),
            ),
            rollback=self.rollback,
            after_rollback=self.after_rollback,
            keep_adapter=self.keep_adapter,
        )

    def _adaptation(self) -> AdaptationSettings:
        return AdaptationSettings(
            fidelity=self.fidelity,
            mining=self._mining(),
            lora=self.lora(),
            steps=self.steps,
            mined_cases=self.mined_cases,
            limits=self.limits(),
            gate=self.gate,
            epsilon=self._epsilon(),
            holdout=self._follow(self.holdout_turns, 1, 0),
            phi=self._phi(),
        )

    def _mining(self) -> MiningSettings:
        return MiningSettings(
            length=self.prompt_length,
            candidates=self.candidates,
            keep=self.keep,
            iterations=self.iterations,
            learning_rate=self.mining_rate,
            patience=self.mining_patience,
            objective=Objective(
                neighbours=self.neighbours,
                tau=self.tau,
                top_m=self.top_m,
                expectation_weight=self.expectation_weight,
                anti_degeneration=self.anti_degeneration,
                norm_weight=self.norm_weight,
                tail=self.tail,
            ),
        )

    def _phi(self) -> Phi:
        return self._follow(self.gate_encoder, "pair", "G")

    def _min_locality(self) -> float:
        """Short follow-ups lie far apart for a sentence encoder, close together for G's states."""
        if self.min_locality is not None:
            return self.min_locality
        return 0.10 if self._phi() == "pair" else 0.35

    def _epsilon(self) -> float:
        return self._follow(self.epsilon, 0.12, 0.20)

    def _follow(self, given: V | None, paper: V, released: V) -> V:
        if given is not None:
            return given
        return paper if self.fidelity == "paper" else released
