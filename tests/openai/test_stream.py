"""From events and the times of their arrival to a reply: what counts as a token, and when."""

from __future__ import annotations

import json

import pytest

from harness.engines.openai.faults import Refused, TryFailed
from harness.engines.openai.stream import ReplyBuilder, Wanted
from harness.engines.openai.usage import Seen, read_usage
from harness.method import EngineTiming, Tokens

USAGE = {"prompt_tokens": 9, "completion_tokens": 5}


def chunk(finish=None, **delta):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def counts(**more):
    return {"choices": [], "usage": {**USAGE, **more}}


def read(*events, wanted=None):
    """The reply of a stream whose n-th event arrived at time n, counted from 1."""
    builder = ReplyBuilder(wanted or Wanted("chat", 20))
    for at, event in enumerate((*events, "[DONE]"), start=1):
        data = event if isinstance(event, str) else json.dumps(event)
        builder.take(data.encode(), float(at))
    return builder.finish()


ROLE = chunk(role="assistant", content="")

# The events before the usage, the time of the first token, and of the last.
TIMES = {
    "plain": ([ROLE, chunk(content="Hi"), chunk("stop", content=" there")], 2, 3),
    "role-in-a-full-chunk": ([chunk(role="assistant", content="Hi"), chunk("stop")], 1, 2),
    "empty-deltas": ([ROLE, chunk(content=""), chunk(), chunk(content="Hi"), chunk("stop")], 4, 5),
    "null-content": ([ROLE, chunk(content=None), chunk(content="Hi"), chunk("stop")], 3, 4),
    "white-space-first": ([ROLE, chunk(content="\n\n"), chunk("stop", content="Hi")], 3, 3),
    "half-a-character": ([ROLE, chunk(content="\ufffd"), chunk("stop", content="é")], 3, 3),
    "last-token-shows-nothing": (
        [ROLE, chunk(content="Hi"), chunk(content="", x=1), chunk("stop")],
        2,
        4,
    ),
    "reasoning": (
        [ROLE, chunk(reasoning="Hm"), chunk(reasoning_content="so"), chunk("stop", content="Hi")],
        4,
        4,
    ),
    "no-choices-at-first": ([{"choices": []}, ROLE, chunk("stop", content="Hi")], 3, 3),
    "nothing-to-see": ([ROLE, chunk(content=" "), chunk("stop")], 3, 3),
    "only-reasoning": ([ROLE, chunk(reasoning="Hm"), chunk("length", reasoning="so")], 3, 3),
}


@pytest.mark.parametrize(("events", "first", "last"), TIMES.values(), ids=TIMES)
def test_the_first_token_is_the_first_that_shows_anything(events, first, last):
    reasoned = any(
        "reason" in json.dumps(e["choices"]).replace("finish_reason", "") for e in events
    )
    details = {"completion_tokens_details": {"reasoning_tokens": 2}} if reasoned else {}
    reply = read(*events, counts(**details))
    assert (reply.first_token_at, reply.last_token_at) == (first, last)
    assert reply.reasoned is reasoned


def test_an_event_without_text_is_no_chunk_of_content():
    reply = read(ROLE, chunk(content="Hi"), chunk(content=""), chunk("stop"), counts())
    assert (reply.chunks, reply.content_chunks, reply.text) == (5, 1, "Hi")


@pytest.mark.parametrize(("word", "reason"), [("stop", "end_of_turn"), ("length", "length")])
def test_why_a_reply_ended(word, reason):
    assert read(chunk(word, content="Hi"), counts()).stop_reason == reason


def test_completions_have_text_in_the_place_of_deltas():
    events = [
        {"choices": [{"text": "", "prompt_token_ids": [7, 8], "token_ids": [1]}]},
        {"choices": [{"text": "Hi", "token_ids": [2, 3]}]},
        {"choices": [{"text": "", "token_ids": [4], "finish_reason": "stop"}]},
        counts(prompt_tokens=2, completion_tokens=4),
    ]
    reply = read(*events, wanted=Wanted("completion", 20, (7, 8)))
    assert (reply.text, reply.output_ids, reply.prompt_ids) == ("Hi", (1, 2, 3, 4), (7, 8))
    assert (reply.first_token_at, reply.last_token_at) == (2, 3)


def test_counts_may_come_with_every_event_and_the_last_ones_hold():
    events = [
        {**chunk(content="Hi"), "usage": {"prompt_tokens": 9, "completion_tokens": n}}
        for n in (1, 2)
    ]
    last = {**chunk("stop", content="!"), "usage": USAGE}
    assert read(*events, last).tokens == Tokens(9, 0, 5)
    assert read(*events, {**last, "usage": None}).tokens == Tokens(9, 0, 2)


def test_what_follows_the_end_is_ignored():
    reply = read(chunk("stop", content="Hi"), counts(), "[DONE]", "{", chunk(content="more"))
    assert reply.text == "Hi"


def test_two_halves_of_a_character_are_joined():
    halves = ['{"choices":[{"delta":{"content":"\\ud83d"}}]}', chunk("stop", content="\ude00")]
    assert read(*halves, counts()).text == "\N{GRINNING FACE}"


def test_what_the_engine_measured_is_read_where_it_is_sent():
    metrics = {"queue_time_ms": 500, "time_to_first_token_ms": 250.0, "generation_time_ms": 1e3}
    done = [chunk("stop", content="Hi")]
    assert read(*done, {**counts(), "metrics": metrics}).engine == EngineTiming(0.5, 0.75, 1.75)
    for broken in ({}, {**metrics, "queue_time_ms": None}, {**metrics, "queue_time_ms": -1}, 3):
        assert read(*done, {**counts(), "metrics": broken}).engine is None


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ([chunk("stop", content="Hi"), chunk(content="more")], "malformed"),
        ([{"choices": [chunk()["choices"][0]] * 2}], "malformed"),
        ([{"choices": None}], "malformed"),
        ([{"choices": {}}], "malformed"),
        ([{"choices": ["Hi"]}], "malformed"),
        ([{"choices": [{"delta": "Hi"}]}], "malformed"),
        ([chunk(content=["Hi"])], "malformed"),
        ([{"id": "x"}], "malformed"),
        (["null"], "malformed"),
        (["[" * 100_000], "malformed"),
        ([{"error": {"message": "oops"}}], "server"),
        ([{**chunk(), "error": "oops"}], "server"),
        ([{"object": "error", "message": "oops"}], "server"),
        ([{"error": {"message": "busy", "code": 429}}], "server"),
        ([chunk()] * 1400, "malformed"),
        ([chunk("tool_calls", content="Hi"), counts()], "unfinished"),
        ([chunk(content="Hi"), counts()], "unfinished"),
    ],
)
def test_a_stream_that_is_none_is_refused(events, kind):
    with pytest.raises(TryFailed) as caught:
        read(*events)
    assert caught.value.kind == kind


def test_an_error_that_another_try_would_repeat_is_final():
    for error in ({"message": "no", "code": 400}, {"message": "maximum context length is 8"}):
        with pytest.raises(Refused):
            read({"error": error})


# Counts.


def seen(**changes):
    facts = {"prompt_ids": None, "output_ids": None, "wrote": True, "visible": True}
    return Seen(**{"max_tokens": 20, "reasoned": False, **facts, **changes})


def test_details_are_read_where_there_are_any():
    details = {
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert read_usage({**USAGE, **details}, seen(reasoned=True)) == Tokens(9, 8, 5, 3)
    nulls = {"prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}}
    assert read_usage({**USAGE, **nulls}, seen()) == Tokens(9, 0, 5, 0)


def test_an_empty_reply_may_have_no_tokens():
    empty = seen(wrote=False, visible=False)
    assert read_usage({**USAGE, "completion_tokens": 0}, empty).output == 0


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        ({"completion_tokens": 0}, {"visible": False}),  # white space is text
        ({"completion_tokens": 21}, {}),
        ({"completion_tokens": True}, {}),
        ({"prompt_tokens": 0}, {}),
        ({"prompt_tokens": 9.0}, {}),
        ({"prompt_tokens_details": {"cached_tokens": 10}}, {}),
        ({"prompt_tokens_details": {"cached_tokens": -1}}, {}),
        ({"prompt_tokens_details": [1]}, {}),
        ({"completion_tokens_details": {"reasoning_tokens": 5}}, {}),
        ({"completion_tokens_details": {"reasoning_tokens": 6}}, {"visible": False}),
        ({}, {"reasoned": True}),
        ({}, {"prompt_ids": [1, 2]}),
        ({}, {"output_ids": [1, 2]}),
    ],
)
def test_counts_that_cannot_be_true_are_refused(changes, facts):
    assert read_usage(USAGE, seen()) == Tokens(9, 0, 5)
    with pytest.raises(TryFailed) as caught:
        read_usage({**USAGE, **changes}, seen(**facts))
    assert caught.value.kind == "usage"


@pytest.mark.parametrize("usage", [None, 7, [], "none", {}])
def test_counts_that_are_none_are_refused(usage):
    with pytest.raises(TryFailed, match="usage"):
        read_usage(usage, seen())
