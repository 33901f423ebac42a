"""The bundled tasks: what their cards, docs and schema promise about the data."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from statistics import mean

import pytest

from harness.errors import UserError
from harness.task import Task
from tasks.jsonl import Jsonl
from tasks.maths import Maths
from tasks.negotiation import Negotiation
from tasks.planning import Planning
from tasks.roleplay import Roleplay

ROOT = Path(__file__).parents[2]
BUNDLED: dict[str, type[Task]] = {
    "planning": Planning,
    "negotiation": Negotiation,
    "roleplay": Roleplay,
    "maths": Maths,
}
each_task = pytest.mark.parametrize("name", BUNDLED)


def sessions_of(name: str):
    return list(BUNDLED[name]().sessions())


@each_task
def test_the_card_counts_what_is_there(name: str) -> None:
    sessions = sessions_of(name)
    card = BUNDLED[name].card
    assert card.sessions == len(sessions) >= 10
    assert card.user_turns == sum(len(s.turns) for s in sessions)
    assert {s.license for s in sessions} == {card.license}
    assert {s.language for s in sessions} == {card.language}


@each_task
def test_every_session_can_switch_after_the_default_warm_turns(name: str) -> None:
    warm = BUNDLED[name].card.default_warm_turns
    for session in sessions_of(name):
        assert 8 <= len(session.turns) <= 14
        assert len(session.turns) >= warm + 2
        assert session.task == name and session.id.startswith(f"{name}-")


@each_task
def test_early_turns_are_long_and_later_ones_short(name: str) -> None:
    for session in sessions_of(name):
        words = [len(turn.split()) for turn in session.turns]
        assert all(60 <= n <= 120 for n in words[:2]), session.id
        assert all(n <= 20 for n in words[2:]), session.id
        assert 4 <= mean(words[2:]) <= 15, session.id
        assert sum(words) <= 450, session.id


@each_task
def test_nothing_is_there_twice(name: str) -> None:
    sessions = sessions_of(name)
    turns = Counter(turn for session in sessions for turn in session.turns)
    assert [turn for turn, times in turns.items() if times > 1] == []


@each_task
def test_openings_share_no_phrases(name: str) -> None:
    """Sessions are written one by one: no two openings have eight words in a row in common."""
    openings = {session.id: _runs(" ".join(session.turns[:2]), 8) for session in sessions_of(name)}
    for one, other in combinations(openings, 2):
        assert not openings[one] & openings[other], (one, other)


@each_task
def test_the_first_three_sessions_are_short_and_differ(name: str) -> None:
    first = sessions_of(name)[:3]
    assert all(len(session.turns) <= 9 for session in first)
    kinds = {str(s.metadata.get("scenario") or s.metadata.get("item") or s.id) for s in first}
    assert len(kinds) == 3


def test_negotiations_keep_their_numbers_private_and_solvable() -> None:
    sides: Counter[str] = Counter()
    for session in sessions_of("negotiation"):
        facts = session.metadata
        target, limit, theirs = facts["target"], facts["limit"], facts["user_target"]
        seller = limit < target
        assert target != limit
        # A deal is possible: the user's hope lies within a tenth of what the model may accept.
        assert theirs >= limit * 0.9 if seller else theirs <= limit * 1.1
        sides["seller" if seller else "buyer"] += 1
        assert session.system is not None
        for value in (target, limit):
            assert any(form in session.system for form in _spellings(value)), session.id
        assert facts["model_side"] and facts["item"] and facts["unit"] and facts["per"]
    assert min(sides.values()) >= 4


def test_role_plays_have_several_characters_and_name_who_the_model_is() -> None:
    for session in sessions_of("roleplay"):
        characters = session.metadata["characters"]
        assert len(characters) >= 3
        assert session.system is not None
        assert "You play" in session.system
        others = [name for name in characters if name != session.metadata["plays"]]
        text = " ".join(session.turns) + session.system
        assert sum(name.lower() in text.lower() for name in others) >= 2, session.id


def test_importing_the_tasks_is_light() -> None:
    heavy = ["torch", "transformers", "datasets", "pandas", "evaluate", "matplotlib"]
    modules = ", ".join(f"tasks.{name}" for name in [*BUNDLED, "jsonl", "make_maths"])
    code = f"import sys, {modules}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_users_file_is_a_task(tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text('{"id": "a", "turns": ["Hello", "And then?"]}\n', encoding="utf-8")
    (session,) = Jsonl(path=file).sessions()
    assert (session.id, session.task, session.turns) == ("a", "jsonl", ("Hello", "And then?"))
    with pytest.raises(UserError, match="cannot be read"):
        list(Jsonl(path=tmp_path / "other.jsonl").sessions())


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


def _spellings(value: float) -> set[str]:
    """As written in a prompt: 41,000 for 41000, 19.50 for 19.5, 26 (cents) for 0.26."""
    return {f"{value:,}", f"{value}", f"{value:.2f}", f"{round(value * 100)}"}
