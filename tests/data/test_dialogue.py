"""From lines to turns, and from turns to a session."""

from __future__ import annotations

from typing import Any

import pytest

from harness.data.dialogue import Exchanges, Line, exchanges, to_session, with_opening
from harness.session import Session
from harness.task import Drop


def said(text: str) -> list[Line]:
    """`u:one|m:uno` as lines."""
    parts = [part.split(":", 1) for part in text.split("|")]
    return [Line("user" if who == "u" else "model", what) for who, what in parts]


@pytest.mark.parametrize(
    ("lines", "turns", "replies", "opening", "empty"),
    [
        ("u:one|m:uno|u:two", ["one", "two"], ["uno", None], None, 0),
        ("u:a|u:b|m:c|m:d|u:e", ["a\nb", "e"], ["c\nd", None], None, 0),
        ("m:hi|m:there|u:one", ["one"], [None], "hi\nthere", 0),
        ("u: a |u:\n|m: |u:b ", ["a\nb"], [None], None, 2),
        ("m:hi", [], [], "hi", 0),
        ("u: ", [], [], None, 1),
    ],
)
def test_lines_in_turns(
    lines: str, turns: list[str], replies: list[str | None], opening: str | None, empty: int
) -> None:
    assert exchanges(said(lines)) == Exchanges(tuple(turns), tuple(replies), opening, empty)


def test_another_joint() -> None:
    assert exchanges(said("u:a|u:b|m:c|m:d"), " / ").turns == ("a / b",)


def session_of(text: str, **more: Any) -> Session | Drop:
    given: dict[str, Any] = {"id": "d", "task": "t", "place": "f:1", "reference_kind": "human"}
    return to_session(exchanges(said(text)), **given | more)


def test_a_session() -> None:
    session = session_of("m:hi|u:one|m:uno", system="Be brief.", language="de", gold=("1",))
    assert isinstance(session, Session)
    assert (session.turns, session.references, session.reference_kind) == (
        ("one",),
        ("uno",),
        "human",
    )
    assert session.system == with_opening("Be brief.", "hi")
    assert session.system is not None and session.system.startswith("Be brief.\n\nYou opened")
    assert (session.language, session.gold) == ("de", ("1",))


def test_without_replies_there_are_no_references() -> None:
    session = session_of("u:one")
    assert isinstance(session, Session)
    assert session.references is None and session.reference_kind is None and session.system is None


def test_without_a_user_turn_there_is_no_session() -> None:
    assert session_of("m:hi") == Drop("no_user_turn", "f:1", "d")


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ("u:\ud83d", {}),
        ("u:one|m:\udc00", {}),
        ("m:\ud83d|u:one", {}),
        ("u:one", {"system": "\ud83d"}),
        ("u:one", {"gold": ("\ud83d",)}),
        ("u:one", {"metadata": {"title": ["\ud83d"]}}),
        ("u:one", {"source": {"url": "\ud83d"}}),
    ],
)
def test_what_no_file_can_hold_is_left_out(lines: str, more: dict[str, Any]) -> None:
    assert session_of(lines, **more) == Drop("broken_characters", "f:1", "d")


def test_an_id_that_no_file_can_hold_is_told_in_a_way_that_can_be_printed() -> None:
    assert session_of("u:one", id="a\ud83d") == Drop("broken_characters", "f:1", "a\\ud83d")
