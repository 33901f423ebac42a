"""The one table type. Every renderer (CSV, Markdown, LaTeX, HTML, console) reads nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

UNKNOWN = "–"
"""Shown by the formats that people read where a value is unknown; CSV leaves the cell empty."""


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its confidence interval; None where there is none."""

    mean: float
    low: float | None
    high: float | None


Value = str | int | float | Interval | None


@dataclass(frozen=True)
class Column:
    """`format` is a Python format specification for numbers; "" is for text columns.

    `unit` stands in the header, in brackets. Values are given in that unit.
    """

    key: str
    title: str
    unit: str = ""
    format: str = ""

    @property
    def header(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def is_text(self) -> bool:
        return not self.format


@dataclass(frozen=True)
class Table:
    """Rows by column key; a key that a row lacks is unknown. `notes` stand under the table.

    Raises ValueError for a row with a key that is no column, or a number that is not finite.
    """

    name: str
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[dict[str, Value], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        keys = {column.key for column in self.columns}
        for row in self.rows:
            unknown = sorted(row.keys() - keys)
            if unknown:
                raise ValueError(f"table {self.name}: no column for {', '.join(unknown)}")
            for key, value in row.items():
                if any(not isfinite(number) for number in _numbers(value)):
                    raise ValueError(f"table {self.name}: {key} is not finite; use None")

    def cells(self) -> list[list[str]]:
        """The rows as people read them."""
        return [[show(row.get(c.key), c) for c in self.columns] for row in self.rows]


def show(value: Value, column: Column) -> str:
    """One cell as people read it: `0.81 [0.79, 0.83]`, without bounds where they coincide."""
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if not isinstance(value, Interval):
        return number(value, column.format)
    mean = number(value.mean, column.format)
    if value.low is None or value.high is None or value.low == value.high:
        return mean
    return f"{mean} [{number(value.low, column.format)}, {number(value.high, column.format)}]"


def number(value: float, spec: str) -> str:
    """`value` under a format specification, without a sign on a zero."""
    text = format(value, spec)
    if not text.strip("-+0.,"):
        return text.lstrip("-+")
    return text


def _numbers(value: Value) -> list[float]:
    if isinstance(value, Interval):
        return [x for x in (value.mean, value.low, value.high) if x is not None]
    return [] if value is None or isinstance(value, str) else [float(value)]
