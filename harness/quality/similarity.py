"""cosine of sentence embeddings of the reply and of the reference method's reply at that turn"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.quality._metric import TurnMetric
from harness.quality.base import Needs, Resources

_BATCH = 32


class Similarity(TurnMetric):
    """Cosine similarity in [-1, 1] of the pair's sentence embeddings; 1 is the same meaning.

    An empty reply has similarity 0: it says nothing of what the reference says. The encoder reads
    no further than its own length limit (256 word pieces for all-MiniLM-L6-v2). It runs on the
    CPU, so that a score does not depend on the card. Raises UserError without an encoder folder.
    """

    key = "similarity"
    about = "Cosine of sentence embeddings of a reply and of the reference method's reply."
    needs: Needs = "reference_reply"
    self_value: float | None = 1.0

    def __init__(self) -> None:
        super().__init__()
        self._encoders: dict[Path, Any] = {}

    def score_texts(
        self, predictions: Sequence[str], references: Sequence[str], resources: Resources
    ) -> list[float]:
        spoken = [text for text in (*predictions, *references) if text.strip()]
        # Sorted and distinct: the batches, and with them the last digits, do not depend on order.
        texts = sorted(set(spoken))
        if not texts:
            return [0.0] * len(predictions)
        rows = self._encoder(resources.encoder_dir).encode(
            texts, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        vector = dict(zip(texts, rows.astype("float64"), strict=True))
        return [
            _cosine(vector[reply], vector[reference]) if reply in vector else 0.0
            for reply, reference in zip(predictions, references, strict=True)
        ]

    def _encoder(self, folder: Path | None) -> Any:
        if folder is None:
            raise UserError("similarity", "needs the folder of a sentence encoder; none was given")
        folder = Path(folder)
        if folder not in self._encoders:
            if not (folder / "modules.json").is_file():
                raise UserError(folder, "is no sentence-transformers folder: it lacks modules.json")
            self._encoders[folder] = _load(folder)
        return self._encoders[folder]


def _load(folder: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    from harness.engines.hub import quiet

    with quiet():
        return SentenceTransformer(
            str(folder),
            device="cpu",
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )


def _cosine(left: Any, right: Any) -> float:
    return max(-1.0, min(1.0, float(left @ right)))
