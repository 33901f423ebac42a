"""1 when the final answer of the reply equals the gold answer as mathematics, else 0"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from harness.quality._answer import canonical, final_answer
from harness.quality._metric import TurnMetric
from harness.quality.base import Needs, Resources

_TIMEOUT_S = 5


class ExactMatch(TurnMetric):
    """Compares final answers by `math-verify` (numbers to 6 decimals, expressions by algebra).

    The final answer of a reply is the content of its last balanced `\\boxed{...}`, else its last
    number; a reply with neither does not match. Two answers that read alike match without algebra.
    An answer that the algebra cannot settle in 5 s does not match; that clock needs the main
    thread, so in another thread there is none.
    """

    key = "exact_match"
    about = "Whether the final answer of a reply equals the gold answer, by math-verify."
    needs: Needs = "gold"

    def score_texts(
        self, predictions: Sequence[str], references: Sequence[str], resources: Resources
    ) -> list[float]:
        return [
            float(_matches(final_answer(reply), final_answer(gold, whole=True)))
            for reply, gold in zip(predictions, references, strict=True)
        ]


def _matches(answer: str | None, gold: str | None) -> bool:
    if answer is None or gold is None:
        return False
    answer, gold = canonical(answer), canonical(gold)
    return answer == gold or _equal_as_mathematics(answer, gold)


def _equal_as_mathematics(answer: str, gold: str) -> bool:
    from math_verify import verify

    seconds = _TIMEOUT_S if threading.current_thread() is threading.main_thread() else None
    parsed_gold, parsed_answer = _parse(gold, seconds), _parse(answer, seconds)
    return bool(verify(parsed_gold, parsed_answer, float_rounding=6, timeout_seconds=seconds))


def _parse(text: str, seconds: int | None) -> Any:
    from math_verify import LatexExtractionConfig, parse

    return parse(
        f"${text}$",
        extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback",
        parsing_timeout=seconds,
    )
