r"""Checkable final answers of published solutions: a box, a `#### n` line, a step's calculation.

An answer is what the scorer `exact_match` can compare: a number or a formula, without its unit.
"""

from __future__ import annotations

import re

from harness.quality._answer import final_answer

SYSTEM = (
    "You help with mathematics. Work each question out in a few short steps and use what was "
    r"found before. End your reply with the final answer alone, as \boxed{answer}."
)
"""Asks for the answer where `exact_match` looks first."""

_OTHER_BOXES = re.compile(r"\\(?:fbox|ANSWER)(?=\s*\{)")
_BARE_BOX = re.compile(r"\\boxed(?![A-Za-z])\s*(?!\{)([^\s$][^$]*?)\s*(?:\$|\\[\])]|$)", re.M)
_HASHES = re.compile(r"^[ \t]*####[ \t]*(\S.*?)[ \t]*$", re.M)
_MARK = re.compile(r"<<.*?>>")
_RESULT = re.compile(r"<<[^<>]*=([^<>=]*)>>")
_SAID = re.compile(r"\banswer is\b:?(?P<answer>[^\n]+)", re.I)

_FONT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_LETTER = re.compile(r"(?<![\\A-Za-z])[A-Za-z]")
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:\s?/\s?\d+)?|\.\d+")
_NUMBERS_IN_A_ROW = re.compile(r"\d\s+[\d\\]")
_MATH_MODE = re.compile(r"\\[()\[\]]")
_AROUND = " \t\n$*"


def boxed(text: str) -> str | None:
    r"""What the last balanced `\boxed{}`, `\fbox{}` or `\ANSWER{}` holds; None where there is none.

    A box without braces, as old TeX has it (`\boxed 5$`), counts where no other does.
    """
    marked = _OTHER_BOXES.sub(r"\\boxed", text)
    found = final_answer(marked, whole=True) if r"\boxed" in marked else None
    # Without a balanced box the whole text comes back, with the broken one in it.
    if found is not None and r"\boxed" not in found:
        return found
    bare = _BARE_BOX.findall(marked)
    return bare[-1].rstrip(" .") or None if bare else None


def after_hashes(text: str) -> str | None:
    """What follows `####` on the last line that begins with it."""
    found = _HASHES.findall(text)
    return found[-1] if found else None


def without_hashes(text: str) -> str:
    """`text` without its `#### n` lines."""
    return _HASHES.sub("", text).strip()


def without_marks(text: str) -> str:
    """`text` without calculator marks: `9 * 2 = <<9*2=18>>18` is `9 * 2 = 18`."""
    return _MARK.sub("", text)


def calculated(text: str) -> str | None:
    """The number that the last calculator mark of `text` came to; None where there is none."""
    results = _RESULT.findall(text)
    if not results:
        return None
    result = results[-1].strip().removesuffix("%")
    return result if result and final_answer(result) == result else None


def said(text: str) -> str | None:
    """What stands behind the last "answer is", to the end of its line."""
    found = _SAID.findall(text)
    return found[-1] if found else None


def checkable(answer: str) -> str | None:
    r"""`answer` without its unit and its dress; None for prose, and for several numbers in words.

    A formula without words stays as it is: 6.75 of "6.75 hours", but all of "\frac{80!}{64!}".
    """
    bare = _undressed(_FONT.sub(" ", answer))
    if _FONT.search(answer) and _is_formula(bare) and not _NUMBERS_IN_A_ROW.search(bare):
        return bare
    plain = _undressed(_FONT.sub(r" \1 ", answer))
    if not _LETTER.search(plain):
        return plain if _is_formula(plain) else None
    numbers, last = _NUMBER.findall(plain), final_answer(plain)
    alone = len(numbers) == 1 and last is not None and last.endswith(numbers[0].rstrip(","))
    return last if alone else None


def _undressed(text: str) -> str:
    plain = _MATH_MODE.sub(" ", text).replace(r"\$", "$").strip(_AROUND)
    return plain.rstrip(" .").strip(_AROUND)


def _is_formula(text: str) -> bool:
    return not _LETTER.search(text) and any(c.isdigit() for c in text)
