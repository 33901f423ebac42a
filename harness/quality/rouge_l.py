"""ROUGE-L F1 of the reply against the reference method's reply at that turn"""

from __future__ import annotations

from collections.abc import Sequence

from harness.quality._metric import TurnMetric
from harness.quality._words import words
from harness.quality.base import Needs, Resources


class RougeL(TurnMetric):
    """F1 in [0, 1] of the longest common subsequence of words (Lin 2004), by `rouge_score`.

    No stemming. Words as in `harness.quality._words`, so that Chinese is compared by character.
    An empty reply has the value 0.
    """

    key = "rouge_l"
    about = "ROUGE-L F1 of a reply against the reference method's reply."
    citation_text = "Lin, ROUGE: A Package for Automatic Evaluation of Summaries, 2004."
    needs: Needs = "reference_reply"
    self_value: float | None = 1.0

    def score_texts(
        self, predictions: Sequence[str], references: Sequence[str], resources: Resources
    ) -> list[float]:
        from rouge_score.rouge_scorer import RougeScorer

        scorer = RougeScorer(["rougeL"], tokenizer=_Words())
        return [
            float(scorer.score(reference, reply)["rougeL"].fmeasure)
            for reply, reference in zip(predictions, references, strict=True)
        ]


class _Words:
    """The tokenizer that `rouge_score` expects: an object with `tokenize`."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)
