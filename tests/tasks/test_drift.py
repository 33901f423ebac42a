"""Planted drift: what is spliced where, the same every time, from any task."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from harness.errors import UserError
from harness.session import Session
from tasks._splice import LEAST_AFTER, control_of, partners, splice
from tasks.drift import Drift
from tasks.maths import Maths
from tasks.negotiation import Negotiation
from tasks.planning import Planning


def spliced_of(task: Drift) -> list[Session]:
    return [s for s in task.sessions() if s.metadata["shift_turn"] is not None]


def shifts(task: Drift) -> list[int]:
    return [s.metadata["shift_turn"] for s in spliced_of(task)]


def write(path: Path, *lines: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def dialogue(name: str, turns: int, **more: Any) -> dict[str, Any]:
    return {"id": name, "turns": [f"{name} asks {i}" for i in range(1, turns + 1)], **more}


def test_a_session_is_one_up_to_the_shift_and_another_from_its_beginning() -> None:
    by_id = {s.id: s for s in Planning().sessions()}
    found = spliced_of(Drift())
    assert len(found) == len(by_id)
    for session in found:
        first, second = (by_id[name] for name in session.metadata["spliced_from"])
        assert first is not second
        assert session.id == f"drift-{first.id}-{second.id}"
        before = session.metadata["shift_turn"] - 1
        assert session.turns[:before] == first.turns[:before]
        rest = session.turns[before:]
        assert rest == second.turns[: len(rest)]
        assert len(session.turns) == min(len(first.turns), before + len(second.turns))
        assert session.system == first.system
        assert (session.task, session.license, session.language) == ("drift", "MIT", "en")


def test_every_session_comes_once_as_each_half() -> None:
    halves = [s.metadata["spliced_from"] for s in spliced_of(Drift())]
    ids = {s.id for s in Planning().sessions()}
    assert [first for first, _ in halves] == [s.id for s in Planning().sessions()]
    assert {second for _, second in halves} == ids


def test_the_shift_leaves_room_on_both_sides() -> None:
    for session in spliced_of(Drift()):
        shift = session.metadata["shift_turn"]
        assert shift >= Planning.card.default_warm_turns + 3
        assert len(session.turns) - shift + 1 >= LEAST_AFTER
    assert min(shifts(Drift(source="maths"))) >= Maths.card.default_warm_turns + 3
    assert len(set(shifts(Drift()))) > 2


def test_controls_follow_their_spliced_sessions() -> None:
    sessions = list(Drift().sessions())
    by_id = {s.id: s for s in Planning().sessions()}
    for spliced, control in zip(sessions[::2], sessions[1::2], strict=True):
        first = by_id[spliced.metadata["spliced_from"][0]]
        assert control.id == f"control-{first.id}"
        assert control.turns == first.turns[: len(spliced.turns)]
        assert len(control.turns) == len(spliced.turns)
        assert (control.task, control.system) == ("drift", first.system)
        assert control.metadata == {
            "shift_turn": None,
            "control_of": spliced.id,
            "compare_from": spliced.metadata["shift_turn"],
        }
    assert [s.id for s in Drift(controls=False).sessions()] == [s.id for s in sessions[::2]]


def test_the_seed_decides() -> None:
    assert list(Drift(seed=3).sessions()) == list(Drift(seed=3).sessions())
    one, other = spliced_of(Drift(seed=3)), spliced_of(Drift(seed=4))
    assert [s.metadata["spliced_from"] for s in one] != [s.metadata["spliced_from"] for s in other]
    assert shifts(Drift(seed=3)) != shifts(Drift(seed=4))


def test_a_given_shift_and_a_given_earliest() -> None:
    assert set(shifts(Drift(shift_turn=5))) == {5}
    assert len(spliced_of(Drift(shift_turn=5))) == 12
    assert min(shifts(Drift(earliest=2))) < Planning.card.default_warm_turns + 3
    long_ones = [s for s in Planning().sessions() if len(s.turns) >= 11]
    assert len(spliced_of(Drift(earliest=9))) == len(long_ones) < 12
    assert min(shifts(Drift(earliest=9))) >= 9


def test_the_second_halves_may_be_another_task() -> None:
    mine = {s.id for s in Planning().sessions()}
    theirs = {s.id for s in Negotiation().sessions()}
    task = Drift(other="negotiation")
    for session in spliced_of(task):
        first, second = session.metadata["spliced_from"]
        assert first in mine and second in theirs
    assert list(Drift(other="planning").sessions()) == list(Drift().sessions())


def test_gold_goes_with_its_turn() -> None:
    gold = {s.id: s.gold for s in Maths().sessions()}
    for session in spliced_of(Drift(source="maths")):
        first, second = (gold[name] for name in session.metadata["spliced_from"])
        assert first is not None and second is not None
        before = session.metadata["shift_turn"] - 1
        assert session.gold == first[:before] + second[: len(session.turns) - before]
    controls = list(Drift(source="maths").sessions())[1::2]
    assert all(s.gold and len(s.gold) == len(s.turns) for s in controls)
    assert all(s.gold is None for s in spliced_of(Drift(source="maths", other="planning")))


def test_a_short_second_half_ends_the_session_and_its_control(tmp_path: Path) -> None:
    file = write(tmp_path / "short.jsonl", dialogue("stub", 3, language="zh", license="other"))
    task = Drift(other="jsonl", other_args={"path": str(file)}, shift_turn=4)
    sessions = list(task.sessions())
    assert {len(s.turns) for s in sessions} == {6}
    assert sessions[0].turns[3:] == ("stub asks 1", "stub asks 2", "stub asks 3")
    assert (sessions[0].language, sessions[0].license) == ("en and zh", "MIT and other")
    assert (sessions[1].language, sessions[1].license) == ("en", "MIT")


def test_references_are_kept_where_both_have_them_of_one_kind() -> None:
    def session(name: str, kind: Any, given: bool = True) -> Session:
        turns = tuple(f"{name}{i}" for i in range(1, 6))
        references = tuple(f"to {t}" for t in turns) if given else None
        return Session(name, "t", turns, references, kind if given else None)

    human = splice(session("a", "human"), session("b", "human"), 3)
    assert human.references == ("to a1", "to a2", "to b1", "to b2", "to b3")
    assert human.reference_kind == "human"
    for other in (session("b", "model"), session("b", None, given=False)):
        mixed = splice(session("a", "human"), other, 3)
        assert mixed.references is None and mixed.reference_kind is None
        control = control_of(session("a", "human"), mixed)
        assert control.references == session("a", "human").references


@given(st.integers(2, 20), st.integers(0, 1000))
def test_nobody_follows_himself(count: int, seed: int) -> None:
    sessions = [Session(str(i), "t", ("hello",)) for i in range(count)]
    pairs = partners(sessions, None, seed)
    assert [first.id for first, _ in pairs] == [s.id for s in sessions]
    assert sorted(second.id for _, second in pairs) == sorted(s.id for s in sessions)
    assert all(first is not second for first, second in pairs)
    lone = partners(sessions, sessions[:1], seed)
    assert {second.id for _, second in lone} == {"0"}


def test_two_second_halves_take_turns() -> None:
    sessions = [Session(str(i), "t", ("hello",)) for i in range(6)]
    seconds = [second.id for _, second in partners(sessions, sessions[:2], 0)]
    assert all(one != other for one, other in pairwise(seconds))


def test_too_few_long_sessions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"drift: source = 'planning': 0 of 12 .* 22 user turns"):
        list(Drift(earliest=20).sessions())
    with pytest.raises(UserError, match=r"1 of 12 sessions have 14 .* 2 needed .*lower earliest"):
        list(Drift(shift_turn=12).sessions())
    alone = write(tmp_path / "alone.jsonl", dialogue("a", 9), dialogue("b", 2))
    args = {"path": str(alone)}
    with pytest.raises(UserError, match=r"source = 'jsonl': 1 of 2 sessions .* 2 needed"):
        list(Drift(source="jsonl", source_args=args).sessions())
    assert len(spliced_of(Drift(source="jsonl", source_args=args, other="planning"))) == 1
    stubs = write(tmp_path / "stubs.jsonl", dialogue("a", 2))
    with pytest.raises(UserError, match=r"other = 'jsonl': 0 of 1 sessions have 3 .* 1 needed"):
        list(Drift(other="jsonl", other_args={"path": str(stubs)}).sessions())


@pytest.mark.parametrize(
    "args, message",
    [
        (
            {"source": "planing"},
            r"drift: source: no tasks named 'planing'; did you mean 'planning'",
        ),
        ({"other": "planing"}, r"drift: other: no tasks named 'planing'"),
        ({"source": "jsonl"}, r"drift: source: task jsonl: key 'path' is missing"),
        ({"source": "drift"}, r"drift: source: is spliced itself"),
        ({"source": "jsonl", "source_args": {"path": "/no/such"}}, r"cannot be read"),
    ],
)
def test_a_wrong_source_names_the_argument(args: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(Drift(**args).sessions())


@pytest.mark.parametrize(
    "args, message",
    [
        ({"shift_turn": 1}, "greater than or equal to 2"),
        ({"shift_turn": 5, "earliest": 4}, "give one of them"),
        ({"other_args": {"path": "x"}}, "no use without other"),
    ],
)
def test_arguments_that_make_no_sense(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Drift(**args)
