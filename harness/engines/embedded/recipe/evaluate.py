"""The bar: how close G is to F on prompts of kinds that it never trained on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch

from harness.engines.embedded.recipe.generate import encode_with_spans, sample_replies, template_ids
from harness.engines.embedded.recipe.prompts import Dialogue


@dataclass(frozen=True)
class HeldOut:
    """Held-out figures of a surrogate. `agreement` is a share, `kl` KL(F || G) in nats.

    `repetition_f` and `repetition_g`: share of repeated word 4-grams in greedy replies.
    `block_share`: parameters in G's blocks over those in F's. Means are over reply positions.
    """

    prompts: int
    positions: int
    agreement: float
    kl: float
    repetition_f: float
    repetition_g: float
    block_share: float

    def rounded(self) -> dict[str, float | int]:
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(self).items()}


def evaluate(
    f: Any,
    g: Any,
    tokenizer: Any,
    dialogues: list[Dialogue],
    *,
    seed: int,
    sampled_tokens: int = 128,
    greedy_tokens: int = 96,
    greedy_prompts: int | None = None,
) -> HeldOut:
    """Sample F's replies (temperature 0.8) to `dialogues`, then compare both models on them."""
    chats: list[list[dict[str, str]]] = [
        [{"role": "user", "content": d.turns[0]}] for d in dialogues
    ]
    prompts = [template_ids(tokenizer, chat, add_generation_prompt=True) for chat in chats]
    generator = torch.Generator().manual_seed(seed)
    replies = sample_replies(
        f, prompts, temperature=0.8, max_new_tokens=sampled_tokens, generator=generator
    )
    samples = []
    for chat, reply in zip(chats, replies, strict=True):
        text = tokenizer.decode(reply, skip_special_tokens=True)
        samples.append(
            encode_with_spans(tokenizer, [*chat, {"role": "assistant", "content": text}])
        )
    agreement, kl, positions = compare(f, g, samples)
    greedy = prompts if greedy_prompts is None else prompts[:greedy_prompts]
    return HeldOut(
        prompts=len(prompts),
        positions=positions,
        agreement=agreement,
        kl=kl,
        repetition_f=greedy_repetition(f, tokenizer, greedy, greedy_tokens),
        repetition_g=greedy_repetition(g, tokenizer, greedy, greedy_tokens),
        block_share=block_parameters(g) / block_parameters(f),
    )


@torch.inference_mode()
def compare(
    f: Any, g: Any, samples: list[tuple[list[int], list[tuple[int, int]]]]
) -> tuple[float, float, int]:
    """Top-1 agreement, mean KL(F || G) over the whole vocabulary, and reply positions in all."""
    agree, kl, count = 0, 0.0, 0
    for ids, spans in samples:
        positions = torch.cat([torch.arange(s - 1, e - 1) for s, e in spans])
        if len(positions) == 0:
            continue
        logp_f, logp_g = (_log_probabilities(m, ids, positions) for m in (f, g))
        agree += int((logp_f.argmax(-1) == logp_g.argmax(-1)).sum())
        kl += float((logp_f.exp() * (logp_f - logp_g)).sum())
        count += len(positions)
    return agree / count, kl / count, count


def greedy_repetition(model: Any, tokenizer: Any, prompts: list[list[int]], tokens: int) -> float:
    """Mean share of repeated word 4-grams over the greedy replies to `prompts`."""
    replies = sample_replies(
        model, prompts, temperature=0.0, max_new_tokens=tokens, generator=torch.Generator()
    )
    shares = [
        repeated_share(tokenizer.decode(r, skip_special_tokens=True).split()) for r in replies
    ]
    return sum(shares) / len(shares)


def repeated_share(words: list[str], n: int = 4) -> float:
    """1 - distinct n-grams / n-grams; 0 for a text too short to have any."""
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def block_parameters(model: Any) -> int:
    """Parameters in the transformer blocks: without embeddings, final norm and head."""
    return sum(p.numel() for p in model.model.layers.parameters())


def _log_probabilities(model: Any, ids: list[int], positions: torch.Tensor) -> torch.Tensor:
    hidden = model.model(torch.tensor([ids])).last_hidden_state[0, positions]
    logp: torch.Tensor = model.lm_head(hidden).float().log_softmax(-1)
    return logp
