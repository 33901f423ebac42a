"""The same greedy conversations through transformers and vLLM, both in float32.

Every turn's history is made of transformers' replies, so that one difference makes no others.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from harness.engines.base import Sampling, Scope
from harness.engines.chat import encode_chat
from harness.method import Completion, Message, assistant, chat, user
from tasks._bundled import bundled

TOKENS = 16
NEAR_TIE = 1e-2
"""Logits closer than this may change places with the order in which sums are taken."""


@dataclass(frozen=True)
class Turn:
    session: str
    messages: tuple[Message, ...]
    expected: Completion


@pytest.fixture(scope="module")
def turns(local: Any) -> list[Turn]:
    """The first four turns of three bundled sessions, as transformers answers them."""

    async def serve() -> list[Turn]:
        turns = []
        for task in ("planning", "roleplay", "maths"):
            session = next(bundled(task))
            history: list[Message] = []
            for text in session.turns[:4]:
                history.append(user(text))
                messages = tuple(chat(session.system, history))
                ids = encode_chat(local.tokenizer, messages)
                done = await local.generate(ids, Sampling(TOKENS))
                turns.append(Turn(session.id, messages, done))
                history.append(assistant(done.text))
        return turns

    return asyncio.run(serve())


@pytest.fixture(scope="module")
def replies(engine: Any, turns: list[Turn]) -> list[Completion]:
    """vLLM's answers, one by one, each session with its prefix cache."""

    async def serve() -> list[Completion]:
        await engine.reset()
        return [await _ask(engine, turn, Scope(turn.session, prefix_cache=True)) for turn in turns]

    return asyncio.run(serve())


async def _ask(engine: Any, turn: Turn, scope: Scope) -> Completion:
    ids = encode_chat(engine.tokenizer, turn.messages)
    done: Completion = await engine.generate(ids, Sampling(TOKENS), scope=scope)
    return done


def test_prompts_are_always_the_same_ids(turns: list[Turn], replies: list[Completion]) -> None:
    assert len(turns) >= 12
    assert [c.prompt_hash for c in replies] == [t.expected.prompt_hash for t in turns]


def test_nine_of_ten_replies_are_the_same_and_the_others_explained(
    local: Any, turns: list[Turn], replies: list[Completion]
) -> None:
    differing = [(t, c) for t, c in zip(turns, replies, strict=True) if not _same(t, c)]
    explained = [explain(local, turn, reply) for turn, reply in differing]
    assert len(differing) <= 0.1 * len(turns), explained
    assert all(gap < NEAR_TIE for _, gap in explained), explained


def test_the_cache_was_used_in_all_later_turns(
    turns: list[Turn], replies: list[Completion]
) -> None:
    first = {turn.session: index for index, turn in reversed(list(enumerate(turns)))}
    for index, (turn, reply) in enumerate(zip(turns, replies, strict=True)):
        assert (reply.tokens.cached == 0) == (first[turn.session] == index)


def test_replies_of_a_batch_of_eight_are_those_of_one(
    engine: Any, local: Any, turns: list[Turn], replies: list[Completion]
) -> None:
    async def serve() -> list[Completion]:
        return await asyncio.gather(*(_ask(engine, t, Scope(t.session)) for t in turns[:8]))

    together = asyncio.run(serve())
    assert [c.tokens.cached for c in together] == [0] * 8
    for turn, alone, crowded in zip(turns[:8], replies, together, strict=False):
        if crowded.output_ids != alone.output_ids:
            place, gap = explain(local, turn, crowded)
            assert gap < NEAR_TIE, (place, gap)


def _same(turn: Turn, reply: Completion) -> bool:
    same_ids = turn.expected.output_ids == reply.output_ids
    assert same_ids == (turn.expected.text == reply.text)
    return same_ids and turn.expected.stop_reason == reply.stop_reason


def explain(local: Any, turn: Turn, reply: Completion) -> tuple[int, float]:
    """The first position at which a reply leaves transformers', and how near a tie it was there.

    The distance of the two tokens' logits; infinite where one is not among the two most likely.
    """
    import torch

    pairs = zip(turn.expected.output_ids, reply.output_ids, strict=False)
    place = next(i for i, (ours, theirs) in enumerate(pairs) if ours != theirs)
    ids = [*encode_chat(local.tokenizer, turn.messages), *reply.output_ids[:place]]
    with torch.inference_mode():
        logits = local.model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1]
    values, tokens = logits.topk(2)
    if {turn.expected.output_ids[place], reply.output_ids[place]} != set(tokens.tolist()):
        return place, float("inf")
    return place, float(values[0] - values[1])
