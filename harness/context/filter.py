"""The filter itself: scores every later turn of a session and says whether the session stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.context.cache import ScoreCache, content_key
from harness.context.cues import cues
from harness.context.likelihood import Gain, LikelihoodModel, identity
from harness.context.panel import Panel
from harness.context.settings import ContextSettings, PanelSettings
from harness.method import Message, assistant, chat, user
from harness.session import Session
from harness.task import Drop
from harness.user_cache import cache_root

CONTEXT_INDEPENDENT = "context_independent"
SINGLE_TURN = "single_turn"


@dataclass(frozen=True)
class TurnScore:
    """Of one later turn: its score, whether it reaches the threshold, and what made it up."""

    turn_index: int
    score: float
    depends: bool
    cues: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """Of one session: its later turns' scores and the share of them that depend."""

    turns: tuple[TurnScore, ...]
    keep: bool

    @property
    def share(self) -> float:
        return sum(t.depends for t in self.turns) / len(self.turns) if self.turns else 0.0

    @property
    def mean(self) -> float | None:
        return sum(t.score for t in self.turns) / len(self.turns) if self.turns else None


class ContextFilter:
    """Judges sessions by likelihood, or by a panel where the settings name one.

    The model is loaded when the first turn is not found among the cached scores.
    """

    def __init__(self, settings: ContextSettings, cache: Path | None = None) -> None:
        """`cache`: the file of scores; None, the one in the user's cache folder."""
        self._settings = settings
        self._cache = ScoreCache(cache or cache_root() / "context" / "scores.sqlite")

    def __call__(self, session: Session) -> Drop | None:
        """Why the session is left out; None where it stays."""
        verdict = self.judge(session)
        if verdict.keep:
            return None
        if not verdict.turns:
            return Drop(SINGLE_TURN, str(session.source.get("file", session.task)), session.id)
        depending = sum(t.depends for t in verdict.turns)
        return Drop(
            CONTEXT_INDEPENDENT,
            str(session.source.get("file", session.task)),
            f"{session.id}: {depending} of {len(verdict.turns)} later turns depend",
            score=verdict.mean,
        )

    def judge(self, session: Session) -> Verdict:
        """Score every turn after the first."""
        scores = []
        history: list[Message] = chat(session.system, [])
        references = session.references or (None,) * len(session.turns)
        for index, (turn, reference) in enumerate(zip(session.turns, references, strict=True)):
            if index:
                scores.append(self._score(index + 1, history, turn, reference, session.language))
            history.append(user(turn))
            if reference is not None:
                history.append(assistant(reference))
        verdict = Verdict(tuple(scores), keep=False)
        keep = bool(scores) and verdict.share >= self._settings.min_share
        return Verdict(verdict.turns, keep)

    def close(self) -> None:
        self._cache.close()

    def _score(
        self,
        turn_index: int,
        history: Sequence[Message],
        turn: str,
        reference: str | None,
        language: str,
    ) -> TurnScore:
        panel = self._settings.panel
        if panel is not None:
            share = self._vote(panel, history, turn)
            return TurnScore(turn_index, share, share > 0.5, ())
        found = cues(turn, language)
        score = self._gain(history, turn, reference).share
        score += self._settings.cue_bonus if found else 0.0
        return TurnScore(turn_index, score, score >= self._settings.threshold, found)

    def _gain(self, history: Sequence[Message], turn: str, reference: str | None) -> Gain:
        what = {"history": list(history), "turn": turn, "reply": reference}
        of_turn, of_reply, alone = self._once(
            {**identity(self._settings), **what},
            lambda: self._measured(history, turn, reference),
        )
        return Gain(of_turn, of_reply, alone)

    def _measured(
        self, history: Sequence[Message], turn: str, reference: str | None
    ) -> tuple[float, ...]:
        model = self._model
        reply = model.answer(history, turn) if reference is None else reference
        gain = model.gain(history, turn, reply)
        return (gain.turn, gain.reply, gain.alone)

    def _vote(self, panel: PanelSettings, history: Sequence[Message], turn: str) -> float:
        what = {"url": panel.url, "models": list(panel.models)}
        (share,) = self._once(
            {**what, "history": list(history), "turn": turn},
            lambda: (self._panel.vote(history, turn),),
        )
        return share

    def _once(
        self, parts: dict[str, Any], compute: Callable[[], tuple[float, ...]]
    ) -> tuple[float, ...]:
        key = content_key(parts)
        found = self._cache.get(key)
        if found is None:
            found = compute()
            self._cache.put(key, found)
        return found

    @cached_property
    def _model(self) -> LikelihoodModel:
        return LikelihoodModel(self._settings)

    @cached_property
    def _panel(self) -> Panel:
        if self._settings.panel is None:
            raise RuntimeError("the settings name no panel")
        return Panel(self._settings.panel)
