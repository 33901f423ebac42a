"""The sessions of `chat` under the synthetic method `shift`, for tests of reports.

- c1: adapted in turn 3 while its user waits 2 s; the gate accepts; G answers turns 3 and 4, and
  F is probed in turn 4.
- c2: adapted in the background for the 2 s before turn 3; the gate refuses; F answers every turn.
- c3: adapted in turn 2 while its user waits 2 s; the gate accepts; G answers turns 2 and 3; both
  checks fail, and F answers turn 4.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

G_TURNS = MappingProxyType({1: (3, 4), 2: (), 3: (2, 3)})
"""The turns that G answers, by session number."""

ADAPTATION_S = 2.0
TRAINED = 500
PROBE = MappingProxyType({"prompt": 400, "output": 11})


def adapt(turns: list[dict[str, Any]], number: int) -> None:
    """Add to the turns of session `number` the events, spans and calls described above."""
    at = {1: 3, 2: 3, 3: 2}[number]
    _train(turns[at - 1], waits=number != 2)
    if number == 2:
        _event(turns[2], "gate", **_gate(accepted=False, gap=0.4, locality=0.6))
        return
    _event(turns[at - 1], "gate", **_gate(accepted=True, gap=0.08, locality=0.7))
    _event(turns[at - 1], "switched", to="G", gap=0.08, locality=0.7)
    if number == 1:
        _check(turns[2], locality=0.7, gap=None, moving=None, failures=0)
        _check(turns[3], locality=0.5, gap=0.1, moving=0.1, failures=0)
        _probe(turns[3])
    else:
        _check(turns[1], locality=0.7, gap=0.5, moving=0.5, failures=1)
        _check(turns[2], locality=0.2, gap=0.7, moving=0.6, failures=2)
        _event(turns[2], "rolled_back", to="F", reason="2 in a row", consecutive=2, serves_from=4)
        _probe(turns[1])
        _probe(turns[2])


def busy_s(turn: dict[str, Any]) -> float:
    """The turn's own time, and that of an adaptation that nobody waited for."""
    lengths = {span["name"]: span["duration_s"] for span in turn["spans"]}
    background = lengths.get("adaptation", 0.0) - lengths.get("adaptation_wait", 0.0)
    return float(turn["timing"]["turn_s"] + background)


def _train(turn: dict[str, Any], *, waits: bool) -> None:
    start = 0.0 if waits else -ADAPTATION_S  # in the background it ends as the turn begins
    turn["spans"].append({"name": "adaptation", "start_s": start, "duration_s": ADAPTATION_S})
    if waits:
        turn["spans"].append(
            {"name": "adaptation_wait", "start_s": 0.0, "duration_s": ADAPTATION_S}
        )
        for name in ("ttft_s", "e2e_s", "turn_s"):
            turn["timing"][name] += ADAPTATION_S
        turn["calls"][0]["start_s"] += ADAPTATION_S  # the reply is asked for when it is over
    training = _call("G", "training", prompt=0, output=0, trained=TRAINED)
    turn["calls"].append(training | {"start_s": start, "duration_s": ADAPTATION_S})
    _event(turn, "mined", losses=[0.5, 0.4, 0.6], kept=[1, 0], hardness=[1.0, 2.0])
    mode = "blocking" if waits else "background"
    for stage in ("before_gate", "all"):
        _event(turn, "adapted", stage=stage, mode=mode, steps=10, first_loss=2.0, last_loss=1.0)


def _gate(*, accepted: bool, gap: float, locality: float) -> dict[str, Any]:
    limits = {"epsilon": 0.12, "min_locality": 0.35}
    return {"accepted": accepted, "gap": gap, "gaps": [gap], "locality": locality, **limits}


def _check(
    turn: dict[str, Any], *, locality: float, gap: float | None, moving: float | None, failures: int
) -> None:
    _event(
        turn,
        "drift_check",
        locality=locality,
        min_locality=0.35,
        gap=gap,
        moving_gap=moving,
        threshold=0.3,
        failed=failures > 0,
        consecutive=failures,
        m_cons=2,
        alarm=failures == 2,
    )


def _probe(turn: dict[str, Any]) -> None:
    turn["calls"].append(_call("F", "probe", trained=0, **PROBE))


def _call(role: str, purpose: str, *, prompt: int, output: int, trained: int) -> dict[str, Any]:
    return {
        "role": role,
        "purpose": purpose,
        "prompt": prompt,
        "cached": 0,
        "output": output,
        "trained": trained,
        "start_s": 0.0,
        "queue_s": 0.0,
        "duration_s": 0.0,
        "prompt_hash": None,
        "stop_reason": None,
        "reasoning": 0,
        "failures": [],
        "engine": None,
    }


def _event(turn: dict[str, Any], kind: str, **data: Any) -> None:
    turn["events"].append({"kind": kind, "at_s": 0.0, "data": data})
