"""LoRA adapters at a server that loads them while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from harness.engines.ask import ask
from harness.engines.base import Sampling, Scope
from harness.engines.transformers.adapters import LoraAdapter
from harness.errors import BenchError, UserError
from harness.method import user
from tests.openai.backend import Ability
from tests.openai.conftest import engine_at, using
from tests.openai.fault_proxy import Fault

MESSAGES = [user("Name a fruit.")]
GREEDY = Sampling(max_new_tokens=40)


def adapter(rank: int = 4) -> LoraAdapter:
    weights = {"model.layers.0.self_attn.q_proj": (torch.ones(rank, 8), torch.ones(8, rank))}
    return LoraAdapter(rank, 8.0, weights)


def scope(session: str) -> Scope:
    return Scope(session, prefix_cache=True)


def loading_engine(address, **options):
    return engine_at(address, loads_adapters=True, **options)


def test_an_adapter_is_loaded_used_and_forgotten(serve):
    address, backend = serve()
    mine = adapter()

    async def session(engine):
        plain = await ask(engine, MESSAGES, GREEDY, None, scope("a"))
        assert not engine.holds(mine)
        await engine.hold(mine, "a")
        assert engine.holds(mine)
        ((name, folder),) = backend.adapters.items()
        assert sorted(p.name for p in Path(folder).iterdir()) == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]
        adapted = await ask(engine, MESSAGES, GREEDY, mine, scope("a"))
        again = await ask(engine, MESSAGES, GREEDY, None, scope("a"))
        await engine.release("a")
        return name, folder, plain.text, adapted.text, again.text, engine.holds(mine)

    name, folder, plain, adapted, again, held = using(loading_engine(address), session)
    assert plain == again != adapted
    assert [body["model"] for body in backend.asked] == ["words", name, "words"]
    assert (backend.adapters, backend.unloaded, held) == ({}, [name], False)
    assert not Path(folder).exists()


def test_sessions_and_versions_have_names_of_their_own(serve):
    address, backend = serve()
    first, second, other = adapter(), adapter(), adapter()

    async def sessions(engine):
        for version, session in ((first, "a"), (second, "a"), (other, "b")):
            await engine.hold(version, session)
        names = dict(backend.adapters)
        for version in (first, second, other):
            await ask(engine, MESSAGES, GREEDY, version, scope("x"))
        await engine.release("a")
        left = list(backend.adapters)
        with pytest.raises(BenchError, match="was not loaded"):
            await ask(engine, MESSAGES, GREEDY, first, scope("a"))
        await engine.release("b")
        await engine.hold(first, "c")
        return names, left, list(backend.adapters)

    names, left, anew = using(loading_engine(address), sessions)
    assert len(set(names)) == len(set(names.values())) == 3
    assert [body["model"] for body in backend.asked] == list(names)
    assert left == list(names)[2:]
    assert len(anew) == 1 and anew[0] not in names
    assert backend.adapters == {}  # closing the engine forgets what no session released


def test_two_engines_never_use_the_same_name(serve):
    address, backend = serve()
    for _ in range(2):
        using(loading_engine(address), lambda e: e.hold(adapter(), "a"))
    assert len(set(backend.unloaded)) == 2


def test_calls_at_the_same_time_load_an_adapter_once(serve):
    address, backend = serve()
    mine = adapter()

    async def hold_often(engine):
        await asyncio.gather(*(engine.hold(mine, "a") for _ in range(5)))
        return len(backend.adapters)

    assert using(loading_engine(address), hold_often) == 1


@pytest.mark.parametrize(
    "fault", [Fault("http", status=503), Fault("lost")], ids=["refused", "answer-lost"]
)
def test_a_failed_loading_is_made_again_under_another_name_and_told_once(serve, fault):
    def plain(label, attempt):
        return fault if (label, attempt) == ("load_lora_adapter", 1) else None

    address, proxy = serve(plain=plain)
    mine = adapter()

    async def session(engine):
        await engine.hold(mine, "a")
        done = [await ask(engine, MESSAGES, GREEDY, mine, scope("a")) for _ in range(2)]
        await engine.release("a")
        return done

    first, second = using(loading_engine(address), session)
    kind = "disconnect" if fault.kind == "lost" else "http 503"
    assert len(first.failures) == 1
    assert first.failures[0].startswith(f"adapter load: {kind} after 0 chunks")
    assert second.failures == () and first.text == second.text
    assert proxy._tries["load_lora_adapter"] == 2
    assert proxy._tries["unload_lora_adapter"] == 2


def test_what_a_server_has_forgotten_by_itself_is_no_error(serve):
    address, backend = serve()

    async def session(engine):
        await engine.hold(adapter(), "a")
        backend.adapters.clear()
        await engine.release("a")

    using(loading_engine(address), session)
    assert backend.unloaded == []


REFUSALS = {
    "rank": (Ability(adapters=2), {}, "rank 4 is greater than 2"),
    "runtime-loading-off": (Ability(adapters=None), {}, "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"),
    "not-declared": (Ability(), {"loads_adapters": False}, r"options\.loads_adapters = true"),
}


@pytest.mark.parametrize(("ability", "options", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_server_that_does_not_take_an_adapter_is_told_clearly(
    serve, tmp_path, monkeypatch, ability, options, message
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    address, _ = serve(ability)
    mine = adapter()

    async def session(engine):
        with pytest.raises(UserError, match=message):
            await engine.hold(mine, "a")
        assert not engine.holds(mine)

    using(engine_at(address, **{"loads_adapters": True, "attempts": 2, **options}), session)
    assert list(tmp_path.iterdir()) == []
