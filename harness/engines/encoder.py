"""The sentence encoder: texts to unit vectors, off the event loop's thread."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.engines.base import ModelFacts
from harness.engines.compute import cpu_thread
from harness.engines.hub import is_offline, quiet
from harness.engines.pairs import EncoderSpec
from harness.errors import UserError

_BATCH = 32


class SentenceEncoder:
    """A sentence-transformers model behind an asyncio front.

    The same call gives the same numbers. A text longer than `max_tokens` is cut by the model.
    """

    def __init__(self, model: Any, facts: ModelFacts) -> None:
        self.facts = facts
        self._model: Any = model
        # A tokenizer changes its padding while it encodes: counting must not share the model's.
        self._counter: Any = copy.deepcopy(model.tokenizer)
        self._own_thread = (
            None
            if model.device.type == "cpu"
            else ThreadPoolExecutor(max_workers=1, thread_name_prefix="encoder")
        )

    @classmethod
    def load(cls, source: Path | str, spec: EncoderSpec, *, offline: bool) -> SentenceEncoder:
        """Load from a folder or a hub id, in float32. Raises UserError when that fails."""
        import torch
        from sentence_transformers import SentenceTransformer

        device = spec.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            with quiet():
                model: Any = SentenceTransformer(
                    str(source),
                    revision=spec.revision if isinstance(source, str) else None,
                    device=device,
                    local_files_only=isinstance(source, Path) or is_offline(offline),
                    model_kwargs={"use_safetensors": True, "dtype": torch.float32},
                )
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or ["unknown reason"])[0]
            raise UserError(spec.id, f"the encoder cannot be loaded: {reason}") from error
        weights = list(model.parameters())
        facts = ModelFacts(
            model=spec.id,
            device=str(model.device),
            dtype="float32",
            parameters=sum(p.numel() for p in weights),
            weights_bytes=sum(p.nbytes for p in weights),
            kv_bytes_per_token=None,
            context_tokens=model.max_seq_length,
        )
        return cls(model, facts)

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit-length embeddings, one per text, in order."""
        if not texts:
            return []
        loop = asyncio.get_running_loop()
        thread = self._own_thread or cpu_thread()
        return await loop.run_in_executor(thread, self.embed_now, list(texts))

    def embed_now(self, texts: Sequence[str]) -> list[list[float]]:
        """`embed` on the calling thread, for code that is not asynchronous."""
        vectors = self._model.encode(
            list(texts), batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
        )
        return [[float(x) for x in vector] for vector in vectors]

    def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens the model reads for `texts`: special ones in, those cut off out."""
        if not texts:
            return 0
        limit = self.facts.context_tokens
        encoded = self._counter(list(texts), add_special_tokens=True, truncation=False)
        lengths = [len(ids) for ids in encoded["input_ids"]]
        return sum(n if limit is None else min(n, limit) for n in lengths)

    async def close(self) -> None:
        """Wait for what is running, then free the model."""
        if self._own_thread is not None:
            await asyncio.to_thread(self._own_thread.shutdown)
        self._model = None
