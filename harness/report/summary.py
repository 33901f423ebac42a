"""`summary.json`: every mean of a run with its n, interval and outcome counts."""

from __future__ import annotations

from math import isinf
from pathlib import Path
from typing import Any

from harness.report.adaptation import adaptation_counts, never_switchable
from harness.report.adaptation_load import adaptation_under_load
from harness.report.break_even import break_even
from harness.report.calls import retried, tries_failed
from harness.report.load import load, objectives
from harness.report.metric_list import METRICS
from harness.report.metrics import Metric, Values, read_scores, read_values
from harness.report.planted_drift import planted_drift
from harness.report.prefix_cache import turn_groups
from harness.report.read import ALL, Cell, RunData, attempt, read_run
from harness.stats import (
    LEVEL,
    PERCENTILE_MINIMUM,
    RESAMPLES,
    SEED,
    Attempt,
    Key,
    UnpairedSessions,
    cluster_mean,
    no_estimate,
    paired_difference,
    paired_relative,
    percentile,
    require_same_sessions,
)
from harness.store import SUMMARY, write_json

SUMMARY_SCHEMA = 3

_BY_MACHINE = ("s", "bytes", "usd")
"""Units of what cannot be compared between unlike machines."""


def summarize(run: Path) -> dict[str, Any]:
    """Compute the summary of a scored run and write it to `summary.json`; docs/summary.md names it.

    Raises UserError when the folder is no run or has no scores.
    """
    summary = build_summary(read_run(run))
    write_summary(run, summary)
    return summary


def write_summary(run: Path, summary: dict[str, Any]) -> Path:
    write_json(run / SUMMARY, summary)
    return run / SUMMARY


def build_summary(data: RunData) -> dict[str, Any]:
    """The summary as JSON values, without NaN or infinity."""
    spec = data.spec
    return {
        "schema": SUMMARY_SCHEMA,
        "profile": spec["profile"],
        "spec_hash": data.manifest["spec_hash"],
        "pair": spec["pair"]["name"],
        "machine": data.manifest["hardware"].get("machine_class"),
        "machine_classes": data.machine_classes,
        "workers": data.worker_count,
        "timing_refused": data.timing_refused,
        "history": spec["history"],
        "prefix_cache": _prefix_cache(data),
        "concurrency": spec["concurrency"],
        "arrival_rate": spec["arrival_rate"],
        "think_time_s": spec["think_time_s"],
        "objectives": objectives(spec) or None,
        "seeds": list(spec["seeds"]),
        "generation": spec["generation"],
        "reference": data.reference,
        "cached_reference": data.cached_reference,
        "methods": data.methods,
        "tasks": data.tasks,
        "scorers": data.scorer_names,
        "sessions_asked": {task: len(data.manifest["sessions"][task]) for task in data.tasks},
        "bootstrap": {"level": LEVEL, "resamples": RESAMPLES, "seed": SEED},
        "sessions": _session_counts(data),
        "overhead_share": overhead_share(data),
        "results": [
            _result(data, task, method) for task in [*data.tasks, ALL] for method in data.methods
        ],
        "load": load(data),
        "adaptation_under_load": adaptation_under_load(data),
        "planted_drift": planted_drift(data),
    }


def overhead_share(data: RunData) -> float | None:
    """Sum of overhead_s over sum of session_s, of the served sessions that know both.

    Those in which a call was tried again are left out. None for unlike machines.
    """
    known = [
        (s["overhead_s"], s["session_s"])
        for s in data.sessions
        if s["overhead_s"] is not None and s["session_s"] is not None and not retried(s)
    ]
    if data.timing_refused:
        return None
    total = sum(session for _, session in known)
    return sum(overhead for overhead, _ in known) / total if total > 0 else None


def _prefix_cache(data: RunData) -> str:
    """ "on" or "off" where all methods have it alike, else "mixed"."""
    found = {data.caches(method) for method in data.methods}
    return "mixed" if len(found) > 1 else ("on" if found == {True} else "off")


def _session_counts(data: RunData) -> dict[str, int]:
    counts = _outcomes(data.of(ALL, method) for method in data.methods)
    return {**counts, "missing": data.expected() - sum(counts.values())}


def _outcomes(cells: Any) -> dict[str, int]:
    outcomes = [session["outcome"] for cell in cells for session in cell.sessions]
    return {name: outcomes.count(name) for name in ("scored", "unscored", "error", "skipped")}


def _result(data: RunData, task: str, method: str) -> dict[str, Any]:
    cell = data.of(task, method)
    compared = _other(data, task, method, data.reference)
    cached = _other(data, task, method, data.cached_reference)
    names = data.scorer_names if task == ALL else list(data.scorers[task])
    metrics: dict[str, Any] = {}
    difference: dict[str, Any] = {}
    against_cached: dict[str, Any] = {}
    for name in names:
        values = read_scores(name, cell)
        metrics[name] = _metric(values)
        if compared is not None:
            theirs = read_scores(name, compared)
            difference[name] = _difference(cell, compared, values, theirs)
    for metric in METRICS:
        values = read_values(metric, cell)
        metrics[metric.name] = _metric(values) | _extras(metric, values, cell, data)
        why = data.timing_refused if metric.unit in _BY_MACHINE and not values.known else None
        if compared is not None:
            theirs = read_values(metric, compared)
            difference[metric.name] = _difference(cell, compared, values, theirs, why)
        if cached is not None and metric.name == "session_s":
            theirs = read_values(metric, cached)
            against_cached[metric.name] = _difference(cell, cached, values, theirs, why)
    if cached is not None:
        against_cached["break_even"] = break_even(cell, cached)
    return {
        "task": task,
        "method": method,
        "is_reference": method == data.reference,
        "prefix_cache": "on" if data.caches(method) else "off",
        "sessions": _outcomes([cell]),
        "sessions_never_switchable": never_switchable(cell),
        "retried": _retried(cell),
        "adaptation": adaptation_counts(cell),
        "break_even": None if compared is None else break_even(cell, compared),
        "against_cached": against_cached or None,
        "turn_groups": turn_groups(cell),
        "metrics": metrics,
        "difference": difference or None,
    }


def _other(data: RunData, task: str, method: str, other: str | None) -> Cell | None:
    """What `other` did on the task; None for the method itself."""
    return None if other is None or other == method else data.of(task, other)


def _retried(cell: Cell) -> dict[str, int]:
    """Tries that failed before others succeeded, in served sessions."""
    turns = [turn for session in cell.served for turn in session["turns"]]
    return {
        "sessions": sum(map(retried, cell.served)),
        "turns": sum(tries_failed(turn) > 0 for turn in turns),
        "tries": sum(map(tries_failed, turns)),
    }


def _metric(values: Values) -> dict[str, Any]:
    return {
        **cluster_mean(values.known),
        "clusters": len({key.cluster for key in values.known}),
        "outcomes": {
            "scored": len(values.known),
            "unscored": values.unscored,
            "error": values.error,
            "skipped": values.skipped,
        },
    }


def _extras(metric: Metric, values: Values, cell: Cell, data: RunData) -> dict[str, Any]:
    """Percentiles for latencies, the largest value for memory."""
    if metric.unit == "bytes":
        return {"max": max(values.known.values(), default=None)}
    if not metric.percentiles:
        return {}
    known = list(values.known.values())
    failed = [attempt(s) for s in cell.sessions if s["outcome"] == "error"]
    failed = [] if cell.unlike_machines else failed
    failures = sum(data.turns_of[a] for a in failed) if metric.level == "turn" else len(failed)
    extras: dict[str, Any] = {f"p{p}": percentile(known, p) for p in PERCENTILE_MINIMUM}
    extras["adj_n"] = len(known) + failures
    extras["adj_failures"] = failures
    for share in PERCENTILE_MINIMUM:
        value = percentile(known, share, failures=failures)
        extras[f"adj_p{share}"] = None if value is None or isinf(value) else value
    return extras


def _difference(
    ours: Cell, theirs: Cell, values: Values, reference: Values, why_not: str | None = None
) -> dict[str, Any]:
    """Method minus reference over the sessions that both served; refused for unequal sets.

    `why_not`: why there is none in any case.
    """
    if why_not is not None:
        return _refused(why_not)
    try:
        require_same_sessions(map(attempt, ours.sessions), map(attempt, theirs.sessions))
    except UnpairedSessions as error:
        return _refused(str(error))
    shared = _attempts(values.known) & _attempts(reference.known)
    mine = {key: value for key, value in values.known.items() if key.attempt in shared}
    other = {key: value for key, value in reference.known.items() if key.attempt in shared}
    dropped = len(_attempts(values.known) ^ _attempts(reference.known))
    return {
        **paired_difference(mine, other),
        "dropped_sessions": dropped,
        "relative": paired_relative(mine, other),
        "refused": None,
    }


def _refused(reason: str) -> dict[str, Any]:
    return {
        **no_estimate(),
        "dropped_sessions": 0,
        "relative": no_estimate(),
        "refused": reason,
    }


def _attempts(values: dict[Key, float]) -> set[Attempt]:
    return {key.attempt for key in values}
