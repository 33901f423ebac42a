"""Splitting a text into words, the same way for every scorer that counts them."""

from __future__ import annotations

import re

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits in lower case; a Chinese or Japanese character is one word.

    On ASCII text these are the words of `rouge_score`'s own tokenizer without its stemmer.
    """
    return _WORD.findall(text.lower())
