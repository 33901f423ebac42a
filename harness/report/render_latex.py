r"""A table as LaTeX for `\usepackage{booktabs}`, everything escaped."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from harness.report.table import Table

_ESCAPES: Mapping[str, str] = MappingProxyType(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "%": r"\%",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "–": "--",
        "−": r"\ensuremath{-}",
        "±": r"\ensuremath{\pm}",
        "≥": r"\ensuremath{\geq}",
        "≤": r"\ensuremath{\leq}",
        "∞": r"\ensuremath{\infty}",
        "Δ": r"\ensuremath{\Delta}",
        "×": r"\ensuremath{\times}",
    }
)


def to_latex(table: Table) -> str:
    """A `table*` environment labelled `tab:<name>`; notes follow the tabular in small print."""
    layout = "".join("l" if column.is_text else "r" for column in table.columns)
    headers = _row([escape(column.header) for column in table.columns])
    texts = [column.is_text for column in table.columns]
    rows = [_row(list(map(_cell, row, texts))) for row in table.cells()]
    notes = [rf"\par\footnotesize {escape(note)}" for note in table.notes]
    lines = [
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{escape(f'{table.title}. {table.caption}')}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        r"\small",
        rf"\begin{{tabular}}{{{layout}}}",
        r"\toprule",
        headers,
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
        *notes,
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """`text` so that LaTeX prints it as it is, on one line."""
    return "".join(_ESCAPES.get(sign, sign) for sign in " ".join(text.split()))


def _cell(text: str, is_text: bool) -> str:
    shown = escape(text if is_text else text.replace("-", "−"))  # a number's minus is no hyphen
    # A bracket at the start of a row would be read as an argument of the line break before it.
    return f"{{}}{shown}" if shown.startswith("[") else shown


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"
