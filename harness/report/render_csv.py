"""A table as CSV: numbers to six significant digits, an interval as three columns."""

from __future__ import annotations

import csv
import io

from harness.report.table import Column, Interval, Table, Value


def to_csv(table: Table) -> str:
    """Header: column keys with their units; `<key>_low` and `<key>_high` hold an interval."""
    ranged = {
        column.key
        for column in table.columns
        if any(isinstance(row.get(column.key), Interval) for row in table.rows)
    }
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for c in table.columns for name in _names(c, c.key in ranged)])
    for row in table.rows:
        writer.writerow(
            [text for c in table.columns for text in _texts(row.get(c.key), c.key in ranged)]
        )
    return out.getvalue()


def _names(column: Column, ranged: bool) -> list[str]:
    unit = f" ({column.unit})" if column.unit else ""
    parts = ("", "_low", "_high") if ranged else ("",)
    return [f"{column.key}{part}{unit}" for part in parts]


def _texts(value: Value, ranged: bool) -> list[str]:
    if isinstance(value, Interval):
        return [_text(value.mean), _text(value.low), _text(value.high)]
    return [_text(value), "", ""] if ranged else [_text(value)]


def _text(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # Adding 0.0 turns a negative zero into zero.
        return format(value + 0.0, ".6g")
    return str(value)
