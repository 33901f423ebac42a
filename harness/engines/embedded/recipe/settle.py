"""Against loops: unlikelihood on the repeated 4-grams of G's own greedy replies.

Distillation sees only what F says, and F's replies hold few loops; a small model decoded greedily
falls into them all the same. So G answers training prompts greedily, and every token that completes
a 4-gram which its reply already had is made less likely: the sequence-level unlikelihood of Welleck
et al. 2020, beside the distillation loss that keeps G close to F.
"""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from harness.engines.embedded.recipe.distill import Labels, batch_kl, batches, pad
from harness.engines.embedded.recipe.generate import sample_replies

NGRAM = 4


@dataclass(frozen=True)
class SettleSettings:
    """`rounds` times: greedy replies to `prompts` prompts, then `steps` steps on them.

    `kept`: which share of the way from the distilled weights to the trained ones is gone in the
    end. Half of it already leaves few loops, and costs much less of the likeness to F.
    """

    rounds: int = 2
    prompts: int = 192
    reply_tokens: int = 96
    steps: int = 30
    replies_per_step: int = 12
    kl_tokens: int = 1024
    weight: float = 0.5
    learning_rate: float = 3e-4
    clip: float = 1.0
    kept: float = 0.5
    seed: int = 0


def settle(
    model: Any,
    trainable: list[torch.nn.Parameter],
    prompts: list[list[int]],
    labels: list[Labels],
    settings: SettleSettings,
) -> list[dict[str, float]]:
    """Train `trainable` against loops; returns one entry per round with both losses and the share
    of repeated 4-grams that its greedy replies had before the round.
    """
    rng = random.Random(settings.seed)
    distilled = [p.detach().clone() for p in trainable]
    optimizer = torch.optim.AdamW(trainable, lr=settings.learning_rate, weight_decay=0.0)
    history = []
    for number in range(settings.rounds):
        chosen = rng.sample(prompts, min(settings.prompts, len(prompts)))
        replies = greedy_replies(model, chosen, settings.reply_tokens)
        share = sum(map(len, map(repeats, replies))) / max(1, sum(map(len, replies)))
        plan = list(batches([len(x.ids) for x in labels], settings.kl_tokens, rng))
        totals = {"kl": 0.0, "unlikelihood": 0.0}
        for step in tqdm(range(settings.steps), desc=f"settle {number + 1}", file=sys.stderr):
            kl = batch_kl(model, [labels[i] for i in plan[step % len(plan)]])
            picked = rng.sample(range(len(chosen)), min(settings.replies_per_step, len(chosen)))
            loops = unlikelihood(model, [(chosen[i], replies[i]) for i in picked])
            optimizer.zero_grad(set_to_none=True)
            loss = kl + settings.weight * loops
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(trainable, settings.clip)
            optimizer.step()
            totals["kl"] += kl.item()
            totals["unlikelihood"] += loops.item()
        means = {k: round(v / settings.steps, 4) for k, v in totals.items()}
        history.append({"repeated_before": round(share, 4), **means})
    with torch.no_grad():
        for parameter, before in zip(trainable, distilled, strict=True):
            parameter.copy_(torch.lerp(before, parameter, settings.kept))
    return history


def greedy_replies(model: Any, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Greedy replies in batches of 96."""
    replies: list[list[int]] = []
    for first in range(0, len(prompts), 96):
        replies += sample_replies(
            model,
            prompts[first : first + 96],
            temperature=0.0,
            max_new_tokens=tokens,
            generator=torch.Generator(),
        )
    return replies


def repeats(reply: list[int]) -> list[int]:
    """Positions of `reply` whose token completes a 4-gram that the reply already had."""
    seen: set[tuple[int, ...]] = set()
    found = []
    for end in range(NGRAM, len(reply) + 1):
        gram = tuple(reply[end - NGRAM : end])
        if gram in seen:
            found.append(end - 1)
        seen.add(gram)
    return found


def unlikelihood(model: Any, pairs: list[tuple[list[int], list[int]]]) -> torch.Tensor:
    """Mean of -log(1 - p(token)) over the repeating tokens of (prompt, reply) pairs; 0 for none."""
    hidden = model.model(pad([torch.tensor(p + r) for p, r in pairs])).last_hidden_state
    states, tokens = [], []
    for row, (prompt, reply) in enumerate(pairs):
        for position in repeats(reply):
            states.append(hidden[row, len(prompt) + position - 1])
            tokens.append(reply[position])
    if not states:
        nothing: torch.Tensor = hidden.sum() * 0.0
        return nothing
    logp = model.lm_head(torch.stack(states)).float().log_softmax(-1)
    taken: torch.Tensor = logp.gather(1, torch.tensor(tokens)[:, None]).exp()
    return -torch.log1p(-taken.clamp(max=1 - 1e-4)).mean()
