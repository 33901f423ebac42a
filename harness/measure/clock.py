"""What happened when in one session: turns, spans, events and engine calls on one clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.method import Completion, EngineTiming, Reply
from harness.record import (
    CallRecord,
    EngineTimingRecord,
    EventRecord,
    SpanRecord,
    TurnRecord,
)


def _engine_timing(timing: EngineTiming | None) -> EngineTimingRecord | None:
    if timing is None:
        return None
    return {"queue_s": timing.queue_s, "ttft_s": timing.ttft_s, "e2e_s": timing.e2e_s}


def union_length(intervals: list[tuple[float, float]]) -> float:
    """Total time covered by `intervals` (start, end), overlaps counted once, in seconds."""
    total, reach = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reach))
        reach = max(reach, end)
    return total


@dataclass
class SessionClock:
    """Collects one session's timeline. `synchronize` waits for the device at span edges.

    Work before the first turn (a Method's `open`) belongs to the first turn's record. `windows`
    are the times in which a user waits, one per turn; `busy_marks` the busy time by each turn's
    end. `origin`: the time on this clock from which turns' arrivals are counted.
    """

    synchronize: Callable[[], None] = lambda: None
    origin: float = 0.0
    now: Callable[[], float] = time.perf_counter
    busy: list[tuple[float, float]] = field(default_factory=list)
    windows: list[tuple[float, float]] = field(default_factory=list)
    busy_marks: list[float] = field(default_factory=list)
    _turn_start: float = 0.0
    _window_start: float = 0.0
    _spans: list[SpanRecord] = field(default_factory=list)
    _events: list[EventRecord] = field(default_factory=list)
    _calls: list[CallRecord] = field(default_factory=list)

    def start(self) -> float:
        """Begin the session; returns the time."""
        self._turn_start = self._window_start = self.now()
        return self._turn_start

    def start_turn(self) -> None:
        """A user turn arrives. Spans and calls noted since the last turn stay with this one."""
        self._turn_start = self.now()
        if self.windows:
            self._window_start = self._turn_start

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        self.synchronize()
        start = self.now()
        try:
            yield
        finally:
            self.synchronize()
            end = self.now()
            self.busy.append((start, end))
            self._spans.append(SpanRecord(name=name, start_s=start, duration_s=end - start))

    def event(self, kind: str, data: dict[str, Any]) -> None:
        self._events.append(EventRecord(kind=kind, at_s=self.now(), data=data))

    def completed(self, start: float, purpose: str, completion: Completion) -> None:
        """An engine answered; `start` is when the Method asked."""
        end = self.now()
        self.busy.append((start, end))
        self._calls.append(
            CallRecord(
                role=completion.role,
                purpose=purpose,
                prompt=completion.tokens.prompt,
                cached=completion.tokens.cached,
                output=completion.tokens.output,
                start_s=start,
                queue_s=completion.started_at - completion.sent_at,
                duration_s=end - start,
                prompt_hash=completion.prompt_hash,
                stop_reason=completion.stop_reason,
                reasoning=completion.tokens.reasoning,
                failures=list(completion.failures),
                engine=_engine_timing(completion.engine),
                trained=0,
            )
        )

    def worked(
        self, start: float, role: str, purpose: str, *, forward: int, trained: int, queue_s: float
    ) -> None:
        """Work on a model's weights ended; tokens that it only read, and those it trained on."""
        end = self.now()
        self.busy.append((start, end))
        self._calls.append(
            CallRecord(
                role=role,
                purpose=purpose,
                prompt=forward,
                cached=0,
                output=0,
                trained=trained,
                start_s=start,
                queue_s=queue_s,
                duration_s=end - start,
                prompt_hash=None,
                stop_reason=None,
                reasoning=0,
                failures=[],
                engine=None,
            )
        )

    def embedded(self, start: float, tokens: int) -> None:
        """The encoder embedded texts of `tokens` tokens in all."""
        end = self.now()
        self.busy.append((start, end))
        self._calls.append(
            CallRecord(
                role="encoder",
                purpose="embed",
                prompt=tokens,
                cached=0,
                output=0,
                start_s=start,
                queue_s=0.0,
                duration_s=end - start,
                prompt_hash=None,
                stop_reason=None,
                reasoning=0,
                failures=[],
                engine=None,
                trained=0,
            )
        )

    def waited(self) -> tuple[float, float]:
        """Seconds that a user waited in all, and those of them in no engine call and no span."""
        waited = sum(end - start for start, end in self.windows)
        covered = sum(self._busy_between(start, end) for start, end in self.windows)
        return waited, waited - covered

    def _busy_between(self, begin: float, end: float) -> float:
        inside = [(max(a, begin), min(b, end)) for a, b in self.busy if b > begin and a < end]
        return union_length(inside)

    def end_session(self, last: TurnRecord) -> None:
        """Charge what was done after the last reply (in the Method's `close`) to the last turn."""
        self._hand_over(last)
        self.busy_marks[-1] = union_length(self.busy)

    def end_turn(self, turn_index: int, user: str, reply: Reply) -> TurnRecord:
        """Close the current turn and hand out its record, not charged yet."""
        end = self.now()
        self.windows.append((self._window_start, end))
        self.busy_marks.append(union_length(self.busy))
        done = reply.completion
        ttft = done.first_token_at - self._turn_start
        e2e = done.last_token_at - self._turn_start
        output = done.tokens.output
        shown = output - done.tokens.reasoning
        record = TurnRecord(
            turn_index=turn_index,
            at_s=self._turn_start - self.origin,
            user=user,
            reply=done.text,
            served_by=reply.served_by,
            stop_reason=done.stop_reason,
            prompt_hash=done.prompt_hash,
            tokens={
                "prompt": done.tokens.prompt,
                "cached": done.tokens.cached,
                "output": output,
            },
            timing={
                "ttft_s": ttft,
                "tpot_s": (e2e - ttft) / (shown - 1) if shown > 1 else None,
                "e2e_s": e2e,
                "turn_s": end - self._turn_start,
            },
            spans=[],
            events=[],
            calls=[],
            busy_s=0.0,
            usd=None,
        )
        self._hand_over(record)
        return record

    def _hand_over(self, turn: TurnRecord) -> None:
        """Give a turn what was noted since the one before, timed from its own start."""
        start = self._turn_start
        turn["spans"] += [{**s, "start_s": s["start_s"] - start} for s in self._spans]
        turn["events"] += [{**e, "at_s": e["at_s"] - start} for e in self._events]
        turn["calls"] += [{**c, "start_s": c["start_s"] - start} for c in self._calls]
        self._spans, self._events, self._calls = [], [], []
