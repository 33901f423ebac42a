"""Adapters in vLLM: the numbers of transformers, one per request, gone with their session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from harness.engines.base import NOBODY, AdapterHost, Sampling, Scope
from harness.engines.chat import encode_chat
from harness.engines.vllm.base_slot import FIRST_NUMBER
from harness.errors import UserError
from harness.method import user
from tests.vllm.conftest import loud

PROMPT = "Tell me about the harbour at night, the boats, the lamps and the men who work there. " * 4


def ids(engine: Any) -> list[int]:
    return encode_chat(engine.tokenizer, [user(PROMPT)])


async def loaded(engine: Any) -> list[int]:
    """Numbers of the sessions' adapters that vLLM itself has loaded."""
    numbers = await engine._loop.run(engine._llm.list_loras())
    return [n for n in numbers if n < FIRST_NUMBER]


async def reply(engine: Any, adapter: Any, session: str = "s", tokens: int = 8) -> Any:
    return await engine.generate(
        ids(engine), Sampling(tokens), adapter, Scope(session, prefix_cache=True)
    )


@pytest.fixture(autouse=True)
def _nothing_is_left(engine: Any) -> Iterator[None]:
    """Every test begins without adapters, whatever became of the one before."""
    yield
    for session in {name for held in engine._shelf._held.values() for name in held.sessions}:
        asyncio.run(engine.release(session))


@pytest.fixture(scope="module")
def alone(engine: Any, adapters: list[Any]) -> list[Any]:
    """The reply with each of three adapters and, last, without any; each served by itself."""

    async def serve() -> list[Any]:
        done = [await reply(engine, adapter) for adapter in (*adapters[:3], None)]
        await engine.release("s")
        return done

    return asyncio.run(serve())


def test_it_is_a_host_of_adapters(engine: Any) -> None:
    assert isinstance(engine, AdapterHost)


def test_every_adapter_has_a_reply_of_its_own(alone: list[Any]) -> None:
    assert len({c.output_ids for c in alone}) == 4


def test_replies_are_those_of_transformers_with_the_same_adapter(
    local: Any, adapters: list[Any], alone: list[Any]
) -> None:
    async def serve() -> list[Any]:
        asked = (*adapters[:3], None)
        return [await local.generate(ids(local), Sampling(8), adapter) for adapter in asked]

    assert [c.output_ids for c in asyncio.run(serve())] == [c.output_ids for c in alone]


def test_sessions_at_the_same_time_do_not_mix(
    engine: Any, adapters: list[Any], alone: list[Any]
) -> None:
    """More adapters than a batch takes, each twice, and the base between them."""

    async def serve() -> list[Any]:
        sessions = [(adapter, f"mixed-{n}") for n, adapter in enumerate([*adapters[:3], None] * 2)]
        done = await asyncio.gather(*(reply(engine, a, name) for a, name in sessions))
        for _, name in sessions:
            await engine.release(name)
        assert await loaded(engine) == []
        return done

    done = asyncio.run(serve())
    assert [c.output_ids for c in done] == [c.output_ids for c in alone * 2]
    assert [c.tokens.cached for c in done] == [0] * 8


def test_keys_and_values_are_shared_neither_with_the_base_nor_between_versions(
    engine: Any, adapters: list[Any], alone: list[Any]
) -> None:
    first, second = adapters[:2]

    async def serve() -> list[Any]:
        done = [
            await reply(engine, adapter, "versions")
            for adapter in (None, None, first, first, second, second, first, None)
        ]
        await engine.release("versions")
        return done

    done = asyncio.run(serve())
    warm = [c.tokens.cached > 0 for c in done]
    assert warm == [False, True, False, True, False, True, True, True]
    expected = [alone[n] for n in (3, 3, 0, 0, 1, 1, 0, 3)]
    assert [c.output_ids for c in done] == [c.output_ids for c in expected]


def test_an_adapter_is_held_until_its_session_is_released(engine: Any, adapters: list[Any]) -> None:
    adapter = adapters[0]

    async def serve() -> tuple[Any, Any]:
        await engine.hold(adapter, "held")
        assert engine.holds(adapter)
        assert not engine.holds(adapters[1])
        assert len(await loaded(engine)) == len(_folders(engine)) == 1
        before = await reply(engine, adapter, "held")
        await engine.release("another")
        assert engine.holds(adapter)
        await engine.release("held")
        assert not engine.holds(adapter)
        assert _folders(engine) == []
        assert await loaded(engine) == []
        again = await reply(engine, adapter, "held")
        await engine.release("held")
        return before, again

    before, again = asyncio.run(serve())
    assert again.output_ids == before.output_ids
    assert (before.tokens.cached, again.tokens.cached) == (0, 0)


def _folders(engine: Any) -> list[Path]:
    return list((engine._home / "adapters").iterdir())


def test_an_adapter_of_two_sessions_stays_for_the_second(engine: Any, adapters: list[Any]) -> None:
    async def serve() -> None:
        for name in ("one", "two"):
            await engine.hold(adapters[0], name)
        assert len(_folders(engine)) == 1
        await engine.release("one")
        assert engine.holds(adapters[0])
        await engine.release("two")
        assert not engine.holds(adapters[0])

    asyncio.run(serve())


def test_an_adapter_of_no_session_goes_with_a_reset(engine: Any, adapters: list[Any]) -> None:
    async def serve() -> None:
        await engine.generate(ids(engine), Sampling(1), adapters[0], NOBODY)
        assert engine.holds(adapters[0])
        await engine.reset()
        assert not engine.holds(adapters[0])

    asyncio.run(serve())


def test_a_session_may_end_before_its_last_request(engine: Any, adapters: list[Any]) -> None:
    """An adapter that a request still needs is unloaded after it."""

    async def serve() -> Any:
        task = asyncio.create_task(reply(engine, adapters[0], "early", tokens=16))
        while engine._llm.get_num_unfinished_requests() == 0:
            await asyncio.sleep(0.01)
        await engine.release("early")
        done = await task
        assert not engine.holds(adapters[0])
        assert await loaded(engine) == []
        return done

    assert asyncio.run(serve()).tokens.output == 16


def test_more_adapters_than_stay_loaded_are_loaded_again(
    engine: Any, local: Any, adapters: list[Any], alone: list[Any]
) -> None:
    """Those driven out come back with their next request, and as what they were."""
    many = [*adapters, *(loud(local.model, seed) for seed in range(4, 10))]

    async def serve() -> list[Any]:
        for number, adapter in enumerate(many):
            await engine.hold(adapter, f"many-{number}")
        assert len(await loaded(engine)) < len(_folders(engine)) == len(many)
        done = [await reply(engine, a, f"many-{n}") for n, a in enumerate(many[:3])]
        for number in range(len(many)):
            await engine.release(f"many-{number}")
        assert await loaded(engine) == []
        assert _folders(engine) == []
        return done

    assert [c.output_ids for c in asyncio.run(serve())] == [c.output_ids for c in alone[:3]]


def test_a_rank_beyond_the_limit_is_the_user_s_to_mend(engine: Any, local: Any) -> None:
    """The limit of 12 was rounded up to one that vLLM allows."""
    fits, large = loud(local.model, 8, rank=16), loud(local.model, 9, rank=17)
    with pytest.raises(UserError) as refused:
        asyncio.run(engine.hold(large, "large"))
    assert refused.value.place == "G.options.max_lora_rank"
    assert refused.value.problem == "is 16, the adapter's rank is 17; give 17"
    assert not engine.holds(large)
    assert asyncio.run(reply(engine, fits, "fits")).tokens.output == 8
    asyncio.run(engine.release("fits"))


def test_an_adapter_of_another_model_is_refused_and_ends_nothing(
    engine: Any, adapters: list[Any], alone: list[Any]
) -> None:
    path = "model.layers.0.self_attn.q_proj"
    weights = {path.replace("q_proj", "nothing"): adapters[0].weights[path]}
    strange = replace(adapters[0], weights=MappingProxyType(weights))
    with pytest.raises(UserError, match=r"cannot load an adapter: .*nothing"):
        asyncio.run(reply(engine, strange, "strange"))
    assert not engine.holds(strange)
    assert _folders(engine) == []
    assert asyncio.run(reply(engine, None, "base")).output_ids == alone[3].output_ids
