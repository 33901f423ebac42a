"""A real vLLM server in a process of its own on loopback, asked by both engines of the harness."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.commands import serve_check
from harness.engines.ask import ask
from harness.engines.base import Sampling, Scope
from harness.engines.chat import encode_chat, prompt_hash
from harness.engines.embedded.fetch import fetch_one
from harness.engines.load import load_encoder, load_engine
from harness.engines.openai.self_check import Stream, judge
from harness.engines.pairs import ModelSpec, load_pair
from harness.errors import ContextOverflow, UserError
from harness.method import assistant, chat, user
from harness.serving import EngineSet, serve_session
from harness.session import Role, Session
from harness.spec import GenerationSpec
from harness.store import UnitKey
from tests.openai.fault_proxy import Fault, FaultProxy, scheduled
from tests.openai.serving import running
from tests.vllm.conftest import loud

BLOCK = 32
START_S = 240
FLAGS = f"""
--served-model-name G --dtype float32 --enforce-eager --max-model-len 2048 --block-size {BLOCK}
--enable-lora --max-lora-rank 16 --max-loras 2 --max-cpu-loras 4 --enable-prefix-caching
--enable-prompt-tokens-details --enable-per-request-metrics --host 127.0.0.1
""".split()

GREEDY = Sampling(max_new_tokens=12)
DIALOGUES = [
    [user("What is the capital of France?")],
    chat("Answer in one sentence.", [user("Why is the sky blue?")]),
    [user("Name three fruits."), assistant("Apple, pear, plum."), user("Which one is red?")],
]
LONG = "A bakery sells rolls for 2 dollars and loaves for 5. " * 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a vLLM server of G. Its process and its children end with the tests."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    env = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
        "VLLM_NO_USAGE_STATS": "1",
    }
    with (
        log.open("w") as output,
        subprocess.Popen(
            [*command, "--model", str(fetch_one("G")), *FLAGS, "--port", str(port)],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            address = f"http://127.0.0.1:{port}/v1"
            _wait(process, f"{address}/models", log)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(START_S * 4):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"the server did not start:\n{log.read_text()[-3000:]}")


def at(address: str, role: Role = "G", **options: Any) -> Any:
    """An engine at `address`; every request has a cache of its session's own."""
    given = {"base_url": address, "cache_salt": True, "token_ids": True, "loads_adapters": True}
    spec = ModelSpec(
        id="G", engine="openai", tokenizer="embedded:G", options={**given, "attempts": 4, **options}
    )
    return load_engine(spec, role, offline=True, batch_size=1, prefix_cache=True)


def using(engine: Any, what: Callable[[Any], Any]) -> Any:
    async def main() -> Any:
        try:
            return await what(engine)
        finally:
            await engine.close()

    return asyncio.run(main())


def cached(session: str) -> Scope:
    return Scope(session, prefix_cache=True)


@pytest.fixture(scope="module")
def replies(server: str) -> dict[str, list[Any]]:
    """Every dialogue's reply, from the engine of messages and from that of ids."""

    async def all_replies(engine: Any) -> list[Any]:
        return [await ask(engine, messages, GREEDY) for messages in DIALOGUES]

    return {send: using(at(server, send=send), all_replies) for send in ("messages", "ids")}


def test_the_server_s_template_makes_the_ids_that_ours_makes(
    replies: dict[str, list[Any]], local: Any
) -> None:
    for messages, ours, theirs in zip(DIALOGUES, replies["ids"], replies["messages"], strict=True):
        ids = encode_chat(local.tokenizer, messages)
        assert ours.prompt_hash == theirs.prompt_hash == prompt_hash(ids)
        assert ours.tokens.prompt == theirs.tokens.prompt == len(ids)


def test_greedy_replies_are_those_of_transformers(
    replies: dict[str, list[Any]], local: Any
) -> None:
    async def local_replies() -> list[Any]:
        return await asyncio.gather(*(ask(local, messages, GREEDY) for messages in DIALOGUES))

    expected = [(c.text, c.output_ids) for c in asyncio.run(local_replies())]
    for send in ("messages", "ids"):
        found = [(c.text, c.output_ids) for c in replies[send]]
        assert sum(a == b for a, b in zip(found, expected, strict=True)) >= len(expected) - 1


def test_replies_are_streamed_and_timed(replies: dict[str, list[Any]]) -> None:
    for done in (*replies["messages"], *replies["ids"]):
        assert done.failures == () and done.tokens.output == len(done.output_ids) > 1
        assert done.sent_at < done.first_token_at < done.last_token_at
        assert done.engine is not None
        assert 0 <= done.engine.queue_s <= done.engine.ttft_s < done.engine.e2e_s
        assert done.engine.ttft_s < done.first_token_at - done.sent_at


@pytest.mark.parametrize("send", ["messages", "ids"])
def test_the_second_turn_of_a_long_prompt_comes_from_the_session_s_cache(
    server: str, send: str
) -> None:
    first, few = [user(f"{LONG} What does a roll cost?")], Sampling(max_new_tokens=3)

    async def talk(engine: Any) -> list[Any]:
        one = await ask(engine, first, few, scope=cached("a"))
        second = [*first, assistant(one.text), user("And a loaf?")]
        two = await ask(engine, second, few, scope=cached("a"))
        other = await ask(engine, second, few, scope=cached("b"))
        off = await ask(engine, second, few, scope=Scope("a"))
        await engine.reset()
        return [one, two, other, off, await ask(engine, second, few, scope=cached("a"))]

    one, two, *apart = using(at(server, send=send), talk)
    assert one.tokens.cached == 0
    assert one.tokens.prompt - BLOCK <= two.tokens.cached < two.tokens.prompt
    assert [done.tokens.cached for done in apart] == [0, 0, 0]


@pytest.mark.parametrize("send", ["messages", "ids"])
def test_an_adapter_is_loaded_changes_the_reply_and_is_unloaded(
    server: str, adapters: list[Any], send: str
) -> None:
    mine, other = adapters[:2]
    folders: list[Path] = []

    async def served() -> list[str]:
        with urllib.request.urlopen(f"{server}/models") as answer:
            data = json.loads(answer.read())["data"]
        folders.extend(Path(m["root"]) for m in data if m["id"] != "G")
        return [m["id"] for m in data]

    async def sessions(engine: Any) -> list[Any]:
        texts = [(await ask(engine, DIALOGUES[0], GREEDY)).text]
        for adapter, session in ((mine, "a"), (other, "b")):
            await engine.hold(adapter, session)
            texts.append((await ask(engine, DIALOGUES[0], GREEDY, adapter, cached(session))).text)
        loaded = await served()
        texts.append((await ask(engine, DIALOGUES[0], GREEDY, mine, cached("a"))).text)
        await engine.release("a")
        left = await served()
        texts.append((await ask(engine, DIALOGUES[0], GREEDY)).text)
        await engine.release("b")
        return [texts, loaded, left, await served()]

    (plain, first, second, again, after), loaded, left, none = using(
        at(server, send=send), sessions
    )
    assert plain == after and first == again
    assert len({plain, first, second}) == 3
    assert (len(loaded), left, none) == (3, ["G", loaded[2]], ["G"])
    assert folders and not any(folder.exists() for folder in folders)


def test_an_adapter_of_too_high_a_rank_is_refused_in_one_line(server: str, local: Any) -> None:
    async def hold(engine: Any) -> None:
        with pytest.raises(UserError, match=r"model G: .*rank 32.*16"):
            await engine.hold(loud(local.model, seed=0, rank=32), "a")

    using(at(server, attempts=1), hold)


@pytest.mark.parametrize("options", [{"send": "messages"}, {"send": "ids", "context_tokens": 9999}])
def test_a_prompt_that_does_not_fit_is_an_overflow(server: str, options: dict[str, Any]) -> None:
    async def overflow(engine: Any) -> None:
        with pytest.raises(ContextOverflow, match="2048"):
            await ask(engine, [user(LONG * 20)], GREEDY)

    using(at(server, **options), overflow)


def test_serve_check_finds_what_this_server_can(
    server: str, bench: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = judge([Stream(2, 0.0, 0.1, 0.2, 0.0, 0.1, 0.2)], shared_clock=True)
    monkeypatch.setattr(serve_check, "measure_client", lambda: idle)
    result = bench("serve-check", server, "--json")
    assert result.exit_code == 0, result.output
    value = json.loads(result.stdout)
    found = {finding["topic"]: finding["verdict"] for finding in value["findings"]}
    assert {topic for topic, verdict in found.items() if verdict != "yes"} == {"reasoning"}
    assert value["model"] == "G"
    assert value["options"] == {
        "base_url": server,
        "token_ids": True,
        "cache_salt": True,
        "loads_adapters": True,
    }


# A fault server in front of it.

SESSIONS, TURNS, TOKENS = 25, 8, 8


def too_many(event: dict[str, Any]) -> dict[str, Any]:
    if event.get("usage"):
        event["usage"]["completion_tokens"] += 1000
    return event


FAULTS = {
    "http 429": Fault("http", status=429, body="slow down", headers=(("Retry-After", "0"),)),
    "http 500": Fault("http", status=500, body='{"error": {"message": "oops"}}'),
    "disconnect": Fault("disconnect", after=4),
    "malformed": Fault("garbage", after=3, body='data: {"choi\n\n'),
    "usage": Fault("change", change=too_many),
    "stall": Fault("stall", after=2),
}
KINDS = {fault: kind for kind, fault in FAULTS.items()}


def test_through_a_fault_server_no_turn_is_lost_or_counted_twice_and_all_retries_are_told(
    server: str,
) -> None:
    """200 turns in 25 sessions at once, of which every one meets up to two faults in a row."""
    # A stall takes the client's patience each time: it is injected less often than the others.
    often = [fault for kind, fault in FAULTS.items() if kind != "stall"]
    plan = scheduled(0, (*often, *often, *often, FAULTS["stall"]), most=2)
    proxy = FaultProxy(server, plan)
    sessions = [
        Session(f"s{i}", "t", tuple(f"Session {i}, turn {j}: say a word." for j in range(TURNS)))
        for i in range(SESSIONS)
    ]
    with running(proxy.app()) as address:
        records = asyncio.run(_serve_all(address, sessions))
    injected = dict.fromkeys(FAULTS, 0)
    for session, record in zip(sessions, records, strict=True):
        assert record["outcome"] == "scored" and len(record["turns"]) == TURNS
        for text, turn in zip(session.turns, record["turns"], strict=True):
            (call,) = turn["calls"]
            *spoilt, last = proxy.tries(text)
            told = [line.split(" after ")[0] for line in call["failures"]]
            assert told == [KINDS[passed.fault] for passed in spoilt if passed.fault]
            assert len(told) == len(spoilt)
            assert last.fault is None and last.usage is not None
            assert turn["reply"] == last.text
            assert call["prompt"] == turn["tokens"]["prompt"] == last.usage["prompt_tokens"]
            assert call["output"] == turn["tokens"]["output"] == last.usage["completion_tokens"]
            for kind in told:
                injected[kind] += 1
        total = sum(proxy.tries(text)[-1].usage["completion_tokens"] for text in session.turns)  # type: ignore[index]
        assert record["cost"] is not None
        assert record["cost"]["tokens"]["F"]["output"] == total
    assert sum(passed.fault is None for passed in proxy.log) == SESSIONS * TURNS
    assert sum(injected.values()) == len(proxy.log) - SESSIONS * TURNS > 100
    assert min(injected.values()) >= 3, injected


async def _serve_all(address: str, sessions: list[Session]) -> list[Any]:
    """The record of every session, as the method that keeps to F serves it."""
    from baselines.original import Original

    pair = load_pair("embedded")
    quick = {"stall_s": 8.0, "backoff_s": 0.01, "backoff_cap_s": 0.05}
    engine = at(address, "F", **quick)
    engines = EngineSet(pair, engine, engine, load_encoder(pair.encoder, offline=True))
    generation = GenerationSpec(max_new_tokens=TOKENS)
    try:
        return await asyncio.gather(
            *(
                serve_session(
                    UnitKey("m", "t", session.id, 0),
                    Original(),
                    session,
                    engines,
                    generation,
                    alone=False,
                    prefix_cache=True,
                )
                for session in sessions
            )
        )
    finally:
        await engine.close()
        await engines.encoder.close()
