"""Serving while another session's work on weights (mining, training) runs on the same machine.

All times of a window count from its beginning, so that calls of different sessions can be laid
beside each other. docs/metrics.md ("Adaptation under load") defines every number.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.record import CallRecord, SessionRecord, TurnRecord
from harness.report.calls import is_work, reply_call, tries_failed
from harness.report.metric_list import call_ttft_s
from harness.report.read import ALL, RunData, attempt
from harness.stats import Attempt, Key, cluster_mean

When = Literal["during", "otherwise", "own"]
_TIMES = ("ttft_s", "tpot_s")


@dataclass(frozen=True)
class Span:
    """Something that a session did, in seconds since its window began."""

    whose: Attempt
    start: float
    end: float


@dataclass(frozen=True)
class _Answer:
    """A reply's own call with its times; `tpot_s` None for a reply of one token."""

    key: Key
    role: str
    when: When
    ttft_s: float
    tpot_s: float | None


def adaptation_under_load(data: RunData) -> list[dict[str, Any]]:
    """One entry per (method, serving role) that answered both during such work and without any.

    As JSON values; none where the run's machines are of several classes.
    """
    if data.timing_refused:
        return []
    entries = []
    for method in data.methods:
        answers = list(_answers(data.of(ALL, method).served))
        for role in sorted({answer.role for answer in answers}):
            entry = _entry(method, role, [a for a in answers if a.role == role])
            entries += [entry] if entry else []
    return entries


def when(call: Span, works: Works) -> When:
    """Whether another session's work overlapped `call`, else only its own session's, or none."""
    seen = {work.whose == call.whose for work in works.overlapping(call)}
    if False in seen:
        return "during"
    return "own" if seen else "otherwise"


class Works:
    """The work on weights in one window, to be asked for what overlaps a call."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self._spans = sorted(spans, key=lambda span: span.start)
        self._starts = [span.start for span in self._spans]
        self._longest = max((span.end - span.start for span in self._spans), default=0.0)

    def overlapping(self, call: Span) -> Iterator[Span]:
        first = bisect_left(self._starts, call.start - self._longest)
        last = bisect_left(self._starts, call.end)
        return (span for span in self._spans[first:last] if span.end > call.start)


def _answers(sessions: Sequence[SessionRecord]) -> Iterator[_Answer]:
    windows: dict[str, list[SessionRecord]] = defaultdict(list)
    for session in sessions:
        if session["load"] is not None:
            windows[session["load"]["window"]].append(session)
    for group in windows.values():
        works = Works(span for session in group for span in _works(session))
        for session in group:
            for turn in session["turns"]:
                call = reply_call(turn)
                if call is not None and not tries_failed(turn):
                    yield _answer(session, turn, call, works)


def _works(session: SessionRecord) -> Iterator[Span]:
    """From where a work began, its wait for other work left out, to its end."""
    for turn in session["turns"]:
        for call in turn["calls"]:
            if is_work(call):
                start = turn["at_s"] + call["start_s"]
                yield Span(attempt(session), start + call["queue_s"], start + call["duration_s"])


def _answer(session: SessionRecord, turn: TurnRecord, call: CallRecord, works: Works) -> _Answer:
    start = turn["at_s"] + call["start_s"]
    ttft = call_ttft_s(turn)
    assert ttft is not None
    return _Answer(
        Key(*attempt(session), turn["turn_index"]),
        call["role"],
        when(Span(attempt(session), start, start + call["duration_s"]), works),
        ttft,
        turn["timing"]["tpot_s"],
    )


def _entry(method: str, role: str, answers: list[_Answer]) -> dict[str, Any] | None:
    kinds = [answer.when for answer in answers]
    if not {"during", "otherwise"} <= set(kinds):
        return None
    return {
        "method": method,
        "role": role,
        "own": kinds.count("own"),
        **{name: _compared(name, answers) for name in _TIMES},
    }


def _compared(name: str, answers: list[_Answer]) -> dict[str, Any]:
    during, otherwise = (
        {
            answer.key: value
            for answer in answers
            if answer.when == kind and (value := getattr(answer, name)) is not None
        }
        for kind in ("during", "otherwise")
    )
    left, right = _by_session(during), _by_session(otherwise)
    change = {key: left[key] - right[key] for key in left.keys() & right.keys()}
    return {
        "during": cluster_mean(during),
        "otherwise": cluster_mean(otherwise),
        "change": cluster_mean(change),
    }


def _by_session(values: dict[Key, float]) -> dict[Key, float]:
    """Each session's mean, under its turn 0."""
    grouped: dict[Key, list[float]] = defaultdict(list)
    for key in sorted(values):
        grouped[Key(*key.attempt, 0)].append(values[key])
    return {key: sum(group) / len(group) for key, group in grouped.items()}
