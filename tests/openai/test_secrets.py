"""The key of a server is in no error, no record, no log and no reply, whatever a server echoes."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback

import pytest

from harness.engines.ask import ask
from harness.engines.base import Sampling
from harness.engines.openai.secret import ApiKey
from harness.engines.pairs import ModelSpec
from harness.errors import BenchError, UserError
from harness.method import user
from tests.openai.backend import Ability
from tests.openai.conftest import engine_at, using
from tests.openai.fault_proxy import Fault, on_first

KEY = "sk-proj-Zq8vW3rT6yU1iO4pA7sD0fG2hJ5kL9xC"
ECHO = f"Authorization: Bearer {KEY}"
GREEDY = Sampling(max_new_tokens=40)


def in_every_chunk(change):
    def edit(data):
        for choice in data.get("choices", []):
            change(choice)
        return data

    return Fault("change", change=edit)


def error(**fields):
    return json.dumps({"error": {"message": ECHO, **fields}})


def with_finish(choice):
    if choice["finish_reason"]:
        choice["finish_reason"] = ECHO


def with_text(choice):
    if choice["delta"].get("content"):
        choice["delta"]["content"] = f" {KEY}"


# Each with where it ends: in the record of a success, or in an error.
ECHOES = {
    "429": Fault("http", status=429, body=error()),
    "500-plain": Fault("http", status=500, body=f"debug: {ECHO}"),
    "502-long": Fault("http", status=502, body=("x" * 170 + ECHO) * 9),
    "503-page": Fault("http", status=503, body=f"<html>{'y' * 180}{ECHO}"),
    "503-retry-after": Fault("http", status=503, headers=(("Retry-After", KEY),)),
    "401": Fault("http", status=401, body=error(code=401)),
    "400-truncated-key": Fault("http", status=400, body=f"wrong key {KEY[:20]}"),
    "404": Fault("http", status=404, body=f'{{"detail": "{ECHO}"}}'),
    "400-overflow": Fault("http", status=400, body=error(code="context_length_exceeded")),
    "308-location": Fault("http", status=308, headers=(("Location", f"https://x/?key={KEY}"),)),
    "in-stream": Fault("error", after=2, body=error()),
    "in-stream-refusal": Fault("error", after=2, body=error(code=400)),
    "in-stream-type": Fault("error", after=2, body=json.dumps({"error": {"type": ECHO}})),
    "garbage-json": Fault("garbage", after=1, body=f'data: {{"{ECHO}\n\n'),
    "garbage-line": Fault("garbage", after=1, body=f"{ECHO}\n"),
    "finish-reason": in_every_chunk(with_finish),
    "usage": Fault("change", change=lambda d: {**d, "usage": ECHO}),
    "in-the-reply": in_every_chunk(with_text),
}


@pytest.mark.parametrize("fault", ECHOES.values(), ids=ECHOES)
@pytest.mark.parametrize("always", [False, True], ids=["once", "always"])
def test_an_echoed_key_is_nowhere(serve, monkeypatch, caplog, capfd, fault, always):
    monkeypatch.setenv("TEST_SERVER_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    plan = (lambda label, attempt: fault) if always else on_first(fault)
    address, proxy = serve(Ability(key=KEY), plan=plan)
    engine = engine_at(address, api_key_env="TEST_SERVER_KEY", attempts=2)
    try:
        done = using(engine, lambda e: ask(e, [user("Name a fruit.")], GREEDY))
        told = repr(done) + done.text
        assert done.failures or done.text
    except BenchError as caught:
        told = (
            f"{caught} {caught!r} {caught.__dict__} {''.join(traceback.format_exception(caught))}"
        )
    assert len(proxy.log) >= 1
    told += f"{engine.__dict__} {vars(engine._transport)} {engine.options!r} {engine.facts}"
    told += caplog.text + "".join(capfd.readouterr())
    for start in range(len(KEY) - 8):
        assert KEY[start : start + 9] not in told


def test_a_header_that_is_none_echoes_no_key(serve, monkeypatch):
    """The client library quotes a malformed head of an answer in its own errors."""
    monkeypatch.setenv("TEST_SERVER_KEY", KEY)
    real, _ = serve(Ability(key=KEY))

    async def main():
        async def handle(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 200 OK\r\nno header {ECHO}\r\n\r\n".encode())
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        engine = engine_at(real, api_key_env="TEST_SERVER_KEY", attempts=2)
        port = server.sockets[0].getsockname()[1]
        engine._transport._options = engine.options.model_copy(
            update={"base_url": f"http://127.0.0.1:{port}"}
        )
        try:
            with pytest.raises(BenchError, match="2 tries failed: malformed") as caught:
                await ask(engine, [user("Hi")], GREEDY)
        finally:
            await engine.close()
            server.close()
        return "".join(traceback.format_exception(caught.value))

    assert KEY not in asyncio.run(main())


@pytest.mark.parametrize("ability", [Ability(key="another"), Ability(key=KEY, model=f"m-{KEY}")])
def test_the_first_question_tells_no_key(serve, monkeypatch, ability):
    monkeypatch.setenv("TEST_SERVER_KEY", KEY)
    address, _ = serve(ability)
    with pytest.raises(UserError) as caught:
        engine_at(address, api_key_env="TEST_SERVER_KEY", model="words-7b")
    assert KEY not in "".join(traceback.format_exception(caught.value))


def test_a_key_is_sent_and_shown_nowhere():
    key = ApiKey(KEY)
    assert key.headers() == {"Authorization": f"Bearer {KEY}"}
    assert KEY not in f"{key} {key!r}"
    assert not hasattr(key, "__dict__")
    assert ApiKey(None).headers() == {} and ApiKey(None).scrub(KEY) == KEY


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        (f"a {KEY} b", "a [key] b"),
        (KEY * 3, "[key]"),
        (f"...{KEY[5:20]}...", "...[key]..."),
        (f"{KEY[:7]} is short", f"{KEY[:7]} is short"),
        ("nothing", "nothing"),
        ("", ""),
    ],
)
def test_every_longer_piece_of_a_key_is_scrubbed(text, clean):
    assert ApiKey(KEY).scrub(text) == clean


def test_a_key_that_is_a_word_stays_in_replies_but_not_in_errors():
    key = ApiKey("EMPTY")
    assert key.scrub_reply("The set is EMPTY.") == "The set is EMPTY."
    assert key.scrub("Bearer EMPTY") == "Bearer [key]"
    assert ApiKey(KEY).scrub_reply(f"It is {KEY}.") == "It is [key]."


@pytest.mark.parametrize("value", [None, "", "  ", "sk-é", "two words", "a\nb"])
def test_a_variable_without_a_key_is_named_and_its_value_is_not(monkeypatch, value):
    monkeypatch.delenv("TEST_SERVER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEST_SERVER_KEY", value)
    with pytest.raises(UserError, match="'TEST_SERVER_KEY'") as caught:
        ApiKey.from_environment("TEST_SERVER_KEY")
    assert not (value and value.strip()) or value not in str(caught.value)


def test_a_key_is_stripped_of_the_line_break_a_file_left(monkeypatch):
    monkeypatch.setenv("TEST_SERVER_KEY", f"{KEY}\n")
    assert ApiKey.from_environment("TEST_SERVER_KEY").headers()["Authorization"].endswith(KEY)


def test_a_spec_holds_the_variables_name_only(monkeypatch):
    monkeypatch.setenv("TEST_SERVER_KEY", KEY)
    options = {"base_url": "https://a.example/v1", "api_key_env": "TEST_SERVER_KEY"}
    spec = ModelSpec(id="m", engine="openai", options=options)
    assert KEY not in spec.model_dump_json() and "TEST_SERVER_KEY" in spec.model_dump_json()
