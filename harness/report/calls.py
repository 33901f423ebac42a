"""What reports read off the engine calls of a turn: retries, the reply's own call, work."""

from __future__ import annotations

from harness.record import CallRecord, SessionRecord, TurnRecord

REPLY = "reply"
"""The purpose of the call whose answer the user sees."""

_ENCODER = "encoder"


def tries_failed(turn: TurnRecord) -> int:
    """How many tries of the turn's calls failed before others succeeded."""
    return sum(len(call["failures"]) for call in turn["calls"])


def retried(session: SessionRecord) -> bool:
    """Whether any call of the session had to be tried again, so that its times include that."""
    return any(tries_failed(turn) for turn in session["turns"])


def reply_call(turn: TurnRecord) -> CallRecord | None:
    """The call that made the turn's reply: the last one of its purpose by who served the turn."""
    own = [c for c in turn["calls"] if (c["purpose"], c["role"]) == (REPLY, turn["served_by"])]
    return own[-1] if own else None


def is_work(call: CallRecord) -> bool:
    """Whether a call worked on a model's weights (mining, training, reading states off them).

    Such a call is no request: it has neither a prompt's hash nor a reason to stop.
    """
    if call["role"] == _ENCODER:
        return False
    return call["trained"] > 0 or (call["prompt_hash"] is None and call["stop_reason"] is None)
