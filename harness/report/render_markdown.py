"""A table as GitHub Markdown."""

from __future__ import annotations

import re

from harness.report.table import Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~])")


def to_markdown(table: Table) -> str:
    """Title, caption, pipe table with aligned columns, notes. Text is escaped."""
    headers = [escape(column.header) for column in table.columns]
    rows = [[escape(cell) for cell in row] for row in table.cells()]
    widths = [
        max(3, *(len(line[place]) for line in [headers, *rows])) for place in range(len(headers))
    ]
    texts = [column.is_text for column in table.columns]
    rule = [
        "-" * width if text else "-" * (width - 1) + ":"
        for width, text in zip(widths, texts, strict=True)
    ]
    lines = [_line(cells, widths, texts) for cells in (headers, rule, *rows)]
    notes = [f"- {escape(note)}" for note in table.notes]
    parts = [f"### {escape(table.title)}", "\n".join(lines), escape(table.caption)]
    return "\n\n".join(parts + (["\n".join(notes)] if notes else [])) + "\n"


def escape(text: str) -> str:
    """`text` so that Markdown shows it as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def _line(cells: list[str], widths: list[int], texts: list[bool]) -> str:
    padded = [
        cell.ljust(width) if text else cell.rjust(width)
        for cell, width, text in zip(cells, widths, texts, strict=True)
    ]
    return "| " + " | ".join(padded) + " |"
