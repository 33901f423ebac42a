"""Reading the final answer out of a reply, and writing a number in one way."""

from __future__ import annotations

import re

_BOXED = re.compile(r"\\f?boxed\s*\{")
_DIGITS = r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)"
# A minus belongs to the number unless it follows a word, a number or a bracket ("10-12").
# Digits that continue a word or a decimal ("x2", "v1.2") are no number of their own.
_NUMBER = re.compile(
    rf"(?P<sign>(?<![\w)\]}}])[-\u2212])?[$€£]?"
    rf"(?<![^\W\d])(?<!\d)(?<!\d[.,])(?P<digits>{_DIGITS})"
    rf"(?:\s?/\s?(?P<below>\d+)(?![\d/]))?"
)


def final_answer(text: str, *, whole: bool = False) -> str | None:
    """The last balanced `\\boxed{...}` of `text`, else its last number, else None.

    `whole`: the text is an answer by itself (a gold answer), taken as it is when it has no box.
    """
    boxed = _last_boxed(text)
    if boxed is not None:
        return boxed
    if whole:
        return text.strip().removeprefix("$").removesuffix("$").strip() or None
    numbers = list(_NUMBER.finditer(text))
    return numbers[-1].group() if numbers else None


def canonical(answer: str) -> str:
    """`answer` with a plain number written bare: no thousands commas, currency, percent sign."""
    plain = answer.strip().replace("\\$", "$").replace("\\%", "%").replace("{,}", ",")
    plain = plain.removesuffix("%").rstrip()
    match = _NUMBER.fullmatch(plain)
    if match is None:
        return answer.strip()
    sign = "-" if match["sign"] else ""
    below = f"/{match['below']}" if match["below"] else ""
    return f"{sign}{match['digits'].replace(',', '')}{below}"


def _last_boxed(text: str) -> str | None:
    for start in reversed([match.end() for match in _BOXED.finditer(text)]):
        end = _closing_brace(text, start)
        if end is not None and text[start:end].strip():
            return text[start:end].strip()
    return None


def _closing_brace(text: str, start: int) -> int | None:
    """Where the brace opened just before `start` closes; None when it never does."""
    depth = 1
    for place in range(start, len(text)):
        if text[place - 1] == "\\":  # an escaped brace is a sign of the formula
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return None
