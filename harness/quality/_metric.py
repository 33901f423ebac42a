"""The common part of the scorers: an `evaluate.Metric` that works offline and touches no disk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from statistics import fmean
from typing import Any, ClassVar

import datasets
import evaluate

from harness.quality.base import Item, Needs, Resources, Unscored, Value

_DIGITS = 6  # more would show the order in which the processor added numbers up


class TurnMetric(evaluate.Metric, ABC):
    """A metric with one value per text. A subclass gives `key`, `needs` and `score_texts`.

    `compute(predictions=..., references=...)` returns the mean under `key` and the single values
    under `<key>_values`. `values` is the harness's way in and leaves out what cannot be scored.
    """

    key: ClassVar[str]
    about: ClassVar[str]
    citation_text: ClassVar[str] = ""
    needs: Needs = "reference_reply"
    self_value: float | None = None

    def __init__(self) -> None:
        # In memory, and with no folder: the library would otherwise lock and write arrow files in
        # a cache that all processes of the machine share.
        super().__init__(keep_in_memory=True, seed=0)

    def _build_data_dir(self) -> str:
        return str(self._data_dir_root)

    def _info(self) -> evaluate.MetricInfo:
        columns = ["predictions"] if self.needs == "none" else ["predictions", "references"]
        return evaluate.MetricInfo(
            description=self.about,
            citation=self.citation_text,
            inputs_description="predictions: list of str; references: list of str, where needed.",
            features=datasets.Features({name: datasets.Value("string") for name in columns}),
        )

    def _compute(self, **inputs: Any) -> dict[str, Any]:
        predictions = list(inputs.pop("predictions"))
        references = list(inputs.pop("references", ()))
        values = self.score_texts(predictions, references, Resources(**inputs))
        return {
            self.key: fmean(values) if values else None,
            f"{self.key}_values": values,
        }

    @abstractmethod
    def score_texts(
        self, predictions: Sequence[str], references: Sequence[str], resources: Resources
    ) -> list[float]:
        """One value per prediction. `references` is empty when the metric needs none."""

    def values(self, items: Sequence[Item], resources: Resources) -> list[Value]:
        """One value per item, rounded to six digits; Unscored where the other text is missing."""
        verdicts: list[Value | None] = [self._obstacle(item) for item in items]
        able = [item for item, verdict in zip(items, verdicts, strict=True) if verdict is None]
        scores = iter(self._score(able, resources))
        return [next(scores) if verdict is None else verdict for verdict in verdicts]

    def _score(self, items: list[Item], resources: Resources) -> list[float]:
        if not items:
            return []
        others = [self._other(item) for item in items]
        references = [text for text in others if text is not None]
        scores = self.score_texts([item.reply for item in items], references, resources)
        return [round(score, _DIGITS) for score in scores]

    def _other(self, item: Item) -> str | None:
        if self.needs == "none":
            return None
        return item.gold if self.needs == "gold" else item.reference_reply

    def _obstacle(self, item: Item) -> Unscored | None:
        if self.needs == "none":
            return None
        other = self._other(item)
        if other is None:
            missing = "gold answer" if self.needs == "gold" else "reference reply"
            return Unscored(f"no {missing} for this turn")
        if not other.strip():
            return Unscored(f"the {self.needs.replace('_', ' ')} is empty")
        return None
