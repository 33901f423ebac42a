"""The mining objective J(P), term by term (SOMA, arXiv 2605.11317, stage 1).

For warm turn t with context S_t and F's reply y = a_t^F, under a soft prompt P before S_t:

    position loss  l_i  = -sum_v s_tau(v | y_i) log(1 - p(v | P, S_t, y_<i)),  v in N_k(y_i) + {y_i}
    weight         w_i  = 1 + lambda_exp clip(cos(e_bar_i, e_{y_i}), 0, 1),
                          e_bar_i = sum of p(v) e_v over the m likeliest tokens
    J(P) = mean_t [ mean_i w_i l_i - beta H_tail ] + lambda_P ||P||_F^2

J is small where G gives little mass to the neighbourhood of what F said: P is sought where G
departs from F. H_tail, the mean entropy at the last positions, keeps such a G from degenerating.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from soma.neighbours import Neighbourhood, wide


@dataclass(frozen=True)
class Objective:
    """Constants of J. `neighbours`: k. `top_m`: m. `tail`: positions that H_tail looks at.

    `expectation_weight` is lambda_exp, `anti_degeneration` beta, `norm_weight` lambda_P.
    """

    neighbours: int = 32
    tau: float = 0.7
    top_m: int = 100
    expectation_weight: float = 1.0
    anti_degeneration: float = 0.05
    norm_weight: float = 1e-4
    tail: int = 8


@dataclass(frozen=True)
class Terms:
    """Of one turn under B prompts, each (B,): mean l, mean w l, and H_tail."""

    position: Tensor
    weighted: Tensor
    entropy: Tensor

    def objective(self, settings: Objective) -> Tensor:
        """The turn's part of J, (B,): mean w l - beta H_tail."""
        return self.weighted - settings.anti_degeneration * self.entropy


def position_losses(logits: Tensor, hood: Neighbourhood) -> Tensor:
    """l_i, (B, m), from `logits` (B, m, V) that predict the m tokens of the reply."""
    logits = wide(logits)
    ids = hood.ids.expand(len(logits), -1, -1)
    log_p = logits.log_softmax(-1)
    # Only the likeliest token's p can be so near to 1 that 1 - p loses its digits, and with them
    # the gradient where J has most to take away: for it, 1 - p is summed over the others.
    likeliest = logits.argmax(-1, keepdim=True)
    others = log_p.scatter(-1, likeliest, -torch.inf).logsumexp(-1, keepdim=True)
    is_likeliest = ids == likeliest
    p = log_p.gather(-1, ids).exp().masked_fill(is_likeliest, 0)
    log_rest = torch.where(is_likeliest, others, torch.log1p(-p))
    return -(hood.weights.to(log_rest.dtype) * log_rest).sum(-1)


def expectation_weights(
    logits: Tensor, reply: Tensor, table: Tensor, top_m: int, weight: float
) -> Tensor:
    """w_i, (B, m), for `reply` (m,) under the input embeddings `table` (V, d).

    The choice of the m likeliest tokens is a constant to the gradient, their p is not.
    """
    logits = wide(logits)
    if weight == 0:
        return logits.new_ones(logits.shape[:2])
    top = logits.topk(min(top_m, logits.shape[-1]), dim=-1)
    # Relative to the likeliest: a common factor has no bearing on a cosine.
    p = (top.values - top.values[..., :1].detach()).exp()
    expected = torch.einsum("bmk,bmkd->bmd", p, wide(table[top.indices]))
    similar = torch.cosine_similarity(expected, wide(table[reply])[None], dim=-1)
    return 1 + weight * similar.clamp(0, 1)


def tail_entropy(logits: Tensor, tail: int) -> Tensor:
    """H_tail, (B,): mean entropy in nats at the last `tail` positions, or at all if fewer."""
    log_p = wide(logits[:, -tail:]).log_softmax(-1)
    return -(log_p.exp() * log_p).sum(-1).mean(-1)


def norm_penalty(prompts: Tensor) -> Tensor:
    """||P||_F^2, (B,), of squashed prompts (B, L, d)."""
    return wide(prompts).square().sum((-2, -1))


def turn_terms(
    logits: Tensor, reply: Tensor, hood: Neighbourhood, table: Tensor, settings: Objective
) -> Terms:
    """All terms of one turn, from the logits (B, m, V) that predict its reply (m,)."""
    losses = position_losses(logits, hood)
    weights = expectation_weights(logits, reply, table, settings.top_m, settings.expectation_weight)
    entropy = (
        tail_entropy(logits, settings.tail)
        if settings.anti_degeneration
        else losses.new_zeros(len(losses))
    )
    return Terms(losses.mean(-1), (weights * losses).mean(-1), entropy)
