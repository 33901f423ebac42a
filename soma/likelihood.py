"""How likely G finds a reply: token negative log-likelihood, teacher-forced, in nats."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.engines.transformers.adapters import LoraAdapter, adaptable_sites, serving
from harness.method import Worked
from soma.cases import Case
from soma.forward import Row, embed, is_mixed, micro_batches, predict, token_budget
from soma.neighbours import wide


def token_nll(logits: Tensor, reply: Tensor) -> Tensor:
    """-log p of each token of `reply` (m,), (B, m), from the logits (B, m, V) that predict it."""
    rows = len(logits)
    flat = wide(logits).flatten(0, 1)
    return torch.nn.functional.cross_entropy(flat, reply.repeat(rows), reduction="none").view(
        rows, -1
    )


@dataclass(frozen=True)
class Judged:
    """Replies whose likelihood under G, with `adapter` if there is one, is asked for."""

    cases: tuple[Case, ...]
    adapter: LoraAdapter | None = None


def judge(
    model: Any, tokenizer: Any, payloads: Sequence[Judged]
) -> Generator[None, None, list[Worked[list[float]]]]:
    """Mean token NLL of each case's reply, in nats. Work in the sense of `harness.method.Work`."""
    sites = adaptable_sites(model)
    results = []
    for judged in payloads:
        values = [0.0] * len(judged.cases)
        rows = [Row(i, c.tokens - 1, len(c.reply)) for i, c in enumerate(judged.cases)]
        for group in micro_batches(rows, token_budget(model), mixed=is_mixed(model)):
            cases = [judged.cases[row.index] for row in group]
            with torch.no_grad(), serving(sites, [judged.adapter] * len(group)):
                embeds = [embed(model, (*c.prompt, *c.reply[:-1])) for c in cases]
                logits = predict(model, embeds, max(row.reply for row in group))
                for place, (row, case) in enumerate(zip(group, cases, strict=True)):
                    reply = torch.tensor(case.reply, device=logits.device)
                    nll = token_nll(logits[place : place + 1, -row.reply :], reply)
                    values[row.index] = float(nll.mean())
            yield
        results.append(Worked(values, forward=sum(row.length for row in rows)))
    return results
