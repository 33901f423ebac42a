"""Words and shapes of a user's turn that point back at what was said before it."""

from __future__ import annotations

import re
from types import MappingProxyType

_ENGLISH = (
    # What has no meaning without something before it.
    r"\b(?:it|its|that|this|these|those|they|them|their|he|she|him|her|his|hers)\b",
    r"\b(?:the (?:same|former|latter|above|previous|first|second|last|other)|(?:an)?other one)\b",
    r"\b(?:above|earlier|previous(?:ly)?|again|instead|still|also|too|another|more|else)\b",
    r"\byour (?:answer|response|reply|previous|last|first|suggestion|list|story|code|plan)\b",
    r"\b(?:you|i|we) (?:just )?(?:said|mentioned|told|wrote|suggested|gave|described|listed)\b",
    r"\b(?:rewrite|rephrase|summari[sz]e|shorten|expand|continue|elaborate|go on|repeat)\b",
)
_CHINESE = (
    r"这|那|它|他们?|她们?|上面|刚才|之前|前面|还有|还是|继续|再|也|呢",
    r"另外|同样|其他|一样",
)

_PATTERNS = MappingProxyType(
    {
        "en": tuple(re.compile(p, re.IGNORECASE) for p in _ENGLISH),
        "zh": tuple(re.compile(p) for p in _CHINESE),
    }
)

_CONTINUES = re.compile(
    r"^(?:and|but|or|so|then|now|ok(?:ay)?|yes|no|why|how about|what about|what if)\b",
    re.IGNORECASE,
)
"""How an English turn begins that goes on from the one before."""

SHORT_WORDS = 4
"""A turn of so few words leaves something out that stands before it (ellipsis)."""

SHORT_CHARACTERS = 8
"""The same where words are not set apart by spaces."""


def cues(turn: str, language: str) -> tuple[str, ...]:
    """The kinds of cue in a user's turn: "word", "beginning", "ellipsis"; none for none.

    Words are known for English and Chinese; elsewhere only ellipsis is seen.
    """
    base = language.split("-")[0].lower()
    found = []
    if any(pattern.search(turn) for pattern in _PATTERNS.get(base, ())):
        found.append("word")
    if base == "en" and _CONTINUES.match(turn.strip()):
        found.append("beginning")
    if _is_short(turn, base):
        found.append("ellipsis")
    return tuple(found)


def _is_short(turn: str, language: str) -> bool:
    if language in ("zh", "ja", "th"):
        return len(turn.strip()) <= SHORT_CHARACTERS
    return len(turn.split()) <= SHORT_WORDS
