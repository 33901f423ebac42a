"""Mining and LoRA training as one writes them first, to measure the project's own against.

Plain loops over the equations of SOMA (arXiv 2605.11317): one turn and one candidate at a time, in
float32, with gradients that reach every base weight and logits over the whole sequence; then LoRA
through PEFT on padded batches. The mathematics and the hyperparameters are those of the fast code,
of which nothing is imported here. There is no early stopping on either side of a comparison.

A case is (ids of the prompt, ids of the reply).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Case = tuple[Sequence[int], Sequence[int]]

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class MiningSettings:
    """Constants of J and of its minimization, under the paper's letters where it has any.

    `neighbours` k, `top_m` m, `expectation_weight` lambda_exp, `anti_degeneration` beta,
    `norm_weight` lambda_P, `tail` the positions of H_tail, `scale` that of P = scale tanh(raw).
    """

    iterations: int = 30
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    scale: float = 0.25
    neighbours: int = 32
    tau: float = 0.7
    top_m: int = 100
    expectation_weight: float = 1.0
    anti_degeneration: float = 0.05
    norm_weight: float = 1e-4
    tail: int = 8


@dataclass(frozen=True)
class LoraSettings:
    """The adapter and its optimizer; the number of steps is that of the batches given."""

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.05
    learning_rate: float = 2e-4
    weight_decay: float = 1e-2
    clip: float = 1.0


def mine(model: Any, cases: Sequence[Case], initial: Tensor, settings: MiningSettings) -> Tensor:
    """The M mined prompts P (M, L, d) from the raw prompts `initial`, of the same shape.

    `model` is a float32 causal language model. Afterwards its weights are as they were, need
    gradients, and hold none.
    """
    model.eval().requires_grad_(True)
    table = model.get_input_embeddings().weight.detach()
    hoods = [neighbourhood(reply, table, settings) for _, reply in cases]
    prompts = []
    for start in initial:
        raw = torch.nn.Parameter(start.detach().clone())
        optimizer = torch.optim.AdamW(
            [raw], lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        for _ in range(settings.iterations):
            optimizer.zero_grad()
            model.zero_grad()
            for case, hood in zip(cases, hoods, strict=True):
                prompt = squashed(raw, settings)
                loss = turn_loss(model, prompt, case, hood, settings) / len(cases)
                loss.backward()
            norm_loss(squashed(raw, settings), settings).backward()
            torch.nn.utils.clip_grad_norm_([raw], settings.clip)
            optimizer.step()
        prompts.append(squashed(raw, settings).detach())
    model.zero_grad()
    return torch.stack(prompts)


@torch.no_grad()
def mining_losses(
    model: Any, cases: Sequence[Case], prompts: Tensor, settings: MiningSettings
) -> list[float]:
    """J of each of the prompts P (M, L, d)."""
    table = model.get_input_embeddings().weight
    hoods = [neighbourhood(reply, table, settings) for _, reply in cases]
    losses = []
    for prompt in prompts:
        turns = [
            float(turn_loss(model, prompt, case, hood, settings))
            for case, hood in zip(cases, hoods, strict=True)
        ]
        losses.append(sum(turns) / len(turns) + float(norm_loss(prompt, settings)))
    return losses


def squashed(raw: Tensor, settings: MiningSettings) -> Tensor:
    """P = scale tanh(raw)."""
    return settings.scale * torch.tanh(raw)


def neighbourhood(
    reply: Sequence[int], table: Tensor, settings: MiningSettings
) -> tuple[Tensor, Tensor]:
    """Ids and weights s_tau(v | y), both (m, k + 1): y first, then its k nearest by cosine."""
    tokens = torch.tensor(reply, device=table.device)
    directions = functional.normalize(table, dim=-1)
    similar = directions[tokens] @ directions.T
    others = similar.scatter(1, tokens[:, None], -torch.inf).topk(settings.neighbours)
    ids = torch.cat([tokens[:, None], others.indices], dim=1)
    cosines = torch.cat([torch.ones_like(others.values[:, :1]), others.values], dim=1)
    return ids, torch.softmax(cosines / settings.tau, dim=-1)


def turn_loss(
    model: Any, prompt: Tensor, case: Case, hood: tuple[Tensor, Tensor], settings: MiningSettings
) -> Tensor:
    """mean_i w_i l_i - beta H_tail of one turn under one prompt P."""
    prompt_ids, reply_ids = case
    embedding = model.get_input_embeddings()
    ids = torch.tensor([*prompt_ids, *reply_ids], device=prompt.device)
    embeds = torch.cat([prompt, embedding(ids)])[None]
    logits = model(inputs_embeds=embeds, use_cache=False).logits[0]
    first = len(prompt) + len(prompt_ids) - 1
    p = torch.softmax(logits[first : first + len(reply_ids)], dim=-1)

    near, substitutes = hood
    rest = 1 - p.gather(1, near).clamp(max=1 - 1e-7)
    losses = -(substitutes * torch.log(rest)).sum(-1)

    table = embedding.weight.detach()
    likeliest = p.topk(min(settings.top_m, p.shape[-1]))
    expected = (likeliest.values[:, :, None] * table[likeliest.indices]).sum(1)
    similar = torch.cosine_similarity(expected, table[near[:, 0]], dim=-1)
    weights = 1 + settings.expectation_weight * similar.clamp(0, 1)

    last = p[-settings.tail :]
    entropy = -(last * torch.log(last.clamp(min=torch.finfo(p.dtype).tiny))).sum(-1).mean()
    return (weights * losses).mean() - settings.anti_degeneration * entropy


def norm_loss(prompt: Tensor, settings: MiningSettings) -> Tensor:
    """lambda_P times the squared Frobenius norm of P."""
    return settings.norm_weight * prompt.square().sum()


def train(
    model: Any,
    cases: Sequence[Case],
    weights: Sequence[float],
    batches: Sequence[Sequence[int]],
    settings: LoraSettings,
    initial: Mapping[str, Tensor],
) -> list[float]:
    """Train a LoRA with PEFT, one optimizer step per batch; then each reply's NLL under it.

    A batch lists places in `cases`; its loss is the mean of weight times mean token NLL of the
    reply. `initial`: the starting A (r, in) of each projection by its path in `model`; every B
    starts at zero. Dropout draws from torch's global generator, and is off for the NLL returned.
    Afterwards `model` is without the adapter. Raises ValueError when `initial` does not name
    exactly the adapted projections.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=list(PROJECTIONS),
        task_type="CAUSAL_LM",
    )
    peft_model: Any = get_peft_model(model, config)
    _start_from(peft_model, initial)
    peft_model.train()
    trainable = [weight for weight in peft_model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    for batch in batches:
        chosen = [cases[place] for place in batch]
        omega = torch.tensor([weights[place] for place in batch], device=model.device)
        optimizer.zero_grad()
        loss = (omega * reply_nll(peft_model, chosen)).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, settings.clip)
        optimizer.step()
    peft_model.eval()
    with torch.no_grad():
        final = [float(reply_nll(peft_model, [case])) for case in cases]
    peft_model.unload()
    return final


def reply_nll(model: Any, cases: Sequence[Case]) -> Tensor:
    """Mean token NLL of each reply, (B,), from one batch padded on the right."""
    longest = max(len(prompt) + len(reply) for prompt, reply in cases)
    ids = torch.zeros(len(cases), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, (prompt, reply) in enumerate(cases):
        length = len(prompt) + len(reply)
        ids[row, :length] = torch.tensor([*prompt, *reply])
        mask[row, :length] = 1
        labels[row, len(prompt) : length] = torch.tensor(reply)
    ids, mask, labels = (part.to(model.device) for part in (ids, mask, labels))
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    targets = labels[:, 1:]
    nll = functional.cross_entropy(logits[:, :-1].transpose(1, 2), targets, reduction="none")
    return nll.sum(1) / (targets != -100).sum(1)


def _start_from(model: Any, initial: Mapping[str, Tensor]) -> None:
    """Copy the given A matrices into PEFT's."""
    found = {
        path.removeprefix("base_model.model."): module
        for path, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
    if found.keys() != initial.keys():
        odd = ", ".join(sorted(found.keys() ^ initial.keys())[:3])
        raise ValueError(f"initial must name the {len(found)} adapted projections; see {odd}")
    with torch.no_grad():
        for path, module in found.items():
            module.lora_A["default"].weight.copy_(initial[path])
