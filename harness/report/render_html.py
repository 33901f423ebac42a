"""A table as an HTML fragment, everything escaped."""

from __future__ import annotations

from html import escape

from harness.report.table import Table


def to_html(table: Table) -> str:
    """A `<section>` with heading, table, caption and notes. Contains no script and no style."""
    kinds = ["text" if column.is_text else "number" for column in table.columns]
    head = "".join(
        f'<th scope="col" class="{kind}">{escape(column.header)}</th>'
        for column, kind in zip(table.columns, kinds, strict=True)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f'<td class="{kind}">{escape(cell)}</td>' for cell, kind in zip(row, kinds, strict=True)
        )
        + "</tr>"
        for row in table.cells()
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f'<section id="{escape(table.name)}">\n<h2>{escape(table.title)}</h2>\n'
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>\n<p>{escape(table.caption)}</p>\n"
        + (f"<ul>{notes}</ul>\n" if notes else "")
        + "</section>\n"
    )
