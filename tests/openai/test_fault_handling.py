"""What an engine makes of every kind of fault: thrown away whole, tried again, told in one line."""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from harness.engines.ask import ask
from harness.engines.base import Sampling
from harness.engines.openai.faults import NoAnswer, ServerRefused
from harness.errors import BenchError, ContextOverflow
from harness.method import user
from tests.openai.backend import Ability, ids_of, reply_ids, words
from tests.openai.conftest import engine_at, using
from tests.openai.fault_proxy import Fault, on_first, scheduled

MESSAGES = [user("Name a fruit.")]
PROMPT = ids_of("user Name a fruit.")
GREEDY = Sampling(max_new_tokens=40)


def usage(**changes):
    """A fault that makes the server's counts untrue."""

    def change(event):
        if event.get("usage"):
            event["usage"] = {**event["usage"], **changes}
        return event

    return Fault("change", change=change)


def event(change):
    return Fault("change", change=change)


def without_usage(data):
    return None if data.get("usage") else data


def without_choices(data):
    return {k: v for k, v in data.items() if k != "choices" or data.get("usage")}


def without_finish(data):
    for choice in data["choices"]:
        choice["finish_reason"] = None
    return data


def with_finish(reason):
    def change(data):
        for choice in data["choices"]:
            choice["finish_reason"] = choice["finish_reason"] and reason
        return data

    return change


def twice(data):
    return {**data, "choices": data["choices"] * 2}


def numbers(data):
    for choice in data["choices"]:
        if choice["delta"].get("content"):
            choice["delta"]["content"] = 7
    return data


def half_a_character(data):
    for choice in data["choices"]:
        if choice["delta"].get("content"):
            choice["delta"]["content"] = "\ud83d"
    return data


def http(status, message="later", **headers):
    body = json.dumps({"error": {"message": message, "code": status}})
    sent = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Fault("http", status=status, body=body, headers=sent)


ERROR = json.dumps({"error": {"message": "the engine died", "code": 500}})

# What is done to a try, and the beginning of its line in the record.
PASSING = {
    "http-408": (http(408), "http 408 after 0 chunks"),
    "http-409": (http(409), "http 409 after 0 chunks"),
    "http-425": (http(425), "http 425 after 0 chunks"),
    "http-429": (http(429), "http 429 after 0 chunks"),
    "http-429-retry-after": (http(429, Retry_After="0.01"), "http 429 after 0 chunks"),
    "http-500": (http(500), "http 500 after 0 chunks"),
    "http-502": (Fault("http", status=502, body="<html>Bad"), "http 502 after 0 chunks"),
    "http-503": (http(503, Retry_After="soon"), "http 503 after 0 chunks"),
    "http-504": (Fault("http", status=504), "http 504 after 0 chunks"),
    "http-529": (http(529), "http 529 after 0 chunks"),
    "disconnect-unanswered": (Fault("disconnect", after=-1), "disconnect after 0 chunks"),
    "disconnect-at-once": (Fault("disconnect", after=0), "disconnect after 0 chunks"),
    "disconnect-after-role": (Fault("disconnect", after=1), "disconnect after 1 chunks"),
    "disconnect-in-the-middle": (Fault("disconnect", after=7), "disconnect after 7 chunks"),
    "disconnect-before-usage": (Fault("disconnect", after=14), "disconnect after 14 chunks"),
    "disconnect-before-done": (Fault("disconnect", after=15), "disconnect after 15 chunks"),
    "stall-unanswered": (Fault("stall", after=-1), "stall after 0 chunks"),
    "stall-at-once": (Fault("stall", after=0), "stall after 0 chunks"),
    "stall-in-the-middle": (Fault("stall", after=5), "stall after 5 chunks"),
    "json-cut": (Fault("garbage", after=4, body='data: {"choi\n\n'), "malformed after 5 chunks"),
    "json-no-object": (Fault("garbage", after=4, body="data: [1]\n\n"), "malformed after 5 chunks"),
    "json-too-deep": (
        Fault("garbage", after=4, body="data: " + "[" * 100_000 + "\n\n"),
        "malformed after 5 chunks",
    ),
    "noise": (Fault("garbage", after=4, body="\x00\x17!\n"), "malformed after 4 chunks"),
    "html": (Fault("garbage", after=1, body="<html>oops</html>\n"), "malformed after 1 chunks"),
    "no-choices": (event(without_choices), "malformed after 1 chunks"),
    "two-choices": (event(twice), "malformed after 1 chunks"),
    "text-is-a-number": (event(numbers), "malformed after 2 chunks"),
    "half-a-character": (event(half_a_character), "malformed after 15 chunks"),
    "error-in-stream": (Fault("error", after=3, body=ERROR), "server after 4 chunks"),
    "error-as-text": (Fault("error", after=3, body='{"error": "oops"}'), "server after 4 chunks"),
    "cut-before-finish": (Fault("cut", after=6), "unfinished after 6 chunks"),
    "cut-before-done": (Fault("cut", after=15), "unfinished after 15 chunks"),
    "no-finish-reason": (event(without_finish), "unfinished after 15 chunks"),
    "other-finish-reason": (event(with_finish("content_filter")), "unfinished after 15 chunks"),
    "no-usage": (event(without_usage), "usage after 14 chunks"),
    "usage-null": (usage(completion_tokens=None), "usage after 15 chunks"),
    "usage-negative": (usage(completion_tokens=-3), "usage after 15 chunks"),
    "usage-no-number": (usage(prompt_tokens="4"), "usage after 15 chunks"),
    "usage-fraction": (usage(completion_tokens=12.5), "usage after 15 chunks"),
    "usage-nothing-with-text": (usage(completion_tokens=0), "usage after 15 chunks"),
    "usage-no-prompt": (usage(prompt_tokens=0), "usage after 15 chunks"),
    "usage-more-than-asked": (usage(completion_tokens=41), "usage after 15 chunks"),
    "usage-more-cached-than-sent": (
        usage(prompt_tokens_details={"cached_tokens": 5}),
        "usage after 15 chunks",
    ),
    "usage-all-reasoning": (
        usage(completion_tokens_details={"reasoning_tokens": 13}),
        "usage after 15 chunks",
    ),
}
parametrized = pytest.mark.parametrize(("fault", "line"), PASSING.values(), ids=PASSING)


def patience(fault):
    """A slow machine must not look like a stall where there is none."""
    return {"stall_s": 0.7} if fault.kind == "stall" else {}


@parametrized
def test_a_spoilt_try_is_thrown_away_and_made_again(serve, fault, line):
    address, proxy = serve(plan=on_first(fault))
    engine = engine_at(address, **patience(fault))
    started = time.perf_counter()
    done = using(engine, lambda e: ask(e, MESSAGES, GREEDY))
    expected = reply_ids(PROMPT, "words", 40)
    assert (done.text, done.tokens.output) == (words(expected), 13)
    assert (done.tokens.prompt, done.tokens.cached) == (4, 0)
    (told,) = done.failures
    assert told.startswith(f"{line}, ") and "\n" not in told
    assert [passed.fault for passed in proxy.log] == [fault, None]
    # The first try's sending is what a user waits from; the times of tokens are the second's.
    assert started <= done.sent_at < done.started_at < done.first_token_at <= done.last_token_at


@parametrized
def test_after_the_last_try_the_error_lists_all(serve, fault, line):
    address, proxy = serve(plan=lambda label, attempt: fault)
    with pytest.raises(NoAnswer) as caught:
        using(engine_at(address, attempts=2, **patience(fault)), lambda e: ask(e, MESSAGES, GREEDY))
    assert str(caught.value).startswith("2 tries failed: ") and str(caught.value).count(line) == 2
    assert len(caught.value.failures) == len(proxy.log) == 2


IDS = {
    "other-prompt-ids": {"prompt_token_ids": [1, 2, 3]},
    "fewer-output-ids": {"token_ids": []},
    "ids-that-are-none": {"token_ids": ["a"]},
}


@pytest.mark.parametrize("change", IDS.values(), ids=IDS)
def test_ids_that_contradict_what_was_sent_or_counted_spoil_a_try(serve, tokenizer_id, change):
    def with_other_ids(data):
        for choice in data["choices"]:
            choice.update({k: v for k, v in change.items() if k in choice})
        return data

    address, _ = serve(plan=on_first(event(with_other_ids)))
    engine = engine_at(address, send="ids", tokenizer=tokenizer_id)
    done = using(engine, lambda e: e.generate([5, 6, 7, 8], GREEDY))
    assert done.output_ids == tuple(reply_ids([5, 6, 7, 8], "words", 40))
    assert len(done.failures) == 1 and done.failures[0].startswith(("usage", "malformed"))


def test_another_count_of_the_prompt_than_was_sent_spoils_a_try(serve, tokenizer_id):
    address, _ = serve(plan=on_first(usage(prompt_tokens=5)))
    engine = engine_at(address, send="ids", tokenizer=tokenizer_id)
    done = using(engine, lambda e: e.generate([5, 6, 7, 8], GREEDY))
    assert "5 prompt tokens where the prompt has 4 ids" in done.failures[0]


def test_reasoning_that_nothing_counts_spoils_a_try(serve):
    address, _ = serve(Ability(reasoning=3, counts_reasoning=False))
    with pytest.raises(NoAnswer, match="reasoning was streamed, and its tokens are not counted"):
        using(engine_at(address, attempts=2), lambda e: ask(e, MESSAGES, GREEDY))


REFUSALS = {400: "bad", 401: "no key", 403: "not you", 404: "no model", 422: "what?"}


@pytest.mark.parametrize(("status", "message"), REFUSALS.items(), ids=map(str, REFUSALS))
def test_a_refusal_is_not_asked_again(serve, status, message):
    address, proxy = serve(plan=on_first(http(status, message)))
    with pytest.raises(ServerRefused, match=rf"HTTP {status}\): {re.escape(message)}") as caught:
        using(engine_at(address), lambda e: ask(e, MESSAGES, GREEDY))
    assert caught.value.status == status and len(proxy.log) == 1


def test_a_refusal_inside_the_stream_is_one_too(serve):
    body = json.dumps({"error": {"message": "not so", "code": 400}})
    address, proxy = serve(plan=on_first(Fault("error", after=2, body=body)))
    with pytest.raises(ServerRefused, match="not so"):
        using(engine_at(address), lambda e: ask(e, MESSAGES, GREEDY))
    assert len(proxy.log) == 1


def test_an_exhausted_quota_is_not_asked_again(serve):
    body = json.dumps({"error": {"message": "pay first", "code": "insufficient_quota"}})
    address, proxy = serve(plan=on_first(Fault("http", status=429, body=body)))
    with pytest.raises(ServerRefused, match="pay first"):
        using(engine_at(address), lambda e: ask(e, MESSAGES, GREEDY))
    assert len(proxy.log) == 1


def test_a_redirect_is_not_followed_and_says_where_to(serve):
    fault = Fault("http", status=308, headers=(("Location", "https://other.example/v1"),))
    address, proxy = serve(plan=on_first(fault))
    with pytest.raises(ServerRefused, match=r"redirects to https://other\.example/v1"):
        using(engine_at(address), lambda e: ask(e, MESSAGES, GREEDY))
    assert len(proxy.log) == 1


OVERFLOWS = {
    "openai": {"message": "too many tokens", "code": "context_length_exceeded"},
    "vllm": {"message": "This model's maximum context length is 8 tokens.", "code": 400},
    "llama": {"message": "the request exceeds the available context size", "code": 400},
    "other": {"message": "prompt is too long: 9 tokens > 8 maximum", "type": "invalid"},
}


@pytest.mark.parametrize("error", OVERFLOWS.values(), ids=OVERFLOWS)
@pytest.mark.parametrize("where", ["status", "stream"])
def test_a_prompt_too_long_is_an_overflow(serve, error, where):
    body = json.dumps({"error": error})
    fault = Fault("http", status=400, body=body) if where == "status" else Fault("error", body=body)
    address, proxy = serve(plan=on_first(fault))
    with pytest.raises(ContextOverflow):
        using(engine_at(address), lambda e: ask(e, MESSAGES, GREEDY))
    assert len(proxy.log) == 1


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_is_left_alone_for_as_long_as_it_asks(serve, form):
    later = datetime.now(UTC) + timedelta(seconds=2)
    value = "0.4" if form == "seconds" else format_datetime(later, usegmt=True)
    address, proxy = serve(plan=on_first(http(429, Retry_After=value)))
    engine = engine_at(address, retry_after_cap_s=5.0)
    done = using(engine, lambda e: ask(e, MESSAGES, GREEDY))
    # A date has whole seconds: of two of them, more than one remains.
    least = 0.4 if form == "seconds" else 0.9
    assert done.started_at - done.sent_at > least and len(proxy.log) == 2


def test_comments_keep_no_stalled_stream_alive(serve):
    async def comments():
        reader_done = asyncio.Event()

        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            for _ in range(100):
                writer.write(b": still here\n\n")
                await asyncio.sleep(0.05)
                if writer.is_closing():
                    break
            writer.close()
            reader_done.set()

        real, _ = serve()
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        engine = moved(engine_at(real, attempts=1, stall_s=0.7), f"http://127.0.0.1:{port}")
        try:
            with pytest.raises(NoAnswer, match=r"stall after 0 chunks.*no event for"):
                await ask(engine, MESSAGES, GREEDY)
        finally:
            await engine.close()
            server.close()

    asyncio.run(comments())


def test_a_server_that_is_gone_is_told_as_such(serve):
    address, _ = serve()
    engine = moved(engine_at(address, attempts=2), "http://127.0.0.1:9/v1")
    with pytest.raises(BenchError, match="2 tries failed: connect after 0 chunks"):
        using(engine, lambda e: ask(e, MESSAGES, GREEDY))


def test_a_connection_that_is_never_made_is_given_up(serve):
    """A server that listens and says nothing to the greeting of TLS."""
    address, _ = serve()

    async def main():
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        engine = moved(engine_at(address, attempts=1, connect_s=0.3), f"https://127.0.0.1:{port}")
        try:
            with pytest.raises(NoAnswer, match="1 try failed: connect after 0 chunks"):
                await ask(engine, MESSAGES, GREEDY)
        finally:
            await engine.close()
            server.close()

    asyncio.run(main())


def moved(engine, address):
    """The engine, whose server is now at another address."""
    engine._transport._options = engine.options.model_copy(update={"base_url": address})
    return engine


# Everything at once, at a server of words; tests/vllm does the same before a real one.

MIX = (
    http(429, Retry_After="0"),
    http(500),
    Fault("disconnect", after=5),
    Fault("garbage", after=3, body="data: {\n\n"),
    Fault("stall", after=2),
    usage(completion_tokens=0),
)


def test_under_a_schedule_of_faults_nothing_is_lost_and_all_is_told(serve):
    plan = scheduled(0, MIX, most=3)
    address, proxy = serve(plan=plan)
    labels = [f"turn {i}" for i in range(60)]

    async def ask_all(engine):
        return await asyncio.gather(*(ask(engine, [user(t)], GREEDY) for t in labels))

    done = using(engine_at(address, stall_s=2.0), ask_all)
    assert sum(len(c.failures) for c in done) > 50
    for label, completion in zip(labels, done, strict=True):
        tries = proxy.tries(label)
        assert [t.fault for t in tries[:-1]] == [plan(label, n + 1) for n in range(len(tries) - 1)]
        assert tries[-1].fault is None
        assert [kind_of(line) for line in completion.failures] == [
            kind_injected(t.fault) for t in tries[:-1]
        ]
        assert completion.text == tries[-1].text
        assert completion.tokens.output == tries[-1].usage["completion_tokens"]


def kind_of(line):
    return line.split(" after ")[0]


def kind_injected(fault):
    if fault.kind == "http":
        return f"http {fault.status}"
    return {"garbage": "malformed", "change": "usage", "error": "server"}.get(
        fault.kind, fault.kind
    )
