"""Both engines of a remote server, against a server of words: what they send and what they read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from harness.engines.ask import ask
from harness.engines.base import AdapterHost, LocalEngine, Sampling, Scope, TextEngine
from harness.engines.chat import encode_chat, prompt_hash
from harness.errors import ContextOverflow, UserError
from harness.method import assistant, chat, user
from tests.openai.backend import END, Ability, ids_of, reply_ids, words
from tests.openai.conftest import engine_at, using
from tests.openai.fault_proxy import Fault, on_first

MESSAGES = chat("Be brief.", [user("Name a fruit."), assistant("Apple."), user("Another one?")])
PROMPT = ids_of(" ".join(f"{m['role']} {m['content']}" for m in MESSAGES))
GREEDY = Sampling(max_new_tokens=40)


def one(engine, messages=MESSAGES, sampling=GREEDY, **more):
    return using(engine, lambda e: ask(e, messages, sampling, **more))


def test_a_chat_reply_is_read_whole(serve):
    address, backend = serve()
    before = time.perf_counter()
    done = one(engine_at(address))
    after = time.perf_counter()
    expected = reply_ids(PROMPT, "words", 40)
    assert done.text == words(expected)
    assert done.stop_reason == "end_of_turn"
    assert (done.tokens.prompt, done.tokens.output) == (len(PROMPT), 13)
    assert (done.tokens.cached, done.tokens.reasoning) == (0, 0)
    assert before < done.sent_at == done.started_at < done.first_token_at
    assert done.first_token_at <= done.last_token_at < after
    assert (done.failures, done.attempts, done.role, done.output_ids) == ((), 1, "F", ())
    assert done.kv_bytes_formula is None and done.engine is None
    assert backend.asked == [
        {
            "model": "words",
            "messages": MESSAGES,
            "max_tokens": 40,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ]


def test_the_engines_are_what_the_harness_asks_them_to_be(serve, tokenizer_id):
    address, _ = serve()
    text = engine_at(address)
    ids = engine_at(address, send="ids", tokenizer=tokenizer_id)
    for engine, takes_text in ((text, True), (ids, False)):
        assert isinstance(engine, TextEngine) is takes_text
        assert isinstance(engine, AdapterHost)
        assert not isinstance(engine, LocalEngine)
        assert engine.facts.context_tokens == 4096
        assert engine.facts.weights_bytes is None


def test_ids_are_sent_as_they_are_and_end_at_any_special_token(serve, tokenizer_id):
    address, backend = serve()
    engine = engine_at(address, send="ids", tokenizer=tokenizer_id)
    ids = encode_chat(engine.tokenizer, MESSAGES)
    done = one(engine)
    (body,) = backend.asked
    assert body["prompt"] == ids
    assert engine.tokenizer.eos_token_id in body["stop_token_ids"]
    assert len(body["stop_token_ids"]) > 1
    assert done.prompt_hash == prompt_hash(ids)
    assert done.output_ids == tuple(reply_ids(ids, "words", 40))
    assert done.output_ids[-1] == END and done.text == words(list(done.output_ids))
    assert done.tokens.prompt == len(ids)


@pytest.mark.parametrize("told", [True, False], ids=["ids-told", "ids-not-told"])
def test_the_prompts_hash_is_over_ids_where_they_are_known(serve, told):
    address, _ = serve(Ability(token_ids=told))
    done = one(engine_at(address, token_ids=True))
    again = one(engine_at(address, token_ids=True))
    other = one(engine_at(address, token_ids=True), [user("Another one?")])
    if told:
        assert done.prompt_hash == prompt_hash(PROMPT)
        assert done.output_ids == tuple(reply_ids(PROMPT, "words", 40))
    else:
        assert done.prompt_hash.startswith("text-") and len(done.prompt_hash) == 21
        assert done.output_ids == ()
    assert again.prompt_hash == done.prompt_hash != other.prompt_hash


@pytest.mark.parametrize("size", [1, 4, 0])
def test_tokens_are_counted_by_the_server_and_not_by_chunks(serve, size):
    address, _ = serve(Ability(tokens_per_chunk=size))
    done = one(engine_at(address))
    assert done.tokens.output == 13
    assert done.text == words(reply_ids(PROMPT, "words", 40))


def test_the_longest_reply_ends_with_length(serve):
    address, _ = serve()
    done = one(engine_at(address), sampling=Sampling(max_new_tokens=5))
    assert (done.stop_reason, done.tokens.output) == ("length", 5)


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_is_not_content(serve, key):
    ability = Ability(reasoning=6, reasoning_key=key, gap_s=0.02)
    address, _ = serve(ability)
    done = one(engine_at(address))
    ids = reply_ids(PROMPT, "words", 40)
    assert done.text == words(ids[6:])
    assert (done.tokens.output, done.tokens.reasoning) == (13, 6)
    # Six thoughts and the first word passed before the user saw anything.
    assert done.first_token_at - done.sent_at > 6 * ability.gap_s
    assert done.first_token_at < done.last_token_at


def test_reasoning_that_no_usage_counts_is_counted_by_the_ids_told(serve):
    address, _ = serve(Ability(reasoning=6, counts_reasoning=False))
    done = one(engine_at(address, token_ids=True))
    assert done.tokens.reasoning == 6


def test_the_role_alone_is_not_the_first_token(serve):
    address, _ = serve(Ability(gap_s=0.05))
    done = one(engine_at(address))
    assert done.first_token_at - done.sent_at > 0.05


@pytest.mark.parametrize("key", ["max_tokens", "max_completion_tokens"])
def test_drawn_replies_carry_their_settings(serve, key):
    address, backend = serve()
    engine = engine_at(address, max_tokens_key=key, chat_template_args={"enable_thinking": False})
    one(engine, sampling=Sampling(9, temperature=0.7, top_p=0.9, seed=2**62))
    (body,) = backend.asked
    assert body[key] == 9 and len({"max_tokens", "max_completion_tokens"} & body.keys()) == 1
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.7, 0.9, 2**62)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_prompt_that_does_not_fit_is_an_overflow(serve, tokenizer_id):
    address, backend = serve(Ability(max_model_len=48))
    with pytest.raises(ContextOverflow, match="maximum context length is 48"):
        one(engine_at(address))
    asked = len(backend.asked)
    with pytest.raises(ContextOverflow, match="do not fit its context of 48"):
        one(engine_at(address, send="ids", tokenizer=tokenizer_id))
    assert (asked, len(backend.asked)) == (1, 1)  # one try; and none, where it is known before


def test_ids_cannot_be_sent_to_an_engine_of_messages(serve):
    address, _ = serve()
    with pytest.raises(UserError, match=r'send = "ids"'):
        using(engine_at(address), lambda e: e.generate([1, 2], GREEDY))


# The prefix cache.


LONG = [user(" ".join(f"word{i}" for i in range(100)))]


def cached(address, scopes, **options):
    async def ask_all(engine):
        return [(await ask(engine, LONG, GREEDY, scope=s)).tokens.cached for s in scopes]

    return using(engine_at(address, **options), ask_all)


A, B = Scope("a", prefix_cache=True), Scope("b", prefix_cache=True)


def test_a_salt_keeps_sessions_apart_and_switches_the_cache_off(serve):
    address, _ = serve()
    off = Scope("a", prefix_cache=False)
    assert cached(address, [A, A, B, B, off, off, A], cache_salt=True) == [0, 96, 0, 96, 0, 0, 96]
    # Another engine, of another run, shares nothing with this one.
    assert cached(address, [A, A], cache_salt=True) == [0, 96]


def test_a_reset_forgets(serve):
    address, _ = serve()

    async def twice_around_a_reset(engine):
        counts = [(await ask(engine, LONG, GREEDY, scope=A)).tokens.cached for _ in range(2)]
        await engine.reset()
        return [*counts, (await ask(engine, LONG, GREEDY, scope=A)).tokens.cached]

    engine = engine_at(address, cache_salt=True)
    assert using(engine, twice_around_a_reset) == [0, 96, 0]


@pytest.mark.parametrize(("on", "expected"), [(False, 0), (True, 96)], ids=["off", "on"])
def test_with_the_cache_off_a_try_finds_nothing_of_the_one_that_failed(serve, on, expected):
    address, proxy = serve(plan=on_first(Fault("disconnect", after=3)))
    assert cached(address, [Scope("a", prefix_cache=on)], cache_salt=True) == [expected]
    assert len(proxy.log) == 2


def test_a_cache_that_cannot_be_switched_off_is_refused(serve):
    address, _ = serve()
    assert cached(address, [A, A, B]) == [0, 96, 96]  # it can only be left on
    with pytest.raises(UserError, match=r'prefix_cache = "on".*F\.options\.cache_salt = true'):
        cached(address, [replace(A, prefix_cache=False)])
    assert cached(address, [Scope("")]) == [96]  # the warm-up is nobody's session


# Many at once.


def test_many_requests_are_in_flight_and_none_waits_for_another(serve):
    address, backend = serve(Ability(gap_s=0.03))
    n = 30

    async def ask_all(engine):
        asked = [ask(engine, [user(f"session {i}")], GREEDY) for i in range(n)]
        return await asyncio.gather(*asked)

    for i, completion in enumerate(using(engine_at(address), ask_all)):
        assert completion.text == words(reply_ids(ids_of(f"user session {i}"), "words", 40))
    assert backend.most > n / 2


def test_cancelling_closes_the_connection(serve):
    address, proxy = serve(plan=on_first(Fault("stall", after=4)))

    async def cancel(engine):
        task = asyncio.create_task(ask(engine, MESSAGES, GREEDY))
        while not (proxy.log and proxy.log[0].text):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for _ in range(200):
            if proxy.log[0].left:
                return True
            await asyncio.sleep(0.01)
        return False

    assert using(engine_at(address, stall_s=60.0), cancel)
    assert len(proxy.log) == 1
