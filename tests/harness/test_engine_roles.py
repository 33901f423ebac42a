"""Engines that only serve: a copy is adapted beside them, adapters are loaded, sessions released.

What serves here is a real model behind a thin front that hides its weights, as a server's are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from baselines.original import Original
from harness.engines.base import NOBODY, AdapterHost, LocalEngine, Sampling, Scope
from harness.engines.chat import encode_chat
from harness.errors import UserError
from harness.method import (
    Adapter,
    Completion,
    Conversation,
    Engines,
    Message,
    Method,
    Reply,
    Worked,
    user,
)
from harness.record import SessionRecord
from harness.serving import EngineSet, serve_session
from harness.session import Session
from harness.spec import GenerationSpec
from harness.store import UnitKey, unit_hash

SHORT = GenerationSpec(max_new_tokens=4)
TURNS = ("Name a river.", "And a lake?")


class Front:
    """Serves with `behind`, and shows neither its weights nor how it adapts them."""

    def __init__(self, behind: Any) -> None:
        self.behind = behind
        self.tokenizer = behind.tokenizer
        self.facts = behind.facts
        self.scopes: list[Scope] = []
        self.held: dict[str, list[Adapter]] = {}
        self.released: list[str] = []

    async def generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        assert adapter is None or self.holds(adapter)
        self.scopes.append(scope)
        done: Completion = await self.behind.generate(prompt_ids, sampling, adapter, scope)
        return done

    def holds(self, adapter: Adapter) -> bool:
        return any(adapter is a for held in self.held.values() for a in held)

    async def hold(self, adapter: Adapter, session: str) -> None:
        self.held.setdefault(session, []).append(adapter)

    async def release(self, session: str) -> None:
        self.held.pop(session, None)
        self.released.append(session)

    async def reset(self) -> None:
        await self.behind.reset()

    async def close(self) -> None:
        pass


class TextFront(Front):
    """The same behind text, with a tokenizer that nobody here knows."""

    def __init__(self, behind: Any) -> None:
        super().__init__(behind)
        self.tokenizer = None

    async def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        ids = encode_chat(self.behind.tokenizer, messages)
        return await self.generate(ids, sampling, adapter, scope)


class Adapting(Method):
    """Makes an adapter that changes nothing, and answers every turn with it."""

    async def open(self, session: Session, engines: Engines) -> Conversation:
        return _Adapting(engines)


def _fresh_adapter(
    model: Any, tokenizer: Any, payloads: Sequence[int]
) -> Generator[None, None, list[Worked[Any]]]:
    from harness.engines.transformers.adapters import TrainableAdapter, adaptable_sites

    yield
    sites = adaptable_sites(model)
    made = [TrainableAdapter(sites, rank=2, alpha=4, seed=seed) for seed in payloads]
    return [Worked(adapter.freeze(), trained=1) for adapter in made]


class _Adapting:
    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self.adapter: Any = None

    async def reply(self, text: str) -> Reply:
        if self.adapter is None:
            self.adapter = await self.engines.G.work(_fresh_adapter, 1, key="k", purpose="training")
        assert self.engines.G.encode_reply("a", ended=True)
        return Reply(await self.engines.G.generate([user(text)], adapter=self.adapter))

    async def replay(self, reply: str, *, ended: bool) -> None:
        raise AssertionError("nothing is replayed here")

    async def close(self) -> None:
        pass


def serve(engines: EngineSet, method: Method, *, cache: bool = False) -> SessionRecord:
    key = UnitKey("m", "t", "s", 0)
    session = Session(id="s", task="t", turns=TURNS)
    return asyncio.run(
        serve_session(key, method, session, engines, SHORT, alone=True, prefix_cache=cache)
    )


SESSION = unit_hash(UnitKey("m", "t", "s", 0))


def test_the_fronts_are_what_they_stand_for(embedded: EngineSet) -> None:
    front = Front(embedded.G)
    assert isinstance(front, AdapterHost)
    assert not isinstance(front, LocalEngine)
    assert isinstance(embedded.G, LocalEngine)


@pytest.mark.parametrize("front", [Front, TextFront])
def test_a_copy_is_adapted_and_its_adapter_loaded_on_the_clock(
    embedded: EngineSet, front: type[Front]
) -> None:
    assert isinstance(embedded.G, LocalEngine)
    served = front(embedded.G)
    engines = replace(embedded, G=served, trainers={"G": embedded.G}, _works={})
    record = serve(engines, Adapting())
    first, second = record["turns"]
    assert [s["name"] for s in first["spans"]] == ["adapter_load"]
    assert second["spans"] == []
    (load,) = first["spans"]
    reply = next(c for c in first["calls"] if c["purpose"] == "reply")
    assert reply["start_s"] <= load["start_s"]
    assert first["timing"]["ttft_s"] > load["start_s"] + load["duration_s"]
    memory: Any = record["memory"]
    assert set(memory["weights"]) == {"G", "G-training"}
    assert memory["adapters"] > 0
    assert served.released == [SESSION]
    assert served.held == {}


def test_without_a_copy_the_error_says_what_to_add(embedded: EngineSet) -> None:
    engines = replace(embedded, G=Front(embedded.G), _works={})
    with pytest.raises(UserError, match=r"G\.engine: holds no weights.*\[G\.training\]"):
        serve(engines, Adapting())


@pytest.mark.parametrize("cache", [False, True])
def test_every_request_carries_its_session_and_the_setting(
    embedded: EngineSet, cache: bool
) -> None:
    served = Front(embedded.F)
    serve(replace(embedded, F=served, _works={}), Original(), cache=cache)
    assert served.scopes == [Scope(SESSION, cache)] * len(TURNS)
    assert served.released == [SESSION]


def test_a_session_is_released_even_when_its_method_fails(embedded: EngineSet) -> None:
    class Failing(Original):
        async def open(self, session: Session, engines: Engines) -> Conversation:
            raise RuntimeError("on purpose")

    served = Front(embedded.F)
    with pytest.raises(RuntimeError, match="on purpose"):
        serve(replace(embedded, F=served, _works={}), Failing())
    assert served.released == [SESSION]


def test_text_goes_to_an_engine_that_takes_text(embedded: EngineSet) -> None:
    plain = serve(embedded, Original())
    text = serve(replace(embedded, F=TextFront(embedded.F), _works={}), Original())
    assert [t["reply"] for t in text["turns"]] == [t["reply"] for t in plain["turns"]]


def test_tokens_that_nobody_can_count_are_asked_for_by_name(embedded: EngineSet) -> None:
    from baselines.truncation import Truncation

    engines = replace(embedded, F=TextFront(embedded.F), _works={})
    with pytest.raises(UserError, match=r"its tokenizer is not known.*tokenizer = "):
        serve(engines, Truncation(token_budget=50))
