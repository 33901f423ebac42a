"""Tables of what serving took: latency, memory, cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.table import Column, Table, Value
from harness.report.tables_common import (
    INTERVAL_NOTE,
    METHOD,
    OUTCOMES,
    PAIRED_NOTE,
    TASK,
    Result,
    refusals,
    results,
    setting,
    timing_notes,
)
from harness.stats import PERCENTILE_MINIMUM

MIB = 1 / 2**20
PER_THOUSAND = 1000.0

_LATENCY = (
    Column("turns", "Turns", "", "d"),
    Column("ttft_s", "TTFT", "s", ".3f"),
    Column("tpot_s", "TPOT", "ms", ".1f"),
    Column("e2e_s", "E2E", "s", ".3f"),
    Column("turn_s", "Turn", "s", ".3f"),
    Column("session_s", "Session", "s", ".2f"),
    Column("ttft_change", "Δ TTFT", "%", "+.1f"),
    Column("e2e_change", "Δ E2E", "%", "+.1f"),
    Column("session_change", "Δ Session", "%", "+.1f"),
)
_RETRIED = Column("retried", "Retried", "turns", "d")
_PERCENTILE_ROWS = (
    ("TTFT", "ttft_s"),
    ("TPOT", "tpot_s"),
    ("E2E", "e2e_s"),
    ("Turn", "turn_s"),
    ("Session", "session_s"),
)
_UNDER_LOAD_ROWS = (("Queue", "queue_s"), ("Prefill", "prefill_s"))
_MEMORY = (
    ("weights_bytes", "max", Column("weights", "Weights", "MiB", ",.1f")),
    ("adapters_bytes", "max", Column("adapters", "Adapters", "MiB", ",.1f")),
    ("kv_formula_bytes", "mean", Column("kv_formula", "Peak KV by formula, mean", "MiB", ",.2f")),
    ("kv_formula_bytes", "max", Column("kv_formula_max", "max", "MiB", ",.2f")),
    ("kv_measured_bytes", "mean", Column("kv_measured", "Peak KV measured, mean", "MiB", ",.2f")),
    ("kv_measured_bytes", "max", Column("kv_measured_max", "max", "MiB", ",.2f")),
    ("kv_kept_bytes", "max", Column("kv_kept", "KV kept, max", "MiB", ",.2f")),
    ("adaptation_peak_bytes", "max", Column("adaptation", "Adaptation peak", "MiB", ",.1f")),
    ("rss_bytes", "max", Column("rss", "Process RSS, max", "MiB", ",.0f")),
    ("cuda_peak_bytes", "max", Column("cuda", "CUDA peak, max", "MiB", ",.0f")),
)
_COST = (
    Column("f_tokens", "F", "tokens/session", ",.1f"),
    Column("g_tokens", "G", "tokens/session", ",.1f"),
    Column("busy_s", "Busy", "s/session", ".2f"),
    Column("usd_tokens", "By tokens", "$/1,000 sessions", ",.4f"),
    Column("usd_busy", "By busy time", "$/1,000 sessions", ",.4f"),
    Column("usd", "Total", "$/1,000 sessions", ",.4f"),
    Column("usd_change", "Δ Total", "%", "+.1f"),
)


def latency_table(summary: Mapping[str, Any]) -> Table:
    """Mean latencies with intervals, and the change of each against the reference."""
    retried = any(result.data["retried"]["turns"] for result in results(summary))
    latencies = (_LATENCY[0], *((_RETRIED,) if retried else ()), *_LATENCY[1:])
    return Table(
        name="latency",
        title="Latency",
        caption=f"Mean over turns, session time over sessions. {setting(summary)}",
        columns=(TASK, METHOD, *OUTCOMES, *latencies),
        rows=tuple(
            _latency_row(r) | ({"retried": r.data["retried"]["turns"]} if retried else {})
            for r in results(summary)
        ),
        notes=(
            "TTFT: user turn handed over to the first token with content. E2E: to the last token. "
            "TPOT: (E2E - TTFT) / (output tokens - 1). Session: all turns and all overhead.",
            "Δ: sum of the method's values over the sum of the reference's, minus 1. "
            + PAIRED_NOTE,
            INTERVAL_NOTE,
            *timing_notes(summary),
            *refusals(summary),
        ),
    )


def percentile_table(summary: Mapping[str, Any]) -> Table:
    """Nearest-rank percentiles of the latencies, and the view in which failures are infinite."""
    shares = tuple(PERCENTILE_MINIMUM)
    columns = [TASK, METHOD, Column("metric", "Latency"), Column("n", "n", "", "d")]
    columns += [Column(f"p{share}", f"p{share}", "s", ".3f") for share in shares]
    columns += [Column("adj_n", "n with failures", "", "d")]
    columns += [Column(f"adj_p{share}", f"adj p{share}", "s", ".3f") for share in shares]
    rows = [
        _percentile_row(result, title, name)
        for result in results(summary)
        for title, name in (*_PERCENTILE_ROWS, *(_UNDER_LOAD_ROWS if summary["load"] else ()))
    ]
    limits = ", ".join(f"p{share} n >= {least}" for share, least in PERCENTILE_MINIMUM.items())
    return Table(
        name="latency_percentiles",
        title="Latency percentiles",
        caption=f"Nearest-rank percentiles. {setting(summary)}",
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            f"Shown where there are enough values: {limits}.",
            "adj: failures count as ∞.",
            *timing_notes(summary),
        ),
    )


def memory_table(summary: Mapping[str, Any]) -> Table:
    """Memory in separate columns; a pool that an engine sets aside is in none but its process's."""
    rows = tuple(
        result.head
        | {column.key: result.statistic(name, which, MIB) for name, which, column in _MEMORY}
        for result in results(summary)
    )
    return Table(
        name="memory",
        title="Memory",
        caption=f"Per session. {setting(summary)}",
        columns=(TASK, METHOD, *OUTCOMES, *(column for _, _, column in _MEMORY)),
        rows=rows,
        notes=(
            "Weights: of the models that the method called. Peak KV: the largest key-value memory "
            "of one call. KV kept: the most that a prefix cache held for a session between two of "
            "its calls. Process RSS: the whole process with every loaded model, so it says little "
            "about one method.",
            *timing_notes(summary),
        ),
    )


def cost_table(summary: Mapping[str, Any]) -> Table:
    """Tokens, busy time and money per session; an unknown price leaves a dash, never 0."""
    return Table(
        name="cost",
        title="Cost",
        caption=f"Mean per session. {setting(summary)}",
        columns=(TASK, METHOD, *OUTCOMES, *_COST),
        rows=tuple(_cost_row(result) for result in results(summary)),
        notes=(
            "Tokens: prompt and output of every call. Busy: time inside engine calls and declared "
            "spans, overlaps counted once. Money by the pair's price table.",
            "Δ: paired with the reference. " + INTERVAL_NOTE,
            *timing_notes(summary),
            *refusals(summary),
        ),
    )


def _latency_row(result: Result) -> dict[str, Value]:
    return result.head | {
        "turns": result.statistic("e2e_s", "n"),
        "ttft_s": result.interval("ttft_s"),
        "tpot_s": result.interval("tpot_s", 1000),
        "e2e_s": result.interval("e2e_s"),
        "turn_s": result.interval("turn_s"),
        "session_s": result.interval("session_s"),
        "ttft_change": result.relative_percent("ttft_s"),
        "e2e_change": result.relative_percent("e2e_s"),
        "session_change": result.relative_percent("session_s"),
    }


def _percentile_row(result: Result, title: str, name: str) -> dict[str, Value]:
    head = result.head
    row: dict[str, Value] = {
        "task": head["task"],
        "method": head["method"],
        "metric": title,
        "n": result.statistic(name, "n"),
        "adj_n": result.statistic(name, "adj_n"),
    }
    adjusted_n = row["adj_n"]
    for share, least in PERCENTILE_MINIMUM.items():
        row[f"p{share}"] = result.statistic(name, f"p{share}")
        adjusted = result.statistic(name, f"adj_p{share}")
        enough = isinstance(adjusted_n, int) and adjusted_n >= least
        row[f"adj_p{share}"] = "∞" if adjusted is None and enough else adjusted
    return row


def _cost_row(result: Result) -> dict[str, Value]:
    return result.head | {
        "f_tokens": result.interval("f_tokens"),
        "g_tokens": result.interval("g_tokens"),
        "busy_s": result.interval("busy_s"),
        "usd_tokens": result.interval("usd_tokens", PER_THOUSAND),
        "usd_busy": result.interval("usd_busy", PER_THOUSAND),
        "usd": result.interval("usd", PER_THOUSAND),
        "usd_change": result.relative_percent("usd"),
    }
