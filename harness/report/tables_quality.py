"""Tables that depend on the replies alone: the same replies give the same bytes."""

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
    scorer_column,
    setting,
)

_TOKENS = (
    Column("prompt_tokens", "Prompt", "tokens/turn", ",.1f"),
    Column("cached_tokens", "Cached", "tokens/turn", ",.1f"),
    Column("output_tokens", "Output", "tokens/turn", ",.1f"),
    Column("f_tokens", "F in all", "tokens/session", ",.1f"),
    Column("g_tokens", "G in all", "tokens/session", ",.1f"),
)
_F_SHARE = Column("f_share", "Served by F", "% of turns", ".1f")


def quality_table(summary: Mapping[str, Any]) -> Table:
    """Mean of every scorer with interval, n and outcome counts, per task and method."""
    columns: list[Column] = [TASK, METHOD, *OUTCOMES]
    for name in summary["scorers"]:
        column = scorer_column(name)
        columns += [column, Column(f"{name}_n", f"{column.title} n", "turns")]
    return Table(
        name="quality",
        title="Quality",
        caption=f"Mean over turns. {setting(summary)}",
        columns=tuple(columns),
        rows=tuple(_quality_row(result, summary["scorers"]) for result in results(summary)),
        notes=(
            INTERVAL_NOTE,
            "n counts scored turns; turns without a value are given as unscored.",
            "The reference method's comparison with itself is 1 by definition.",
            *refusals(summary),
        ),
    )


def difference_table(summary: Mapping[str, Any]) -> Table:
    """Method minus reference for every scorer and token count, per task and method."""
    scorers = [scorer_column(name) for name in summary["scorers"]]
    names = [(f"Δ {c.title}", c.key, "", "+.3f") for c in scorers]
    names += [(f"Δ {c.title}", c.key, c.unit, "+,.1f") for c in _TOKENS]
    rows: list[dict[str, Value]] = []
    for result in results(summary):
        if result.data["is_reference"]:
            continue
        row = result.head
        rows.append(row | {key: result.difference(key) for _, key, _, _ in names})
    return Table(
        name="quality_difference",
        title="Difference from the reference in quality and tokens",
        caption=f"Mean over turns of method minus reference. {setting(summary)}",
        columns=(TASK, METHOD, *OUTCOMES, *(Column(k, t, u, f) for t, k, u, f in names)),
        rows=tuple(rows),
        notes=(PAIRED_NOTE, INTERVAL_NOTE, *refusals(summary)),
    )


def tokens_table(summary: Mapping[str, Any]) -> Table:
    """Tokens per turn (the reply's own call) and per session (every call), per task and method."""
    rows = tuple(
        result.head
        | {column.key: result.interval(column.key) for column in _TOKENS}
        | {"f_share": result.mean("f_share", 100)}
        for result in results(summary)
    )
    return Table(
        name="quality_tokens",
        title="Tokens",
        caption=f"Mean per turn and per session. {setting(summary)}",
        columns=(TASK, METHOD, *OUTCOMES, *_TOKENS, _F_SHARE),
        rows=rows,
        notes=(
            INTERVAL_NOTE,
            "Per turn: of the call that made the reply. In all: prompt and output tokens of every "
            "call of the session, summaries and probes included.",
            *refusals(summary),
        ),
    )


def _quality_row(result: Result, scorers: list[str]) -> dict[str, Value]:
    row = result.head
    for name in scorers:
        metric = result.metric(name)
        row[name] = result.interval(name)
        if metric is not None:
            outcomes = metric["outcomes"]
            unscored = f" ({outcomes['unscored']} unscored)" if outcomes["unscored"] else ""
            row[f"{name}_n"] = f"{outcomes['scored']}{unscored}"
    return row
