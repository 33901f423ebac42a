"""A table for the terminal; what is too wide is shown in pieces, each with the rows' names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.report.table import Column, Table

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

_GAP = 3  # what the grid puts beside a column, at most


@dataclass(frozen=True)
class ConsoleTable:
    """A `rich` renderable: the table under its title, then caption and notes in dim print."""

    table: Table

    def __rich_console__(
        self, console: Console, options: ConsoleOptions
    ) -> Iterator[RenderableType]:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table as Grid
        from rich.text import Text

        cells = self.table.cells()
        title: Text | None = Text(self.table.title, style="bold")
        for piece in pieces(self.table, options.max_width):
            # Text objects, not strings: brackets in a cell are no markup.
            grid = Grid(title=title, title_justify="left", box=SIMPLE_HEAD)
            for at in piece:
                column = self.table.columns[at]
                grid.add_column(
                    Text(column.header),
                    justify="left" if column.is_text else "right",
                    width=width(column, [row[at] for row in cells]),
                )
            for row in cells:
                grid.add_row(*(Text(row[at]) for at in piece))
            yield grid
            title = None
        for line in (self.table.caption, *self.table.notes):
            yield Text(line, style="dim")


def to_console(table: Table) -> ConsoleTable:
    return ConsoleTable(table)


def pieces(table: Table, room: int) -> list[list[int]]:
    """Places of the columns that go beside each other in `room` characters, piece by piece.

    A piece has the leading text columns, which name a row, and as many others as fit, one at least.
    """
    cells = table.cells()
    widths = [width(c, [row[at] for row in cells]) + _GAP for at, c in enumerate(table.columns)]
    places = range(len(table.columns))
    first = next((at for at in places if not table.columns[at].is_text), len(places))
    names, others = list(places[:first]), places[first:]
    left = room - sum(widths[at] for at in names) - _GAP
    found: list[list[int]] = [[]]
    taken = 0
    for at in others:
        if found[-1] and taken + widths[at] > left:
            found.append([])
            taken = 0
        found[-1].append(at)
        taken += widths[at]
    return [names + piece for piece in found]


def width(column: Column, cells: list[str]) -> int:
    """The least that shows every cell whole; a header may break between words."""
    return max(len(text) for text in (*cells, *column.header.split(), ""))
