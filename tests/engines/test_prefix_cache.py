"""The engine's prefix cache: the same answers, less to read, nothing shared, batches of any mix.

Arithmetic is tested on small random models in float64, where no near tie hides an error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from harness.engines.base import NOBODY, Sampling, Scope
from harness.engines.chat import encode_chat
from harness.method import Completion, assistant, chat, user
from tests.engines.tiny_models import Job, loud, one, tiny_engine, together, words

TURNS = (
    "What is the capital of France?",
    "And what is it famous for?",
    "Name one museum there.",
    "Thank you. Say goodbye in French.",
)
CONVERSATION = Scope("conversation", True)


def on(session: str) -> Scope:
    return Scope(session, True)


def naive_common(kept: Sequence[int], prompt: Sequence[int]) -> int:
    n = 0
    while n < min(len(kept), len(prompt) - 1) and kept[n] == prompt[n]:
        n += 1
    return n


def ids_read(prompt: list[int], done: Completion) -> list[int]:
    """What the model read in a request: all but the last token."""
    return prompt + list(done.output_ids[:-1])


@pytest.fixture
def tiny():
    engine = tiny_engine()
    yield engine
    asyncio.run(engine.close())


# A conversation with real weights.


@pytest.fixture(scope="module")
def conversation(engine) -> list[tuple[list[int], Completion, Completion]]:
    """Per turn the prompt, the answer without a cache and the answer with one."""
    said: list[Any] = []
    turns = []
    for text in TURNS:
        said.append(user(text))
        prompt = encode_chat(engine.tokenizer, chat("You are a guide.", said))
        off = one(engine, prompt, Sampling(16), None, Scope("conversation"))
        turns.append((prompt, off, one(engine, prompt, Sampling(16), None, CONVERSATION)))
        said.append(assistant(off.text))
    asyncio.run(engine.release("conversation"))
    return turns


def test_a_greedy_conversation_is_the_same_with_the_cache(conversation):
    for _, off, cached in conversation:
        assert cached.output_ids == off.output_ids
        assert (cached.text, cached.prompt_hash) == (off.text, off.prompt_hash)
        assert cached.stop_reason == off.stop_reason


def test_each_turn_reuses_exactly_the_common_prefix(conversation):
    kept: list[int] = []
    for prompt, off, cached in conversation:
        assert cached.tokens.cached == naive_common(kept, prompt)
        assert cached.tokens.prompt == off.tokens.prompt == len(prompt)
        kept = ids_read(prompt, cached)
    shares = [c.tokens.cached / c.tokens.prompt for _, _, c in conversation[1:]]
    assert min(shares) > 0.6
    # The reply was kept too, not only the prompt.
    first, second = conversation[0], conversation[1]
    assert second[2].tokens.cached > len(first[0])


def test_memory_is_counted_with_what_was_reused(engine, conversation):
    per_token = engine.facts.kv_bytes_per_token
    for prompt, off, cached in conversation:
        read = len(prompt) + cached.tokens.output - 1
        assert cached.kv_bytes_formula == off.kv_bytes_formula == per_token * read
        assert cached.kv_bytes_measured == off.kv_bytes_measured == per_token * read
        assert cached.kv_bytes_kept == per_token * read


def test_without_the_setting_nothing_is_kept(engine, conversation):
    for _, off, _ in conversation:
        assert off.tokens.cached == 0
        assert off.kv_bytes_kept is None


# What is reused, and by whom.


@pytest.mark.parametrize(
    ("change", "reused"),
    [
        (lambda kept: kept, -1),  # all but one, which must be read
        (lambda kept: [*kept, 5, 6], None),
        (lambda kept: kept[:12], 11),
        (lambda kept: kept[:9] + kept[15:] + [5], 9),  # truncation: a middle part is gone
        (lambda kept: [*kept[:9], 96, *kept[10:]], 9),
        (lambda kept: [96, *kept], 0),
        (lambda kept: kept[:1], 0),
    ],
    ids=["same", "longer", "shorter", "truncated", "edited", "shifted", "one id"],
)
def test_a_changed_history_reuses_what_it_begins_with(tiny, change, reused):
    prompt = [*words(1, 20), 7]
    first = one(tiny, prompt, Sampling(6), None, on("a"))
    assert first.tokens.cached == 0
    kept = ids_read(prompt, first)
    later = change(kept)
    expected = len(kept) if reused is None else len(kept) - 1 if reused == -1 else reused
    cached = one(tiny, later, Sampling(8), None, on("a"))
    assert cached.tokens.cached == expected == naive_common(kept, later)
    assert cached.output_ids == one(tiny, later, Sampling(8)).output_ids


def test_sessions_adapters_and_the_base_share_nothing(tiny):
    prompt = words(2, 20)
    mine, other = loud(tiny, 1), loud(tiny, 1)  # the same numbers, trained by two sessions
    plain, adapted = (one(tiny, prompt, Sampling(8), a).output_ids for a in (None, mine))
    assert plain != adapted
    places = [("a", None), ("b", None), ("a", mine), ("a", other), ("b", mine)]
    for session, adapter in places:
        done = one(tiny, prompt, Sampling(8), adapter, on(session))
        assert done.tokens.cached == 0
        assert done.output_ids == (plain if adapter is None else adapted)
    for session, adapter in places:
        done = one(tiny, prompt, Sampling(8), adapter, on(session))
        assert done.tokens.cached == len(prompt) - 1
        assert done.output_ids == (plain if adapter is None else adapted)


def test_requests_of_nobody_share_nothing(tiny):
    for scope in (NOBODY, Scope("", True), Scope("a")):
        for _ in range(2):
            done = one(tiny, words(2, 20), Sampling(4), None, scope)
            assert (done.tokens.cached, done.kv_bytes_kept) == (0, None)


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_sampling_draws_the_same_with_the_cache(tiny, temperature):
    one(tiny, words(3, 30), Sampling(4), None, on("a"))
    hot = Sampling(20, temperature=temperature, top_p=0.95, seed=11)
    off, cached = (one(tiny, [*words(3, 30), 5], hot, None, s) for s in (NOBODY, on("a")))
    assert cached.tokens.cached == 30
    assert cached.output_ids == off.output_ids
    assert off.output_ids != one(tiny, [*words(3, 30), 5], Sampling(20)).output_ids


# Batches.


def mixed(engine: Any) -> list[Job]:
    """Prefixes of 3 to 60 tokens, or none, before 1 to 45 new ones, with and without adapters.

    The prefixes are put in place on the way.
    """
    mine, other = loud(engine, 1), loud(engine, 2)
    shapes = [
        ("a", None, 60, 3),
        ("b", mine, 11, 45),
        ("c", other, 3, 9),
        ("d", None, 0, 40),
        ("e", mine, 0, 2),
        ("f", None, 25, 1),
    ]
    jobs: list[Job] = []
    for seed, (session, adapter, kept, new) in enumerate(shapes):
        if kept:
            one(engine, words(seed, kept), Sampling(1), adapter, on(session))
        prompt = words(seed, kept) + words(seed + 50, new)
        jobs.append((prompt, Sampling(6 + 3 * seed), adapter, on(session)))
    jobs.append(([*words(0, 60), 5], Sampling(9), None, NOBODY))
    return jobs


CACHED = [60, 11, 3, 0, 0, 25, 0]


@pytest.mark.parametrize("attention", ["grouped", "sdpa"])
@pytest.mark.parametrize("rows", [(0, 1, 2, 3, 4, 5, 6), (0, 5), (0, 3), (1, 2), (3, 4, 6)])
def test_mixed_rows_answer_as_each_alone(attention, rows):
    engine = tiny_engine(attention=attention)
    engine.stop_ids = frozenset()
    jobs = [mixed(engine)[row] for row in rows]
    alone = [one(engine, prompt, sampling, adapter) for prompt, sampling, adapter, _ in jobs]
    batch = together(engine, jobs)
    assert [c.output_ids for c in batch] == [c.output_ids for c in alone]
    assert [c.tokens.cached for c in batch] == [CACHED[row] for row in rows]
    # What each row leaves behind is as good as what it would have left alone.
    for (prompt, _, adapter, scope), done in zip(jobs, batch, strict=True):
        kept = ids_read(prompt, done)
        later = one(engine, [*kept, 5, 6], Sampling(8), adapter, scope)
        assert later.tokens.cached == (len(kept) if scope.prefix_cache else 0)
        assert later.output_ids == one(engine, [*kept, 5, 6], Sampling(8), adapter).output_ids
    asyncio.run(engine.close())


def test_a_batch_counts_its_padding_and_keeps_none_of_it(tiny):
    per_token = tiny.facts.kv_bytes_per_token
    assert per_token == 2 * 3 * 2 * 8 * 8  # keys and values, layers, heads, width, float64
    one(tiny, words(1, 50), Sampling(1), None, on("a"))
    long = words(2, 40)
    jobs: list[Job] = [
        ([*words(1, 50), 5], Sampling(2), None, on("a")),
        (long, Sampling(4), None, on("b")),
    ]
    a, b = together(tiny, jobs)
    # 50 columns of prefixes and 40 of new tokens, closed to the longest row after the first step.
    assert a.kv_bytes_measured == b.kv_bytes_measured == per_token * 90
    assert a.kv_bytes_formula == per_token * (51 + a.tokens.output - 1)
    assert a.kv_bytes_kept == per_token * (51 + a.tokens.output - 1)
    assert b.kv_bytes_kept == per_token * (40 + b.tokens.output - 1)


def test_two_requests_of_a_session_may_share_a_batch(tiny):
    one(tiny, words(1, 30), Sampling(1), None, on("a"))
    prompts = [[*words(1, 30), 5], [*words(1, 20), 6, 7]]
    batch = together(tiny, [(p, Sampling(5), None, on("a")) for p in prompts])
    assert [c.tokens.cached for c in batch] == [30, 20]
    for prompt, done in zip(prompts, batch, strict=True):
        assert done.output_ids == one(tiny, prompt, Sampling(5)).output_ids
