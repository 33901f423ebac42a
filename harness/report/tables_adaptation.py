"""The table of adaptation, and the columns it lends to the main table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from harness.report.table import Column, Table, Value
from harness.report.tables_common import (
    INTERVAL_NOTE,
    METHOD,
    SERVED,
    TASK,
    Result,
    refusals,
    results,
    setting,
    timing_notes,
)
from harness.report.tables_resources import MIB

BREAK_EVEN = Column("break_even", "Break-even", "turn")
BREAK_EVEN_CACHED = Column("break_even_cached", "Break-even, cached", "turn")
SESSION_CACHED = Column("session_change_cached", "Δ Session, cached", "%", "+.1f")
NEVER_SWITCHABLE = Column("never_switchable", "Never switchable", "sessions", "d")

_MEASURES: Mapping[str, str] = MappingProxyType({"usd": "dollars", "busy_s": "busy time"})
_COUNTS = (
    Column("switched", "Switched", "sessions", "d"),
    Column("gate_accepted", "Gate accepted", "sessions", "d"),
    Column("gate_refused", "Gate refused", "sessions", "d"),
    Column("rolled_back", "Rolled back", "sessions", "d"),
)
_PER_SESSION = (
    Column("adaptation_s", "Adaptation", "s/session", ".2f"),
    Column("adaptation_wait_s", "Waited for it", "s/session", ".2f"),
    Column("trained_tokens", "Trained", "tokens/session", ",.0f"),
    Column("probe_f_tokens", "Probes of F", "tokens/session", ",.1f"),
)
_SWITCH_TURN = Column("switch_turn", "Switch turn, mean", "", ".1f")
_PEAK = Column("adaptation_peak", "Adaptation peak", "MiB", ",.1f")
_ADAPTER = Column("adapter", "Adapter", "MiB", ",.1f")


def adaptation_tables(summary: Mapping[str, Any]) -> list[Table]:
    """One table where some method of the run adapts a model to the session, else none."""
    rows = [result for result in results(summary) if result.data["adaptation"] is not None]
    return [_table(rows, summary)] if rows else []


def break_even_cell(result: Result) -> Value:
    """The turn as text, "not reached", or None where there is nothing to compare."""
    return _turn(result.data["break_even"])


def cached_cells(result: Result) -> dict[str, Value]:
    """The comparison with the reference that has the prefix cache on, where there is one."""
    found = result.data["against_cached"]
    return {
        SESSION_CACHED.key: result.relative_to_cached("session_s"),
        BREAK_EVEN_CACHED.key: _turn(found and found["break_even"]),
    }


def cached_note(summary: Mapping[str, Any]) -> list[str]:
    """What the columns of that comparison mean, where there are any."""
    name = summary["cached_reference"]
    if name is None:
        return []
    return [f"Cached: against {name}, the reference with the prefix cache on."]


def break_even_note(rows: Iterable[Result]) -> str:
    """What the column means, what counted as cost, and how many sessions could not."""
    found = [row.data["break_even"] for row in rows if row.data["break_even"] is not None]
    measures = sorted({_MEASURES[entry["measure"]] for entry in found if entry["measure"]})
    by = f", by {' or '.join(measures)}" if measures else ""
    spoiled = " and that no retry made slower" if any(e["retried"] for e in found) else ""
    return (
        "Break-even: the turn from which on a session has cost no more than under the reference, "
        f"on average over the sessions that both served{spoiled}{by}."
    )


def shows_switching(rows: Iterable[Result]) -> bool:
    """Whether some method says which sessions were too short to change models in."""
    return any(row.data["sessions_never_switchable"] is not None for row in rows)


def _turn(found: Mapping[str, Any] | None) -> Value:
    if found is None or found["measure"] is None:
        return None
    return "not reached" if found["turn"] is None else str(found["turn"])


def _table(rows: list[Result], summary: Mapping[str, Any]) -> Table:
    return Table(
        name="adaptation",
        title="Adaptation",
        caption=f"Methods that change models or adapt one during a session. {setting(summary)}",
        columns=(
            TASK,
            METHOD,
            SERVED,
            NEVER_SWITCHABLE,
            _COUNTS[0],
            _SWITCH_TURN,
            *_COUNTS[1:],
            *_PER_SESSION,
            _PEAK,
            _ADAPTER,
            BREAK_EVEN,
            *((SESSION_CACHED, BREAK_EVEN_CACHED) if summary["cached_reference"] else ()),
        ),
        rows=tuple(_row(result, summary) for result in rows),
        notes=(
            "Never switchable: too short to show a change of models; these sessions are in every "
            "mean. Gate: by a session's last verdict. Switch turn: over the sessions in which "
            "another model than the first turn's answered.",
            "Adaptation: mining, training and gating; Waited for it: the part that a turn's user "
            "waited for. Peak and adapter: the largest of any session. " + INTERVAL_NOTE,
            break_even_note(rows),
            *cached_note(summary),
            *timing_notes(summary),
            *refusals(summary),
        ),
    )


def _row(result: Result, summary: Mapping[str, Any]) -> dict[str, Value]:
    head, counts = result.head, result.data["adaptation"]
    row: dict[str, Value] = {key: head[key] for key in ("task", "method", "sessions")}
    row |= {column.key: counts[column.key] for column in _COUNTS}
    row |= {column.key: result.interval(column.key) for column in _PER_SESSION}
    row |= cached_cells(result) if summary["cached_reference"] else {}
    return row | {
        "never_switchable": result.data["sessions_never_switchable"],
        "switch_turn": result.mean("switch_turn"),
        "adaptation_peak": result.statistic("adaptation_peak_bytes", "max", MIB),
        "adapter": result.statistic("adapters_bytes", "max", MIB),
        "break_even": break_even_cell(result),
    }
