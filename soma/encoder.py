"""phi, by which replies and queries are compared: the pair's encoder, or G's own hidden states."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Literal

import torch

from harness.method import Engines, Worked

Phi = Literal["pair", "G"]


async def embed(engines: Engines, phi: Phi, texts: Sequence[str]) -> list[list[float]]:
    """A vector per text, charged to the session. An empty text has no meaning: its vector is 0."""
    spoken = [text for text in texts if text.strip()]
    if not spoken:
        return [[0.0] for _ in texts]
    if phi == "pair":
        vectors = iter(await engines.encoder.embed(spoken))
    else:
        found = await engines.G.work(pooled, tuple(spoken), key="pooled", purpose="embed")
        vectors = iter(found)
    kept = [next(vectors) if text.strip() else None for text in texts]
    width = len(next(v for v in kept if v is not None))
    return [vector if vector is not None else [0.0] * width for vector in kept]


def pooled(
    model: Any, tokenizer: Any, payloads: Sequence[tuple[str, ...]]
) -> Generator[None, None, list[Worked[list[list[float]]]]]:
    """The mean of G's last hidden states over each text. Work as of `harness.method.Work`."""
    results = []
    for texts in payloads:
        vectors, tokens = [], 0
        for text in texts:
            ids = tokenizer(text, return_tensors="pt")["input_ids"].to(model.device)
            with torch.no_grad():
                states = model.base_model(ids, use_cache=False).last_hidden_state
            vectors.append([float(x) for x in states[0].float().mean(0)])
            tokens += ids.shape[1]
            yield
        results.append(Worked(vectors, forward=tokens))
    return results
