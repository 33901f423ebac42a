"""Where the time to the first token goes, as the client sees it and as the engine does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.table import Column, Table
from harness.report.tables_common import (
    INTERVAL_NOTE,
    METHOD,
    OUTCOMES,
    TASK,
    results,
    setting,
    timing_notes,
)

_PARTS = (
    Column("ttft_s", "TTFT", "s", ".3f"),
    Column("before_call_s", "Before the call", "s", ".3f"),
    Column("call_ttft_s", "TTFT of the call", "s", ".3f"),
    Column("queue_s", "Queue", "s", ".3f"),
    Column("prefill_s", "Prefill", "s", ".3f"),
)
_ENGINE = (
    Column("engine_queue_s", "Engine's queue", "s", ".3f"),
    Column("engine_ttft_s", "Engine's TTFT", "s", ".3f"),
    Column("engine_e2e_s", "Engine's E2E", "s", ".3f"),
    Column("over_engine_ttft_s", "TTFT over engine's", "s", "+.4f"),
    Column("over_engine_e2e_s", "E2E over engine's", "s", "+.4f"),
)


def first_token_table(summary: Mapping[str, Any]) -> Table:
    """TTFT in its parts; the engine's own times beside them where it measures any."""
    rows = list(results(summary))
    measured = any(row.mean("engine_ttft_s") is not None for row in rows)
    columns = (*_PARTS, *(_ENGINE if measured else ()))
    notes = [
        "TTFT = before the call + TTFT of the call. Before the call: what the method did between "
        "the user's turn and its call for the reply. TTFT of the call = queue + prefill: until the "
        "engine's work on it began, and from there to the first token with content. Unknown where "
        "the engine is a server, which does not tell its queue.",
    ]
    if measured:
        notes.append(
            "Engine's: what it measured of the same call, from when the request reached it. "
            "Over engine's: ours less the engine's, turn by turn."
        )
    return Table(
        name="first_token",
        title="Time to the first token",
        caption=f"Mean over turns. {setting(summary)}",
        columns=(TASK, METHOD, *OUTCOMES, *columns),
        rows=tuple(r.head | {c.key: r.interval(c.key) for c in columns} for r in rows),
        notes=(*notes, INTERVAL_NOTE, *timing_notes(summary)),
    )
