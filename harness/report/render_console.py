"""A table for the terminal; a wide one with few rows is turned on its side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.report.table import Table

if TYPE_CHECKING:
    from rich.console import Group

_MANY_COLUMNS = 9
_FEW_ROWS = 6


def to_console(table: Table) -> Group:
    """A `rich` renderable: the table under its title, then caption and notes in dim print."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    headers, texts, rows = _layout(table)
    # Text objects, not strings: brackets in a cell are no markup.
    grid = Grid(title=Text(table.title, style="bold"), title_justify="left", box=SIMPLE_HEAD)
    for header, text in zip(headers, texts, strict=True):
        grid.add_column(Text(header), justify="left" if text else "right", no_wrap=text)
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return Group(grid, *(Text(line, style="dim") for line in (table.caption, *table.notes)))


def _layout(table: Table) -> tuple[list[str], list[bool], list[list[str]]]:
    """Headers, which columns are text, and rows, as they go on the screen."""
    headers = [column.header for column in table.columns]
    rows = table.cells()
    if len(headers) <= _MANY_COLUMNS or len(rows) > _FEW_ROWS:
        return headers, [column.is_text for column in table.columns], rows
    sideways = [list(line) for line in zip(headers, *rows, strict=True)]
    return sideways[0], [True] + [False] * len(rows), sideways[1:]
