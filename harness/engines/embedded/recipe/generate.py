"""F's sampled replies to the recipe's prompts: the healing data.

Each dialogue becomes one line of JSONL: its kind, the token ids of the whole dialogue, and the
half-open spans of those ids that F wrote (end-of-turn token included).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from harness.engines.embedded.recipe.prompts import Dialogue

SLACK = 1 / 8


@torch.inference_mode()
def sample_replies(
    model: Any,
    prompts: list[list[int]],
    *,
    temperature: float,
    max_new_tokens: int,
    generator: torch.Generator,
) -> list[list[int]]:
    """One sampled (or, at temperature 0, greedy) reply per prompt, end-of-turn included.

    Finished rows leave the batch once they are a share of SLACK of it: leaving copies the cache.
    """
    from transformers import DynamicCache

    eos, pad = model.config.eos_token_id, model.config.pad_token_id
    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    replies: list[list[int]] = [[] for _ in prompts]
    rows = torch.arange(len(prompts))
    active = torch.ones(len(prompts), dtype=torch.bool)
    cache = DynamicCache(config=model.config)
    step = ids
    for _ in range(max_new_tokens):
        position = (mask.cumsum(-1) - 1).clamp(min=0)[:, -step.shape[1] :]
        out = model(
            step,
            attention_mask=mask,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        token = _draw(out.logits[:, -1].float(), temperature, generator)
        for row, value, is_open in zip(rows.tolist(), token.tolist(), active.tolist(), strict=True):
            if is_open:
                replies[row].append(value)
        active &= token != eos
        open_rows = int(active.sum())
        if open_rows == 0:
            break
        if open_rows <= len(active) * (1 - SLACK):
            alive = active.nonzero().flatten()
            cache.batch_select_indices(alive)
            rows, mask, token, active = rows[alive], mask[alive], token[alive], active[alive]
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        step = token[:, None]
    return replies


def write_dialogues(
    model: Any,
    tokenizer: Any,
    dialogues: list[Dialogue],
    path: Path,
    *,
    seed: int,
    temperature: float,
    max_new_tokens: int,
    batch_size: int = 288,
) -> int:
    """Write every dialogue with F's replies to `path`; returns the number of reply tokens.

    A line is written once its batch is done; lines already there are kept, so that an
    interrupted generation goes on where it stopped.
    """
    done = sum(1 for _ in path.open()) if path.exists() else 0
    total = sum(e - s for r in read_dialogues(path) for s, e in r["spans"]) if done else 0
    batches = list(range(done, len(dialogues), batch_size))
    start = time.monotonic()
    fresh = 0
    with path.open("a", encoding="utf-8") as out, tqdm(batches, file=sys.stderr) as bar:
        for first in bar:
            group = dialogues[first : first + batch_size]
            generator = torch.Generator().manual_seed(seed * 1_000_003 + first)
            messages = _converse(model, tokenizer, group, temperature, max_new_tokens, generator)
            for dialogue, chat in zip(group, messages, strict=True):
                ids, spans = encode_with_spans(tokenizer, chat)
                fresh += sum(e - s for s, e in spans)
                out.write(json.dumps({"kind": dialogue.kind, "ids": ids, "spans": spans}) + "\n")
            out.flush()
            bar.set_postfix(tokens=total + fresh, tok_s=f"{fresh / (time.monotonic() - start):.0f}")
    return total + fresh


def read_dialogues(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a file of `write_dialogues`."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def encode_with_spans(
    tokenizer: Any, chat: list[dict[str, str]]
) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a chat and the spans of its assistant turns, found by encoding growing prefixes."""
    spans = []
    for i, message in enumerate(chat):
        if message["role"] != "assistant":
            continue
        before = template_ids(tokenizer, chat[:i], add_generation_prompt=True)
        after = template_ids(tokenizer, chat[: i + 1], add_generation_prompt=False)
        spans.append((len(before), len(after) - 1))  # the newline after end-of-turn is not F's
    return template_ids(tokenizer, chat, add_generation_prompt=False), spans


def template_ids(
    tokenizer: Any, chat: list[dict[str, str]], *, add_generation_prompt: bool
) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        chat, add_generation_prompt=add_generation_prompt, return_dict=False
    )
    return ids


def _draw(logits: torch.Tensor, temperature: float, generator: torch.Generator) -> torch.Tensor:
    if temperature == 0:
        return logits.argmax(-1)
    # Inverse of the cumulative distribution: one random number per row instead of one per token.
    cumulative = (logits / temperature).softmax(-1).cumsum(-1)
    point = torch.rand(len(logits), 1, generator=generator) * cumulative[:, -1:]
    return torch.searchsorted(cumulative, point).squeeze(1).clamp(max=logits.shape[-1] - 1)


def _converse(
    model: Any,
    tokenizer: Any,
    group: list[Dialogue],
    temperature: float,
    max_new_tokens: int,
    generator: torch.Generator,
) -> list[list[dict[str, str]]]:
    chats: list[list[dict[str, str]]] = [[] for _ in group]
    for turn in range(max(len(d.turns) for d in group)):
        live = [i for i, d in enumerate(group) if turn < len(d.turns)]
        for i in live:
            chats[i].append({"role": "user", "content": group[i].turns[turn]})
        prompts = [template_ids(tokenizer, chats[i], add_generation_prompt=True) for i in live]
        replies = sample_replies(
            model,
            prompts,
            temperature=temperature,
            max_new_tokens=max_new_tokens,
            generator=generator,
        )
        for i, reply in zip(live, replies, strict=True):
            text = tokenizer.decode(reply, skip_special_tokens=True)
            chats[i].append({"role": "assistant", "content": text})
    return chats
