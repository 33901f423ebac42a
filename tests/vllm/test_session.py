"""SOMA sessions with G on vLLM: trained in transformers, loaded, used, unloaded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.engines.base import Sampling, Scope
from harness.method import Completion
from harness.record import SessionRecord
from harness.serving import EngineSet, serve_session
from harness.session import Session
from harness.spec import GenerationSpec
from harness.store import UnitKey
from soma.methods.soma import Soma
from tasks._bundled import bundled
from tests.vllm.test_adapters import loaded

METHOD = Soma(
    warm_turns=2,
    prompt_length=3,
    candidates=1,
    keep=1,
    iterations=1,
    steps=3,
    batch=1,
    rank=8,
    learning_rate=3e-2,
    max_prompt_tokens=160,
    max_reply_tokens=16,
    epsilon=2.0,
    min_locality=-1.0,
    drift_threshold=2.0,
)
TOKENS = 8
TURNS = 4


@dataclass(frozen=True)
class Call:
    """One request to G, and what came of it."""

    ids: list[int]
    sampling: Sampling
    adapter: Any
    scope: Scope
    done: Completion


@dataclass
class Served:
    """Two sessions. `adapted`: G's requests with an adapter. `most`: adapters loaded at a time."""

    records: list[SessionRecord] = field(default_factory=list)
    adapted: list[Call] = field(default_factory=list)
    most: int = 0


@pytest.fixture(scope="module")
def engines(engine: Any, local: Any) -> Iterator[EngineSet]:
    """F in transformers, G served by vLLM and trained in transformers."""
    from harness.engines.load import load_encoder, load_engine
    from harness.engines.pairs import load_pair

    pair = load_pair("embedded")
    f = load_engine(pair.F, "F", offline=True, batch_size=4)
    encoder = load_encoder(pair.encoder, offline=True)
    yield EngineSet(pair, f, engine, encoder, trainers={"G": local})
    asyncio.run(f.close())
    asyncio.run(encoder.close())


@pytest.fixture(scope="module")
def served(engines: EngineSet, engine: Any) -> Served:
    """Two sessions at the same time."""
    served = Served()
    plain = engine.generate

    async def noted(ids: Any, sampling: Any, adapter: Any = None, scope: Any = None) -> Any:
        done = await plain(ids, sampling, adapter, scope)
        if adapter is not None:
            served.adapted.append(Call(ids, sampling, adapter, scope, done))
            served.most = max(served.most, len(await loaded(engine)))
        return done

    async def serve() -> list[SessionRecord]:
        await engine.reset()
        return await asyncio.gather(*(_serve(engines, task) for task in ("planning", "maths")))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "generate", noted)
        served.records = asyncio.run(serve())
    return served


async def _serve(engines: EngineSet, task: str) -> SessionRecord:
    whole = next(bundled(task))
    one = Session(id=whole.id, task=task, turns=whole.turns[:TURNS], system=whole.system)
    generation = GenerationSpec(max_new_tokens=TOKENS)
    return await serve_session(
        UnitKey("soma", task, one.id, 0),
        METHOD,
        one,
        engines,
        generation,
        alone=False,
        prefix_cache=True,
    )


def test_both_sessions_switch_to_g(served: Served) -> None:
    for record in served.records:
        assert "".join(turn["served_by"] for turn in record["turns"]) == "FFGG"
        kinds = [event["kind"] for turn in record["turns"] for event in turn["events"]]
        assert "switched" in kinds


def test_every_version_is_loaded_once_and_on_the_clock(served: Served) -> None:
    """One that the gate judges, and one trained on all warm turns that serves."""
    versions = {(c.scope.session, id(c.adapter)) for c in served.adapted}
    assert len(versions) == 4
    assert served.most > 1
    for record in served.records:
        names = [span["name"] for turn in record["turns"] for span in turn["spans"]]
        assert names.count("adapter_load") == 2


def test_the_record_holds_the_engine_s_own_times_and_the_adapter_s_size(served: Served) -> None:
    for record in served.records:
        calls = [c for t in record["turns"] for c in t["calls"] if c["purpose"] == "reply"]
        of_g = [c for c in calls if c["role"] == "G"]
        assert all(c["engine"] is not None and c["queue_s"] >= 0 for c in of_g)
        assert of_g[0]["cached"] == 0
        assert record["memory"] is not None
        assert record["memory"]["adapters"] == served.adapted[0].adapter.nbytes
        assert record["memory"]["weights"]["G-training"] == record["memory"]["weights"]["G"]


def test_each_session_s_replies_come_from_its_own_adapter(
    served: Served, engine: Any, local: Any
) -> None:
    """Served anew with the adapter, alone or in transformers, they are the same; without, not."""

    async def again(model: Any, *, adapted: bool) -> list[tuple[int, ...]]:
        replies = []
        for call in calls:
            adapter = call.adapter if adapted else None
            done = await model.generate(call.ids, call.sampling, adapter, Scope("again"))
            replies.append(done.output_ids)
        await model.release("again")
        return replies

    # The last request with each version.
    calls = list({id(call.adapter): call for call in served.adapted}.values())
    replies = [call.done.output_ids for call in calls]
    assert asyncio.run(again(engine, adapted=True)) == replies
    assert asyncio.run(again(local, adapted=True)) == replies
    without = asyncio.run(again(engine, adapted=False))
    sessions = [call.scope.session for call in calls]
    changed = {s for s, a, b in zip(sessions, replies, without, strict=True) if a != b}
    assert changed == set(sessions)


def test_nothing_of_them_stays_loaded(served: Served, engine: Any) -> None:
    assert asyncio.run(loaded(engine)) == []
    assert list((engine._home / "adapters").iterdir()) == []
    assert not any(engine.holds(call.adapter) for call in served.adapted)
