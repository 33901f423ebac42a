"""Text of others on the user's terminal: what would steer the terminal is shown, not obeyed."""

from __future__ import annotations

import unicodedata


def plain(text: str) -> str:
    r"""`text` with control and direction-changing characters written out, e.g. `\x1b`.

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not _steers(c) else _written_out(c) for c in text)


def _steers(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or (
        unicodedata.bidirectional(character)
        in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    )


def _written_out(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
