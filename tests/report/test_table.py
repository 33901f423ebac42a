"""The table type and its renderers, with text that tries to break out of each format."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from harness.report.render_console import to_console
from harness.report.render_csv import to_csv
from harness.report.render_html import to_html
from harness.report.render_latex import to_latex
from harness.report.render_markdown import to_markdown
from harness.report.table import Column, Interval, Table, Value

NASTY = 'a|b_c <script>&"\\end{table} $5% [red]~#^'

TABLE = Table(
    name="toy",
    title="Toy_title",
    caption="100 % of <b>",
    columns=(
        Column("method", "Method"),
        Column("score", "Score", "", ".2f"),
        Column("size", "Size", "MiB", ",.1f"),
    ),
    rows=(
        {"method": NASTY, "score": Interval(0.5, 0.25, -0.001), "size": 1234.56},
        {"method": "plain", "score": Interval(-0.5, None, None), "size": None},
    ),
    notes=("a note",),
)


def test_csv() -> None:
    rows = list(csv.reader(io.StringIO(to_csv(TABLE))))
    assert rows == [
        ["method", "score", "score_low", "score_high", "size (MiB)"],
        [NASTY, "0.5", "0.25", "-0.001", "1234.56"],
        ["plain", "-0.5", "", "", ""],
    ]


def test_markdown() -> None:
    text = to_markdown(TABLE)
    header, rule, first, second = [line for line in text.splitlines() if line.startswith("| ")]
    assert header.split("|")[3].strip() == "Size (MiB)"
    assert rule.replace(" ", "").strip("|").split("|")[1].endswith(":")
    assert r"a\|b\_c \<script\>" in first
    assert r"0.50 \[0.25, 0.00\]" in first
    assert [cell.strip() for cell in second.strip("| ").split("|")] == ["plain", "-0.50", "–"]


def test_latex() -> None:
    text = to_latex(TABLE)
    assert r"a\textbar{}b\_c \textless{}script\textgreater{}\&\textquotedbl{}" in text
    assert r"\textbackslash{}end\{table\} \$5\% [red]\textasciitilde{}\#\textasciicircum{}" in text
    assert r"plain & \ensuremath{-}0.50 & -- \\" in text
    assert text.count(r"\end{table*}") == 1
    assert r"\caption{Toy\_title. 100 \% of \textless{}b\textgreater{}}" in text


def test_html() -> None:
    text = to_html(TABLE)
    assert "<script>" not in text
    assert "a|b_c &lt;script&gt;&amp;&quot;" in text
    assert "100 % of &lt;b&gt;" in text
    assert '<td class="number">–</td>' in text


def test_console_shows_brackets_as_they_are() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(to_console(TABLE))
    text = console.export_text()
    assert "[red]~#^" in text
    assert "0.50 [0.25, 0.00]" in text
    assert "–" in text


@pytest.mark.parametrize("room", [30, 60, 80, 100, 300])
def test_console_shows_all_of_a_wide_table_in_pieces(room: int) -> None:
    """Every cell is there whole, on a line that begins with its row's name."""
    columns = (
        Column("m", "Method"),
        *(Column(f"c{i}", f"Some column {i}", "s", ",d") for i in range(12)),
        Column("long", "A column with a long title", "tokens/session", ",d"),
        Column("note", "Break-even"),
    )
    rows: list[dict[str, Value]] = []
    for r in range(1, 9):
        numbers = {f"c{i}": 10_000 * r + i for i in range(12)}
        rows.append({"m": f"method-{r}", "note": f"said-{r}", "long": r, **numbers})
    table = Table("w", "Wide", "", columns, tuple(rows))
    console = Console(width=room, record=True, file=io.StringIO())
    console.print(to_console(table))
    lines = [line.split() for line in console.export_text().splitlines()]
    for r in range(1, 9):
        mine = [line[1:] for line in lines if line[:1] == [f"method-{r}"]]
        shown = [cell for line in mine for cell in line]
        assert shown == [*(f"{10_000 * r + i:,}" for i in range(12)), str(r), f"said-{r}"]


def test_a_table_refuses_what_it_cannot_show() -> None:
    columns = (Column("a", "A", "", ".1f"),)
    with pytest.raises(ValueError, match="no column for b"):
        Table("t", "T", "", columns, ({"b": 1},))
    with pytest.raises(ValueError, match="not finite"):
        Table("t", "T", "", columns, ({"a": float("nan")},))
