"""share of repeated 4-grams in the reply: 0 for none, near 1 for a reply that loops"""

from __future__ import annotations

from collections.abc import Sequence

from harness.quality._metric import TurnMetric
from harness.quality._words import words
from harness.quality.base import Needs, Resources

_N = 4


class Repetition(TurnMetric):
    """1 - distinct / all 4-grams of words, in [0, 1); lower is better.

    A reply under four words has no 4-gram and the value 0.
    """

    key = "repetition"
    about = "Share of a reply's word 4-grams that repeat an earlier one."
    needs: Needs = "none"

    def score_texts(
        self, predictions: Sequence[str], references: Sequence[str], resources: Resources
    ) -> list[float]:
        return [repeated_share(text) for text in predictions]


def repeated_share(text: str) -> float:
    """1 - distinct / all 4-grams of the words of `text`; 0 when there is none."""
    tokens = words(text)
    grams = [tuple(tokens[start : start + _N]) for start in range(len(tokens) - _N + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
