"""Whole sessions under SOMA on the real pair: gate, drift, rollback, the bill, isolation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engines.load import load_engine
from harness.method import Method
from harness.record import SessionRecord
from harness.serving import EngineSet, serve_session
from harness.session import Session
from harness.spec import GenerationSpec
from harness.store import UnitKey
from soma.methods.history_ft import HistoryFt
from soma.methods.history_prefix import HistoryPrefix
from soma.methods.random_ft import RandomFt
from soma.methods.soma import Soma

SHORT = GenerationSpec(max_new_tokens=10)
QUICK: dict[str, Any] = {
    "warm_turns": 2,
    "prompt_length": 3,
    "candidates": 2,
    "keep": 1,
    "iterations": 1,
    "steps": 3,
    "rank": 4,
    "min_locality": -1.0,
}
TURNS = (
    "I keep bees. Name one flower that they like.",
    "And one that flowers in spring?",
    "How far do bees fly for it?",
    "Do they like clover?",
    "What do they need in winter?",
)


def session(turns: tuple[str, ...] = TURNS, name: str = "s") -> Session:
    return Session(id=name, task="t", turns=turns, system="Answer in one short sentence.")


async def serve_one(
    engines: EngineSet, method: Method, one: Session, folder: Path | None = None, **more: Any
) -> SessionRecord:
    key = UnitKey("m", one.task, one.id, 0)
    return await serve_session(
        key, method, one, engines, SHORT, alone=True, warm_turns=3, run_folder=folder, **more
    )


def serve(engines: EngineSet, method: Method, one: Session | None = None, **more: Any) -> Any:
    return asyncio.run(serve_one(engines, method, one or session(), **more))


def events(record: Any, kind: str) -> list[tuple[int, dict[str, Any]]]:
    return [
        (turn["turn_index"], event["data"])
        for turn in record["turns"]
        for event in turn["events"]
        if event["kind"] == kind
    ]


def who(record: Any) -> str:
    return "".join(turn["served_by"] for turn in record["turns"])


@pytest.fixture(scope="module")
def twins(embedded: EngineSet) -> Iterator[EngineSet]:
    """A pair whose G is F."""
    spec = embedded.pair.F.model_copy(update={"dtype": "float32"})
    same = load_engine(spec, "G", offline=True, batch_size=8)
    yield EngineSet(embedded.pair, embedded.F, same, embedded.encoder)
    asyncio.run(same.close())


@pytest.fixture(scope="module")
def switched(embedded: EngineSet) -> Any:
    """A session that switches after two turns, with a probe at every turn."""
    return serve(embedded, Soma(**QUICK, epsilon=2.0, probe_every=1, drift_threshold=2.0))


def test_the_gate_accepts_when_g_is_f(twins: EngineSet) -> None:
    # One step of almost no size: an adapter that leaves G what it is.
    method = Soma(**{**QUICK, "steps": 1}, learning_rate=1e-9, epsilon=0.01)
    record = serve(twins, method)
    ((turn, gate),) = events(record, "gate")
    assert (turn, gate["accepted"], gate["gap"]) == (3, True, pytest.approx(0.0, abs=1e-6))
    assert who(record) == "FFGGG"


def test_the_gate_refuses_when_f_and_g_disagree(embedded: EngineSet) -> None:
    record = serve(embedded, Soma(**QUICK, epsilon=0.0, holdout_turns=1))
    ((turn, gate),) = events(record, "gate")
    assert (turn, gate["accepted"]) == (3, False)
    assert gate["gap"] > gate["epsilon"] == 0.0
    assert "above epsilon" in gate["reason"]
    assert who(record) == "FFFFF"
    assert [data["stage"] for _, data in events(record, "adapted")] == ["before_gate"]


def test_a_query_far_from_the_warm_start_is_left_to_f(embedded: EngineSet) -> None:
    record = serve(embedded, Soma(**{**QUICK, "min_locality": 1.0}, epsilon=2.0))
    gates = events(record, "gate")
    assert [turn for turn, _ in gates] == [3, 4, 5]
    assert all("below 1.0" in data["reason"] for _, data in gates)
    assert who(record) == "FFFFF"


def test_events_explain_what_happened_with_their_numbers(switched: Any) -> None:
    assert who(switched) == "FFGGG"
    ((turn, mined),) = events(switched, "mined")
    assert turn == 3
    assert len(mined["losses"]) == 2
    assert len(mined["hardness"]) == len(mined["weights"]) == 2
    assert sum(mined["weights"]) == pytest.approx(2.0)
    assert len(mined["trace"]) == 2
    first, second = [data for _, data in events(switched, "adapted")]
    assert (first["stage"], first["cases"], first["mode"]) == ("before_gate", [1], "blocking")
    assert (second["stage"], second["cases"]) == ("all", [1, 2])
    assert first["planned_steps"] + second["planned_steps"] == 3
    assert first["paid_by_turn"] == second["paid_by_turn"] == 3
    checks = events(switched, "drift_check")
    assert [turn for turn, _ in checks] == [3, 4, 5]
    for _, check in checks:
        assert check["probe"] == "scheduled"
        assert 0 <= check["gap"] <= 2
        assert check["failed"] is False
    assert checks[-1][1]["moving_gap"] == pytest.approx(
        sum(check["gap"] for _, check in checks) / 3
    )


def test_the_bill_has_everything_and_adds_up(switched: Any) -> None:
    cost, turns = switched["cost"], switched["turns"]
    calls = [call for turn in turns for call in turn["calls"]]
    purposes = {(call["role"], call["purpose"]) for call in calls}
    assert purposes == {
        ("F", "reply"),
        ("F", "probe"),
        ("G", "reply"),
        ("G", "mining"),
        ("G", "training"),
        ("G", "gate"),
        ("encoder", "embed"),
    }
    for role in ("F", "G", "encoder"):
        for kind in ("prompt", "output", "trained"):
            assert cost["tokens"][role][kind] == sum(c[kind] for c in calls if c["role"] == role)
    mining = [c for c in calls if c["purpose"] == "mining"]
    training = [c for c in calls if c["purpose"] == "training"]
    assert mining[0]["trained"] > 0 < mining[0]["prompt"]
    assert all(c["trained"] > 0 for c in training)
    assert cost["tokens"]["G"]["trained"] == sum(c["trained"] for c in mining + training)
    assert sum(t["busy_s"] for t in turns) == pytest.approx(cost["busy_s"])
    assert sum(t["usd"] for t in turns) == pytest.approx(cost["usd"])
    spans = {s["name"]: s for s in turns[2]["spans"]}
    inner = sum(s["duration_s"] for s in turns[2]["spans"] if s["name"] in PARTS)
    assert inner <= spans["adaptation"]["duration_s"] <= spans["adaptation_wait"]["duration_s"]
    assert turns[2]["timing"]["ttft_s"] > spans["adaptation_wait"]["duration_s"]
    memory = switched["memory"]
    assert memory["adapters"] > 0 < memory["adaptation_peak"]


PARTS = ("mining", "training", "gating")


def test_rollback_fires_on_planted_drift_and_stays_with_f(embedded: EngineSet) -> None:
    drifting = (*TURNS[:3], "Compute 17 times 23.", "Now take 91 from that.", "Is that prime?")
    method = Soma(
        **QUICK, epsilon=2.0, probe_every=1, drift_threshold=0.0, drift_window=1, m_cons=2
    )
    record = serve(embedded, method, session(drifting))
    ((turn, rolled),) = events(record, "rolled_back")
    assert rolled["serves_from"] == turn + 1
    assert rolled["consecutive"] == 2
    assert who(record)[: turn + 1] == "FF" + "G" * (turn - 2) + ("F" if turn < 6 else "")
    assert set(who(record)[turn:]) <= {"F"}
    alarms = [check["alarm"] for _, check in events(record, "drift_check")]
    assert alarms == [False] * (len(alarms) - 1) + [True]


def test_without_rollback_the_monitor_only_records(embedded: EngineSet) -> None:
    method = Soma(
        **QUICK, epsilon=2.0, probe_every=1, drift_threshold=0.0, m_cons=1, rollback=False
    )
    record = serve(embedded, method)
    assert who(record) == "FFGGG"
    assert events(record, "rolled_back") == []
    assert any(check["alarm"] for _, check in events(record, "drift_check"))


def test_the_released_code_rolls_back_on_locality_before_g_answers(embedded: EngineSet) -> None:
    method = Soma(**{**QUICK, "min_locality": 0.999}, fidelity="released", gate=False, m_cons=2)
    record = serve(embedded, method)
    assert who(record) == "FFGFF"
    ((turn, rolled),) = events(record, "rolled_back")
    assert (turn, rolled["serves_from"], rolled["gap"]) == (4, 4, None)
    assert "probe" not in {c["purpose"] for t in record["turns"] for c in t["calls"]}


def test_after_a_rollback_it_may_warm_up_anew(embedded: EngineSet) -> None:
    turns = (*TURNS, "Who eats honey?", "And wax?")
    method = Soma(
        **QUICK,
        epsilon=2.0,
        probe_every=1,
        drift_threshold=0.0,
        m_cons=1,
        after_rollback="rewarm",
    )
    record = serve(embedded, method, session(turns))
    first = events(record, "rolled_back")[0][1]["serves_from"]
    mined = events(record, "mined")
    assert len(mined) == 2
    assert mined[1][1]["turns"] == [first, first + 1]
    assert who(record)[first - 1 : first + 1] == "FF"
    assert who(record)[first + 1] == "G"


def test_in_the_background_f_goes_on_and_thinking_hides_the_work(embedded: EngineSet) -> None:
    method = Soma(**QUICK, epsilon=2.0, adaptation="background", probe_every=10)
    record = serve(embedded, method, think_time_s=8.0)
    assert who(record)[:2] == "FF"
    assert "G" in who(record)
    at = who(record).index("G")
    spans = [s for t in record["turns"][: at + 1] for s in t["spans"]]
    assert not any(s["name"] == "adaptation_wait" for s in spans)
    (adaptation,) = [s for s in spans if s["name"] == "adaptation"]
    assert adaptation["start_s"] < 0
    assert all(d["paid_by_turn"] is None for _, d in events(record, "adapted"))
    assert all(d["mode"] == "background" for _, d in events(record, "adapted"))
    assert record["session_s"] == pytest.approx(
        sum(t["timing"]["turn_s"] for t in record["turns"]), rel=0.05
    )
    assert record["cost"]["busy_s"] > record["session_s"] - record["overhead_s"]


def test_a_background_adaptation_that_nobody_waits_for_is_broken_off(embedded: EngineSet) -> None:
    method = Soma(**{**QUICK, "iterations": 30}, adaptation="background")
    record = serve(embedded, method, session(TURNS[:3]))
    assert record["outcome"] == "scored"
    assert who(record) == "FFF"
    assert record["never_switchable"] is True
    spans = {s["name"] for s in record["turns"][-1]["spans"]}
    assert "adaptation" in spans  # the time it had taken is on the bill
    again = serve(embedded, Soma(**QUICK, gate=False), session(TURNS[:3]))
    assert who(again) == "FFG"


def test_what_fails_in_the_background_fails_the_session(
    embedded: EngineSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> None:
        raise ZeroDivisionError("made to fail")

    monkeypatch.setattr("soma.adaptive.adapt", fail)
    method = Soma(**QUICK, adaptation="background")
    for think_time_s in (0.0, 0.1):  # noticed when the session is closed, and at its next turn
        with pytest.raises(ZeroDivisionError, match="made to fail"):
            serve(embedded, method, session(TURNS[:3]), think_time_s=think_time_s)


def test_sessions_leave_g_as_it_was_and_each_other_alone(embedded: EngineSet) -> None:
    """At concurrency 3 with two adaptations in one run, as alone, and whoever came before."""
    model: Any = embedded.G
    weights = {name: p.clone() for name, p in model.model.named_parameters()}
    crowd = replace(embedded, adapt_concurrency=2, _works={})
    method = Soma(**QUICK, gate=False, probe_every=10)
    sessions = [session((f"I have {n} hens.", *TURNS[1:3]), name=f"s{n}") for n in (3, 14, 15)]

    async def together() -> list[Any]:
        return await asyncio.gather(*[serve_one(crowd, method, one) for one in sessions])

    many = asyncio.run(together())
    for one, company in zip(sessions, many, strict=True):
        alone = serve(embedded, method, one)
        assert [t["reply"] for t in alone["turns"]] == [t["reply"] for t in company["turns"]]
        mine, theirs = (events(r, "adapted")[-1][1] for r in (alone, company))
        assert mine["last_loss"] == pytest.approx(theirs["last_loss"], rel=1e-3)
    assert all(torch.equal(p, weights[n]) for n, p in model.model.named_parameters())


def test_adapters_are_kept_on_request_and_gone_otherwise(
    embedded: EngineSet, tmp_path: Path
) -> None:
    serve(embedded, Soma(**QUICK, gate=False), session(TURNS[:3]), folder=tmp_path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    serve(
        embedded, Soma(**QUICK, gate=False, keep_adapter=True), session(TURNS[:3]), folder=tmp_path
    )
    kept = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert kept == {"unit.json", "adapter_config.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(
    "changes",
    [
        {"mined_cases": "verbalized"},
        {"expectation_weight": 0.0, "anti_degeneration": 0.0},
        {"summary": "G", "summary_tokens": 12, "last_turns": 1},
        {"prompt_style": "bare", "fidelity": "released"},
        {"gate_encoder": "G", "epsilon": 2.0, "gate": True},
    ],
    ids=lambda c: ",".join(map(str, c.values())),
)
def test_every_variant_serves_a_session(embedded: EngineSet, changes: dict[str, Any]) -> None:
    record = serve(embedded, Soma(**{**QUICK, "gate": False, **changes}), session(TURNS[:4]))
    assert record["outcome"] == "scored"
    assert who(record) == "FFGG"
    calls = [(c["role"], c["purpose"]) for t in record["turns"] for c in t["calls"]]
    if changes.get("mined_cases") == "verbalized":
        # Each of the two warm turns under the one kept prompt, before the switch.
        assert [c for c in calls[:8] if c == ("F", "probe")] == [("F", "probe")] * 2
        assert events(record, "adapted")[0][1]["cases"] == [1, 1, 2, 2]
    if changes.get("summary") == "G":
        assert ("G", "summary") in calls


@pytest.mark.parametrize("method", [HistoryPrefix, HistoryFt, RandomFt])
def test_the_plain_ways_to_hand_over(embedded: EngineSet, method: type[Any]) -> None:
    settings = {"warm_turns": 2} | ({"steps": 3, "rank": 4} if method is not HistoryPrefix else {})
    record = serve(embedded, method(**settings))
    assert who(record) == "FFGGG"
    assert [turn for turn, _ in events(record, "switched")] == [3]
    trained = record["cost"]["tokens"]["G"]["trained"]
    assert (trained > 0) is (method is not HistoryPrefix)
    if trained:
        ((_, data),) = events(record, "adapted")
        assert (data["cases"], data["weights"]) == ([1, 2], [1.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"keep": 4}, "more than candidates"),
        ({"warm_turns": 2, "holdout_turns": 2}, "leaves nothing"),
        ({"probe_every": 0}, "without any Gap"),
    ],
)
def test_arguments_that_cannot_go_together_are_refused(
    arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        Soma(**arguments)


def test_a_session_too_short_to_switch_is_known_as_such() -> None:
    assert Soma().switchable(4, 3) is False
    assert Soma().switchable(5, 3) is True
    assert HistoryFt(warm_turns=1).switchable(3, 9) is True
