"""The tables of a report, built from its summary alone; `main` is the one to look at first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from harness.report.table import Column, Table, Value
from harness.report.tables_adaptation import (
    BREAK_EVEN,
    BREAK_EVEN_CACHED,
    NEVER_SWITCHABLE,
    SESSION_CACHED,
    adaptation_tables,
    break_even_cell,
    break_even_note,
    cached_cells,
    cached_note,
    shows_switching,
)
from harness.report.tables_common import (
    ERRORS,
    INTERVAL_NOTE,
    METHOD,
    PAIRED_NOTE,
    SERVED,
    TASK,
    Result,
    overall_results,
    refusals,
    results,
    scorer_column,
    setting,
    timing_notes,
)
from harness.report.tables_load import load_tables
from harness.report.tables_planted_drift import planted_drift_tables
from harness.report.tables_prefix_cache import CACHE, prefix_cache_tables
from harness.report.tables_quality import difference_table, quality_table, tokens_table
from harness.report.tables_resources import (
    MIB,
    PER_THOUSAND,
    cost_table,
    latency_table,
    memory_table,
    percentile_table,
)
from harness.report.tables_waiting import first_token_table

QUALITY_TABLES = ("quality", "quality_difference", "quality_tokens")
"""The tables that two runs with the same replies share byte for byte."""

_NEVER_SWITCHABLE_NOTE = (
    "Never switchable: sessions too short to show a change of models, of methods that make one; "
    "they are in every mean."
)


def build_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Every table of the report, `main` first."""
    return [
        main_table(summary),
        main_by_task_table(summary),
        quality_table(summary),
        difference_table(summary),
        tokens_table(summary),
        latency_table(summary),
        percentile_table(summary),
        first_token_table(summary),
        *load_tables(summary),
        *prefix_cache_tables(summary),
        memory_table(summary),
        cost_table(summary),
        *adaptation_tables(summary),
        *planted_drift_tables(summary),
    ]


def main_table(summary: Mapping[str, Any]) -> Table:
    """One row per method over all tasks."""
    return _main("main", "Results", overall_results(summary), summary, with_task=False)


def main_by_task_table(summary: Mapping[str, Any]) -> Table:
    """The main table's columns per task and method."""
    rows = list(results(summary, overall=False))
    return _main("main_by_task", "Results by task", rows, summary, with_task=True)


def _main(
    name: str, title: str, rows: list[Result], summary: Mapping[str, Any], *, with_task: bool
) -> Table:
    scorers = summary["scorers"]
    ttft = "p50" if all(r.statistic("ttft_s", "p50") is not None for r in rows) else "mean"
    kv = _kv_metric(rows)
    source = "measured" if kv == "kv_measured_bytes" else "by formula"
    switching = with_task or shows_switching(rows)
    caches = summary["prefix_cache"] == "mixed"
    cached = summary["cached_reference"] is not None
    columns = (
        *((TASK,) if with_task else ()),
        METHOD,
        *((CACHE,) if caches else ()),
        SERVED,
        ERRORS,
        *((NEVER_SWITCHABLE,) if switching else ()),
        *(scorer_column(scorer) for scorer in scorers),
        Column("ttft", f"TTFT {ttft}", "s", ".3f"),
        Column("e2e", "E2E", "s", ".2f"),
        Column("tpot", "TPOT", "ms", ".1f"),
        Column("session", "Session", "s", ".1f"),
        Column("session_change", "Δ Session", "%", "+.1f"),
        BREAK_EVEN,
        *((SESSION_CACHED, BREAK_EVEN_CACHED) if cached else ()),
        Column("f_tokens", "F", "tokens/session", ",.0f"),
        Column("g_tokens", "G", "tokens/session", ",.0f"),
        Column("kv", "Peak KV", "MiB", ",.1f"),
        Column("weights", "Weights", "MiB", ",.0f"),
        Column("usd", "Cost", "$/1,000 sessions", ",.3f"),
    )
    return Table(
        name=name,
        title=title,
        caption=f"Means. {setting(summary)}",
        columns=columns,
        rows=tuple(
            {
                column.key: value
                for column in columns
                if (value := cells.get(column.key)) is not None
            }
            for cells in (_main_row(r, scorers, ttft, kv) for r in rows)
        ),
        notes=(
            "Similarity and ROUGE-L compare with the reference's reply at the same turn; the "
            "reference's own are 1 by definition. Repetition: share of repeated 4-grams.",
            f"Peak KV ({source}): mean over sessions of the largest call's key-value memory. "
            "Weights: of the models that the method called.",
            f"{INTERVAL_NOTE} Δ Session: change against the reference. {PAIRED_NOTE}",
            break_even_note(rows) + (f" {_NEVER_SWITCHABLE_NOTE}" if switching else ""),
            *cached_note(summary),
            f"{_overhead(summary)} Outcomes per mean: see the quality and latency tables.",
            *timing_notes(summary),
            *refusals(summary),
        ),
    )


def _main_row(result: Result, scorers: Iterable[str], ttft: str, kv: str) -> dict[str, Value]:
    """Cells of every column that the table may have."""
    row: dict[str, Value] = {
        **result.head,
        "cache": result.data["prefix_cache"],
        "never_switchable": result.data["sessions_never_switchable"],
    }
    row |= {scorer: result.interval(scorer) for scorer in scorers}
    return row | {
        "ttft": result.statistic("ttft_s", ttft),
        "e2e": result.mean("e2e_s"),
        "tpot": result.mean("tpot_s", 1000),
        "session": result.mean("session_s"),
        "session_change": result.relative_percent("session_s"),
        "break_even": break_even_cell(result),
        **cached_cells(result),
        "f_tokens": result.mean("f_tokens"),
        "g_tokens": result.mean("g_tokens"),
        "kv": result.mean(kv, MIB),
        "weights": result.mean("weights_bytes", MIB),
        "usd": result.mean("usd", PER_THOUSAND),
    }


def _kv_metric(rows: Iterable[Result]) -> str:
    """One source for the whole column: measured where every row knows it, else the formula."""
    served = [row for row in rows if row.data["sessions"]["scored"]]
    measured = all(row.mean("kv_measured_bytes") is not None for row in served)
    return "kv_measured_bytes" if served and measured else "kv_formula_bytes"


def _overhead(summary: Mapping[str, Any]) -> str:
    share = summary["overhead_share"]
    if share is None:
        return "Harness overhead: unknown."
    return f"Harness overhead: {share:.2%} of session time."
