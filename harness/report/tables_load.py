"""The tables of load: throughput and goodput, and serving while another session is adapted."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from harness.report.read import ALL
from harness.report.table import Column, Table, Value
from harness.report.tables_common import (
    ERRORS,
    INTERVAL_NOTE,
    METHOD,
    SERVED,
    TASK,
    Result,
    interval,
    results,
    setting,
    timing_notes,
)

_AT_ONCE = Column("concurrency", "Offered", "sessions at once", "d")
_RATE = Column("arrival_rate", "Offered", "sessions/min", ".4g")
_SERVED_LOAD = (
    Column("at_once", "At once, mean", "sessions", ".2f"),
    Column("wall_s", "Wall", "s", ",.1f"),
    Column("reply_tokens_per_s", "Replies", "tokens/s", ",.1f"),
    Column("output_tokens_per_s", "All output", "tokens/s", ",.1f"),
    Column("sessions_per_min", "Served", "sessions/min", ",.2f"),
)
_GOODPUT = (
    Column("turn_share", "Good turns", "%", ".1f"),
    Column("session_share", "Good sessions", "%", ".1f"),
    Column("good_turns_per_s", "Good turns", "turns/s", ",.3f"),
    Column("good_sessions_per_min", "Good sessions", "sessions/min", ",.2f"),
)
_PERCENTILES = (
    ("ttft_s", "p50", Column("ttft_p50", "TTFT p50", "s", ".3f")),
    ("ttft_s", "p95", Column("ttft_p95", "TTFT p95", "s", ".3f")),
    ("queue_s", "p50", Column("queue_p50", "Queue p50", "s", ".3f")),
    ("queue_s", "p95", Column("queue_p95", "Queue p95", "s", ".3f")),
)
_NAMES: Mapping[str, str] = MappingProxyType({"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"})


def load_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Throughput and goodput where the run has load or objectives; then what adaptation costs
    those who are served beside it, where some were.
    """
    tables = [_load(summary)] if summary["load"] else []
    return tables + ([_adaptation(summary)] if summary["adaptation_under_load"] else [])


def _load(summary: Mapping[str, Any]) -> Table:
    limits = summary["objectives"]
    goodput = _GOODPUT if limits else ()
    entries = {(entry["task"], entry["method"]): entry for entry in summary["load"]}
    notes = [
        "Wall: from the beginning of each stretch of serving to the end of its last session, think "
        "time included, summed; with several workers these add up, so rates are those of one "
        "worker. Rates: over the wall. At once: time spent in sessions over the wall.",
        "Replies: output tokens that users were answered with. All output: of every call.",
    ]
    if limits:
        kept = ", ".join(f"{_NAMES[name]} <= {most:g} s" for name, most in limits.items())
        notes.append(
            f"Good: a turn with {kept}, retries included since the user waits for them; a session "
            "all of whose turns are good. Failed sessions and all their turns are not good; "
            "skipped ones do not count."
        )
    return Table(
        name="load",
        title="Load",
        caption=f"Throughput{' and goodput' if limits else ''}. {setting(summary)}",
        columns=(
            TASK,
            METHOD,
            SERVED,
            ERRORS,
            _AT_ONCE if summary["arrival_rate"] is None else _RATE,
            *_SERVED_LOAD,
            *goodput,
            *(column for _, _, column in _PERCENTILES),
        ),
        rows=tuple(
            _load_row(result, entries[result.data["task"], result.data["method"]], summary)
            for result in results(summary)
        ),
        notes=(*notes, INTERVAL_NOTE, *timing_notes(summary)),
    )


def _load_row(
    result: Result, entry: Mapping[str, Any], summary: Mapping[str, Any]
) -> dict[str, Value]:
    head, rate = result.head, summary["arrival_rate"]
    row: dict[str, Value] = {key: head[key] for key in ("task", "method", "sessions", "errors")}
    row |= {"concurrency": summary["concurrency"]} if rate is None else {"arrival_rate": rate}
    row |= {column.key: entry[column.key] for column in _SERVED_LOAD}
    good = entry["goodput"]
    if good is not None:
        row |= {name: interval(good[name], 100) for name in ("turn_share", "session_share")}
        row |= {name: good[name] for name in ("good_turns_per_s", "good_sessions_per_min")}
    return row | {column.key: result.statistic(name, which) for name, which, column in _PERCENTILES}


def _adaptation(summary: Mapping[str, Any]) -> Table:
    times = (("ttft_s", "TTFT of the call", "s", ".3f", 1), ("tpot_s", "TPOT", "ms", ".1f", 1000))
    columns = [METHOD, Column("role", "Answered by"), Column("own", "Left out", "turns", "d")]
    for key, title, unit, form, _ in times:
        columns += [
            Column(f"{key}_during_n", "Turns while another adapts", "", "d"),
            Column(f"{key}_during", f"{title} then", unit, form),
            Column(f"{key}_otherwise_n", "Turns otherwise", "", "d"),
            Column(f"{key}_otherwise", f"{title} otherwise", unit, form),
            Column(f"{key}_change", f"Δ {title} within sessions", unit, f"+{form}"),
        ]
    rows = []
    marks = {r.data["method"]: r.head["method"] for r in results(summary) if r.data["task"] != ALL}
    for entry in summary["adaptation_under_load"]:
        row: dict[str, Value] = {
            "method": marks[entry["method"]],
            "role": entry["role"],
            "own": entry["own"],
        }
        for key, _, _, _, scale in times:
            found = entry[key]
            for name in ("during", "otherwise", "change"):
                row[f"{key}_{name}"] = interval(found[name], scale)
            row[f"{key}_during_n"] = found["during"]["n"]
            row[f"{key}_otherwise_n"] = found["otherwise"]["n"]
        rows.append(row)
    return Table(
        name="adaptation_under_load",
        title="Adaptation under load",
        caption=f"Replies while another session's work on weights ran. {setting(summary)}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            "Only the reply's own call counts, from when it was asked for: the wait for the turn's "
            "own adaptation is not in it. Left out: turns during which only their own session was "
            "adapted. Work of sessions that failed, or that was broken off, is not known.",
            "Δ: a session's mean while another adapts less its mean otherwise, averaged over the "
            "sessions with turns of both kinds. The two kinds stand at different turn indices, and "
            "later turns have longer prompts. Sessions of one window share the machine, so "
            "intervals are narrower than the truth. " + INTERVAL_NOTE,
            *timing_notes(summary),
        ),
    )
