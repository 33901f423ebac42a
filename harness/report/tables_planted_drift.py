"""The table of planted drift, from the summary alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.report.table import Column, Interval, Table, Value
from harness.report.tables_common import INTERVAL_NOTE, METHOD, TASK, scorer_column, setting

_COLUMNS = (
    Column("spliced", "Spliced", "sessions", "d"),
    Column("switched_before_shift", "On G before the shift", "sessions", "d"),
    Column("alarmed_before_shift", "Alarm before it", "sessions", "d"),
    Column("detectable", "Detectable", "sessions", "d"),
    Column("detected", "Detected", "sessions", "d"),
    Column("detection_rate", "Detection", "%", ".1f"),
    Column("delay_turns", "Delay", "turns", ".2f"),
    Column("controls", "Controls", "sessions", "d"),
    Column("controls_switched", "Controls on G", "sessions", "d"),
    Column("false_rollbacks", "False rollbacks", "sessions", "d"),
    Column("false_rollback_rate", "False rollback", "%", ".1f"),
)
_SHARES = ("detection_rate", "false_rollback_rate")


def planted_drift_tables(summary: Mapping[str, Any]) -> list[Table]:
    """The table, or none where no session was made to shift."""
    return [_table(summary)] if summary["planted_drift"] else []


def _table(summary: Mapping[str, Any]) -> Table:
    entries = summary["planted_drift"]
    scorers = [
        name for name in summary["scorers"] if any(name in e["after_shift"] for e in entries)
    ]
    return Table(
        name="planted_drift",
        title="Planted drift",
        caption=f"Sessions that shift at a known turn, and controls. {setting(summary)}",
        columns=(TASK, METHOD, *_COLUMNS, *_score_columns(scorers)),
        rows=tuple(_row(entry, scorers, summary["reference"]) for entry in entries),
        notes=(
            "An alarm is a rollback, or a failed check that would have caused one where rollback "
            "is off. Detectable: G served the turn before the shift, a monitor watched it, and no "
            "alarm had been raised since the switch. Detection: share of these with an alarm from "
            "the shift on. Delay: turns from the shift to the alarm, 0 at once.",
            "False rollback: share of the watched controls on G that had an alarm.",
            "Scores: mean over the turns from the shift on, of every spliced session; of a "
            "control, over the same turns. A session under two seeds counts twice.",
            INTERVAL_NOTE,
        ),
    )


def _score_columns(scorers: list[str]) -> list[Column]:
    columns = []
    for column in map(scorer_column, scorers):
        columns.append(Column(f"{column.key}_after", f"{column.title} after", "", column.format))
        columns.append(
            Column(f"{column.key}_control", f"{column.title} of controls", "", column.format)
        )
    return columns


def _row(entry: Mapping[str, Any], scorers: list[str], reference: str | None) -> dict[str, Value]:
    mark = " (reference)" if entry["method"] == reference else ""
    row: dict[str, Value] = {"task": entry["task"], "method": entry["method"] + mark}
    for column in _COLUMNS:
        value = entry[column.key]
        row[column.key] = value * 100 if column.key in _SHARES and value is not None else value
    for name in scorers:
        row[f"{name}_after"] = _interval(entry["after_shift"].get(name))
        row[f"{name}_control"] = _interval(entry["control_scores"].get(name))
    return row


def _interval(estimate: Mapping[str, Any] | None) -> Value:
    if estimate is None or estimate["mean"] is None:
        return None
    return Interval(estimate["mean"], estimate["low"], estimate["high"])
