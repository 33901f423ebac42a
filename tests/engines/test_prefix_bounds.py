"""The engine's prefix cache in its bounds: memory, sessions that end, requests that do not."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.engines.base import NOBODY, Sampling, Scope
from tests.engines.tiny_models import loud, one, tiny_engine, words

PER_TOKEN = 2 * 3 * 2 * 8 * 8  # of a small model: keys and values, layers, heads, width, float64


def on(session: str) -> Scope:
    return Scope(session, True)


@pytest.fixture
def tiny():
    engine = tiny_engine()
    yield engine
    asyncio.run(engine.close())


# Memory.


def test_kept_bytes_are_those_of_all_the_session_s_prefixes(tiny):
    per_token = tiny.facts.kv_bytes_per_token
    base = one(tiny, words(1, 20), Sampling(1), None, on("a"))
    assert base.kv_bytes_kept == 20 * per_token
    adapted = one(tiny, words(2, 30), Sampling(1), loud(tiny, 1), on("a"))
    assert adapted.kv_bytes_kept == 50 * per_token
    assert one(tiny, words(2, 7), Sampling(1), None, on("b")).kv_bytes_kept == 7 * per_token
    # The base's second prefix takes the place of its first.
    assert one(tiny, words(3, 5), Sampling(1), None, on("a")).kv_bytes_kept == 35 * per_token


def test_a_full_cache_forgets_the_session_that_waited_longest():
    engine = tiny_engine(cache_bytes=50 * PER_TOKEN)
    for session in "ab":
        one(engine, words(1, 20), Sampling(1), None, on(session))
    assert one(engine, words(1, 25), Sampling(1), None, on("a")).tokens.cached == 20
    # 25 of "a" and 20 of "b" are kept; 10 more push out "b".
    assert one(engine, words(2, 10), Sampling(1), None, on("c")).kv_bytes_kept == 10 * PER_TOKEN
    assert one(engine, words(1, 30), Sampling(1), None, on("a")).tokens.cached == 25
    assert one(engine, words(1, 15), Sampling(1), None, on("b")).tokens.cached == 0
    big = one(engine, words(1, 51), Sampling(1), None, on("d"))
    assert big.kv_bytes_kept == 0
    assert one(engine, words(1, 16), Sampling(1), None, on("b")).tokens.cached == 15
    asyncio.run(engine.close())


@pytest.mark.parametrize("how", ["release", "reset"])
def test_an_ended_session_is_forgotten(tiny, how):
    prompt = words(1, 20)
    adapter = loud(tiny, 1)
    for session in "ab":
        one(tiny, prompt, Sampling(1), None, on(session))
        one(tiny, prompt, Sampling(1), adapter, on(session))
    asyncio.run(tiny.release("a") if how == "release" else tiny.reset())
    for used in (None, adapter):
        assert one(tiny, prompt, Sampling(1), used, on("a")).tokens.cached == 0
        expected = 19 if how == "release" else 0
        assert one(tiny, prompt, Sampling(1), used, on("b")).tokens.cached == expected


# Requests that do not come to their end.


def kept_by(engine: Any, session: str, prompt: list[int]) -> int:
    return one(engine, prompt, Sampling(1), None, on(session)).tokens.cached


@pytest.mark.parametrize("how", ["release", "reset", "abandon"])
def test_a_request_under_way_leaves_nothing_to_a_session_that_ended(tiny, how):
    prompt = words(1, 20)

    async def main() -> None:
        gate = threading.Event()
        holder = asyncio.create_task(tiny.run_exclusive(gate.wait))
        await asyncio.sleep(0)
        request = asyncio.create_task(tiny.generate(prompt, Sampling(4), None, on("a")))
        neighbour = asyncio.create_task(tiny.generate(prompt, Sampling(4), None, NOBODY))
        await asyncio.sleep(0)
        if how == "release":
            await tiny.release("a")
        elif how == "reset":
            await tiny.reset()
        else:
            request.cancel()
        gate.set()
        await holder
        done: Any = await asyncio.gather(request, neighbour, return_exceptions=True)
        if how == "abandon":
            assert isinstance(done[0], asyncio.CancelledError)
        else:
            assert done[0].output_ids == done[1].output_ids
            assert done[0].kv_bytes_kept == 0

    asyncio.run(main())
    assert kept_by(tiny, "a", prompt) == 0


def test_a_request_abandoned_in_the_middle_keeps_what_was_there_before(tiny):
    prompt = words(1, 30)
    one(tiny, prompt[:20], Sampling(1), None, on("a"))

    async def main() -> None:
        tiny.stop_ids = frozenset()  # it runs until it is cancelled
        request = asyncio.create_task(tiny.generate(prompt, Sampling(4000), None, on("a")))
        await asyncio.sleep(0.2)
        assert not request.done()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await asyncio.wait_for(tiny.run_exclusive(lambda: None), timeout=60)

    asyncio.run(main())
    assert kept_by(tiny, "a", prompt) == 20


def test_a_failed_request_keeps_what_was_there_before(tiny):
    one(tiny, words(1, 20), Sampling(1), None, on("a"))
    with pytest.raises(IndexError):
        one(tiny, [*words(1, 20), 10**6], Sampling(1), None, on("a"))
    assert kept_by(tiny, "a", words(1, 25)) == 20


OUT_OF_MEMORY = """
import asyncio, resource, sys
from harness.engines.base import Sampling, Scope
from tests.engines.tiny_models import tiny_engine, words

def memory(name):
    return int(next(l for l in open("/proc/self/status") if l.startswith(name)).split()[1]) * 1024

async def main():
    # Heads so wide that the keys of 300 tokens take 14 MB.
    engine = tiny_engine(
        num_hidden_layers=2, num_attention_heads=1, num_key_value_heads=1, head_dim=6000,
        cache_bytes=2**40,
    )
    wide, narrow = words(1, 300), words(2, 10)
    def ask(prompt, session, on=True):
        return engine.generate(prompt, Sampling(2), None, Scope(session, on))
    before = memory("VmSize")
    await ask(wide, "a", False)
    needed = memory("VmPeak") - before
    kept = (await ask(wide, "a")).kv_bytes_kept
    size = memory("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (size + needed - kept // 2,) * 2)
    both = await asyncio.gather(ask(wide, "b"), ask(narrow, "c"))
    print(kept, both[0].tokens.output, both[1].tokens.output, both[0].kv_bytes_kept)
    print((await ask(narrow, "a")).tokens.cached, (await ask(narrow, "c")).tokens.cached)
    print((await ask(wide[:100] + narrow, "b")).tokens.cached)
    await engine.close()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_what_is_kept_makes_room_for_a_request_that_needs_it(root: Path):
    # Large blocks are to be taken from the system one by one, and given back at once.
    malloc = {"MALLOC_MMAP_THRESHOLD_": "1000000", "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OUT_OF_MEMORY)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=root,
        env={**os.environ, **malloc},
    )
    assert done.returncode == 0, done.stderr
    kept, *outputs, kept_after = map(int, done.stdout.splitlines()[0].split())
    assert outputs == [2, 2]
    assert kept_after == kept == 301 * 4 * 6000 * 8
    # What was kept of the others before is gone; what was asked for since is there.
    assert done.stdout.splitlines()[1:] == ["0 9", "100"]
