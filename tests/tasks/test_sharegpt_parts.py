"""ShareGPT's split conversations: which records are parts of which, in whatever order they come."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks import _sharegpt_parts
from tasks.sharegpt import Sharegpt
from tests.tasks.sharegpt_records import read, record, written

Outcome = tuple[dict[str, tuple[str, ...]], list[tuple[str, str]]]
"""The turns of each session by its id; reason and detail of each drop."""


def outcome(folder: Path, *records: Any) -> Outcome:
    """The turns of each session by its id; reason and detail of each drop."""
    sessions, drops = read(written(folder, records))
    return {s.id: s.turns for s in sessions}, [(d.reason, d.detail) for d in drops]


@pytest.mark.parametrize("unpacked", [0, 50, 1 << 20])
def test_parts_in_any_order_give_the_conversation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: int
) -> None:
    """Split at random places, abutting or with one message twice, and shuffled in two files."""
    pack = Mock(wraps=_sharegpt_parts._pack)
    monkeypatch.setattr(_sharegpt_parts, "_UNPACKED", unpacked)
    monkeypatch.setattr(_sharegpt_parts, "_pack", pack)
    rng = random.Random(unpacked)
    chats, records = {}, []
    for number in range(30):
        messages = [f'{"hg"[i % 2]} {number}/{i} 三\n🚀 "x"' for i in range(rng.randint(1, 20))]
        starts = sorted({0, *rng.choices(range(len(messages)), k=rng.randint(0, 4))})
        for start, end in zip(starts, [*starts[1:], len(messages)], strict=True):
            last = min(end + rng.randint(0, 1), len(messages))
            records.append(record(f"chat{number}_{start}", *messages[start:last]))
        chats[f"chat{number}_0"] = tuple(m[2:] for m in messages[::2])
    rng.shuffle(records)
    files = [written(tmp_path, records[:40], "a.json"), written(tmp_path, records[40:], "b.json")]
    items = list(Sharegpt().read(files))
    found = {item.id: item.turns for item in items if isinstance(item, Session)}
    assert found == chats
    assert pack.called == (unpacked < 1 << 20)
    # A last part of one message that the part before it has too says nothing new.
    assert {i.reason for i in items if isinstance(i, Drop)} <= {"duplicate_part"}


@pytest.mark.parametrize(
    ("records", "sessions", "drops"),
    [
        pytest.param(
            [record("a_0", "h 0", "g 1", "h 2"), record("a_2", "h other", "g 3")],
            {"a_0": ("0", "2"), "a_2": ("other",)},
            [],
            id="other message at one place, both begin as a whole: two conversations",
        ),
        pytest.param(
            [record("a_0", "h 0", "g 1"), record("a_1", "g other", "h 2")],
            {"a_0": ("0",)},
            [("conflicting_part", "a_1")],
            id="other message at one place, one begins midway: a false part",
        ),
        pytest.param(
            [record("a_0", "h 0", "g 1", "h 2"), record("a_1", "g 1", "h 2", "g 3", "h 4")],
            {"a_0": ("0", "2", "4")},
            [],
            id="two messages in common",
        ),
        pytest.param(
            [record("a_0", "h 0", "g 1", "h 2"), record("a_1", "g 1")],
            {"a_0": ("0", "2")},
            [("duplicate_part", "a_1")],
            id="a part inside another",
        ),
        pytest.param(
            [
                record("a_0", "h 0", "g 1"),
                record("a_1", "g x", "h y", "g z"),
                record("a_1", "g 1", "h 2"),
            ],
            {"a_0": ("0", "2")},
            [("conflicting_part", "a_1")],
            id="of two parts with one index the one that fits",
        ),
        pytest.param(
            [record("a_0", "h 0", "g 1"), record("a_0", "h x", "g y", "h z")],
            {"a_0": ("x", "z")},
            [("conflicting_part", "a_0")],
            id="of two whole ones with one id the longer",
        ),
        pytest.param(
            [
                record("a_2", "h 2"),
                record("a_0", "h 0", "g 1"),
                record("a_4", "h 4"),
                record("a_5", "g 5"),
            ],
            {"a_0": ("0", "2")},
            [("missing_part", "a_4"), ("missing_part", "a_5")],
            id="what comes behind a gap",
        ),
        pytest.param(
            [record("a", "h 0", "g 1"), record("a_0", "h x", "g 1"), record("a_2", "h 2")],
            {"a": ("0",), "a_0": ("x", "2")},
            [],
            id="an id without a number has no parts",
        ),
        pytest.param(
            [record("x_01", "h 0"), record("x_1680000000000", "h 1"), record("y_z_0", "h 2")],
            {"x_01": ("0",), "x_1680000000000": ("1",), "y_z_0": ("2",)},
            [],
            id="numbers that are no indices",
        ),
        pytest.param(
            [record("a_0", "s S", "h 0", "g 1"), record("a_3", "h 2", "s T", "g 3")],
            {"a_0": ("0", "2")},
            [],
            id="a system message is a message of the part",
        ),
        pytest.param(
            [record("a_0", "h 0", "g 1"), record("b_0", "h 0", "g 1"), record("b_2", "h 2")],
            {"a_0": ("0",), "b_0": ("0", "2")},
            [],
            id="the beginning of another conversation is not the same conversation",
        ),
        pytest.param(
            [record("a_0", "h 0", "g 1"), record("b_0", "h 0"), record("b_1", "g 1")],
            {"a_0": ("0",)},
            [("duplicate_session", "b_0")],
            id="the same conversation, once in parts",
        ),
        pytest.param(
            [
                record("a_0", "h half of a pair: \ud83d"),
                record("b_0", "h 0", "g 1"),
                record("b_2", "h \ud83d"),
            ],
            {},
            [("broken_characters", "a_0"), ("broken_characters", "b_0")],
            id="broken characters",
        ),
        pytest.param(
            [record("\ud83d_0", "h 0")], {}, [("broken_characters", "?_0")], id="broken id"
        ),
    ],
)
def test_which_records_are_parts_of_which(
    tmp_path: Path,
    records: list[Any],
    sessions: dict[str, tuple[str, ...]],
    drops: list[tuple[str, str]],
) -> None:
    assert outcome(tmp_path, *records) == (sessions, drops)


def test_empty_messages_of_a_message_that_is_in_two_parts_count_once(tmp_path: Path) -> None:
    parts = [record("a_0", "h 0", "g  "), record("a_1", "g ", "h 2", "g 3")]
    ((session,), drops) = read(file := written(tmp_path, parts))
    assert session.turns == ("0\n2",)
    assert [(d.reason, d.place) for d in drops] == [("empty_message", f"{file}:2")]


def test_files_that_change_between_the_passes(tmp_path: Path) -> None:
    parts = [record("a_0", "h 0"), record("b_0", "h 1"), record("b_1", "g 2")]
    for second in (parts[1:2], [*parts[1:], record("c_0", "h 3")]):
        files = [written(tmp_path, parts[:1], "a.json"), written(tmp_path, parts[1:], "b.json")]
        items = Sharegpt().read(files)
        next(items)
        written(tmp_path, second, "b.json")
        with pytest.raises(UserError, match="changed while they were read"):
            list(items)
