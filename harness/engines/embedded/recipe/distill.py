"""Healing: a LoRA on the pruned network, distilled on F's distribution over F's own replies.

F's next-token distribution is computed once per position and kept as its TOP most likely tokens
and the mass of the rest. The loss is KL(F || G) over that partition of the vocabulary: a lower
bound of the full KL that is tight where F puts its mass, and it needs no second pass of F.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

TOP = 64


@dataclass(frozen=True)
class Labels:
    """F's view of the replies of one dialogue, N reply positions in all.

    ids: all token ids. positions (N): index of the token *before* each reply token.
    tokens (N, TOP) and logp (N, TOP): F's most likely next tokens and their log-probabilities.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    tokens: torch.Tensor
    logp: torch.Tensor


@dataclass(frozen=True)
class DistillSettings:
    rank: int = 26
    alpha: float = 52.0
    epochs: int = 2
    learning_rate: float = 1.5e-3
    warmup_steps: int = 30
    batch_tokens: int = 2048
    clip: float = 1.0
    seed: int = 0


def reply_positions(dialogue: dict[str, Any]) -> torch.Tensor:
    """Index of the token before each reply token of a line of `generate.read_dialogues`."""
    return torch.cat([torch.arange(s - 1, e - 1) for s, e in dialogue["spans"]])


@torch.no_grad()
def write_labels(model: Any, dialogues: list[dict[str, Any]], path: Path) -> None:
    """F's TOP tokens at every reply position of `dialogues`, in their order, as safetensors."""
    from safetensors.torch import save_file

    tokens: dict[int, torch.Tensor] = {}
    logp: dict[int, torch.Tensor] = {}
    lengths = [len(d["ids"]) for d in dialogues]
    for batch in tqdm(list(batches(lengths, 4096, random.Random(0))), desc="labels"):
        hidden = model.model(pad([torch.tensor(dialogues[i]["ids"]) for i in batch]))[0]
        for row, i in enumerate(batch):
            states = hidden[row, reply_positions(dialogues[i])]
            top = model.lm_head(states).float().log_softmax(-1).topk(TOP, dim=-1)
            tokens[i], logp[i] = top.indices.int(), top.values.half()
    order = range(len(dialogues))
    together = {
        "tokens": torch.cat([tokens[i] for i in order]),
        "logp": torch.cat([logp[i] for i in order]),
    }
    save_file(together, path)


def read_labels(dialogues: list[dict[str, Any]], path: Path) -> list[Labels]:
    """What `write_labels` wrote for `dialogues`."""
    from safetensors.torch import load_file

    stored = load_file(path)
    positions = [reply_positions(d) for d in dialogues]
    sizes = [len(p) for p in positions]
    tokens, logp = stored["tokens"].split(sizes), stored["logp"].split(sizes)
    return [
        Labels(torch.tensor(d["ids"]), p, t, q)
        for d, p, t, q in zip(dialogues, positions, tokens, logp, strict=True)
    ]


def partition_kl(logits: torch.Tensor, tokens: torch.Tensor, logp: torch.Tensor) -> torch.Tensor:
    """KL(F || G) per position over {TOP tokens, all others}, in nats.

    Shapes: logits (N, V), tokens and logp (N, TOP), result (N).
    """
    logits = logits.float()
    ours = logits.gather(1, tokens.long()) - logits.logsumexp(-1, keepdim=True)
    theirs = logp.float()
    rest_f = (1 - theirs.exp().sum(-1)).clamp(min=1e-6)
    rest_g = (1 - ours.exp().sum(-1)).clamp(min=1e-6)
    inside = (theirs.exp() * (theirs - ours)).sum(-1)
    return inside + rest_f * (rest_f.log() - rest_g.log())


def distill(
    model: Any,
    trainable: list[torch.nn.Parameter],
    train: list[Labels],
    valid: list[Labels],
    settings: DistillSettings,
    log: Path,
    checkpoint: Callable[[], None],
) -> None:
    """Train `trainable`; append the curve to `log` (JSONL) and call `checkpoint` at each entry."""
    rng = random.Random(settings.seed)
    lengths = [len(x.ids) for x in train]
    plan = [b for _ in range(settings.epochs) for b in batches(lengths, settings.batch_tokens, rng)]
    optimizer = torch.optim.AdamW(trainable, lr=settings.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: _warm_cosine(s, settings.warmup_steps, len(plan))
    )
    start = time.monotonic()
    recent: list[float] = []
    for step, batch in enumerate(tqdm(plan, desc="distill", file=sys.stderr), start=1):
        loss = batch_kl(model, [train[i] for i in batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trainable, settings.clip)
        optimizer.step()
        schedule.step()
        recent.append(loss.item())
        if step % 50 == 0 or step == len(plan):
            entry = {
                "step": step,
                "steps": len(plan),
                "train_kl": round(sum(recent) / len(recent), 4),
                "valid_kl": round(mean_kl(model, valid, settings.batch_tokens), 4),
                "seconds": round(time.monotonic() - start),
            }
            with log.open("a", encoding="utf-8") as out:
                out.write(json.dumps(entry) + "\n")
            recent.clear()
            checkpoint()


@torch.inference_mode()
def mean_kl(model: Any, labels: list[Labels], batch_tokens: int) -> float:
    """Mean partition KL over all reply positions of `labels`, in nats."""
    total, count = 0.0, 0
    for batch in batches([len(x.ids) for x in labels], batch_tokens, random.Random(0)):
        group = [labels[i] for i in batch]
        positions = sum(len(x.positions) for x in group)
        total += batch_kl(model, group).item() * positions
        count += positions
    return total / count


def batch_kl(model: Any, group: list[Labels]) -> torch.Tensor:
    """Mean partition KL over the reply positions of `group`, with gradients."""
    # Right padding under a causal mask: no real position sees it, so no mask is needed.
    hidden = model.model(pad([x.ids for x in group])).last_hidden_state
    states = torch.cat([hidden[row, x.positions] for row, x in enumerate(group)])
    tokens = torch.cat([x.tokens for x in group])
    logp = torch.cat([x.logp for x in group])
    return partition_kl(model.lm_head(states), tokens, logp).mean()


def pad(rows: list[torch.Tensor]) -> torch.Tensor:
    """Rows of ids, padded on the right with 0."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def batches(lengths: list[int], budget: int, rng: random.Random) -> Iterator[list[int]]:
    """Batches of similar length within `budget` padded tokens, in random order."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i] + rng.uniform(0, 24))
    batches: list[list[int]] = [[]]
    for i in order:
        if batches[-1] and (len(batches[-1]) + 1) * lengths[i] > budget:
            batches.append([])
        batches[-1].append(i)
    rng.shuffle(batches)
    yield from batches


def _warm_cosine(step: int, warmup: int, total: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
