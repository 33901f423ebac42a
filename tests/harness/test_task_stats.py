"""What is counted of a task's data, against counts made by hand, and in one pass."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Iterator, Sequence
from types import MappingProxyType

import pytest

from harness.errors import UserError
from harness.report.figures.style import styled
from harness.report.figures.turn_lengths import draw_turn_lengths, shown_turns
from harness.report.render_csv import to_csv
from harness.report.tables_task import task_tables, turns_table
from harness.session import Session
from harness.session_hash import sessions_digest
from harness.task import Drop, TaskCard
from harness.task_stats import TaskStats, measure, median

CARD = TaskCard("Title", "MIT", "en", "here", "none", 5, None, 3)

ITEMS: tuple[Session | Drop, ...] = (
    Session("a", "t", ("one two", "three"), gold=("1", None), language="en", system="Be brief."),
    Drop("empty_message", "f.json:3", "a"),
    Session("b", "t", ("x",), references=("y",), reference_kind="human", language="de"),
    Drop("no_user_turn", "f.json:9"),
    Drop("empty_message", "f.json:10", "c"),
    Session("c", "t", ("a b c", "d", "e", "f", "g g g"), language="en"),
    Session("d", "t", tuple("abcd"), references=(None, "r", "r", None), reference_kind="model"),
)  # fmt: skip


def words(texts: Sequence[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def measured(warm_turns: int = 3, tokens: bool = True) -> TaskStats:
    count = words if tokens else None
    return measure(ITEMS, warm_turns=warm_turns, count_tokens=count, place="task t")


def test_what_is_counted() -> None:
    stats = measured()
    assert (stats.sessions, stats.user_turns) == (4, 2 + 1 + 5 + 4)
    assert (stats.with_system, stats.with_reference, stats.with_gold) == (1, 3, 1)
    assert list(stats.languages.items()) == [("en", 3), ("de", 1)]
    assert list(stats.dropped.items()) == [("empty_message", 2), ("no_user_turn", 1)]
    assert stats.lengths == {1: 1, 2: 1, 4: 1, 5: 1}
    assert [(t.index, t.sessions, t.ending) for t in stats.by_turn] == [
        (1, 4, 1), (2, 3, 1), (3, 2, 0), (4, 2, 1), (5, 1, 1),
    ]  # fmt: skip
    # Turn 1: "one two", "x", "a b c", "a": 2 + 1 + 3 + 1 words, 7 + 1 + 5 + 1 characters.
    assert [t.tokens for t in stats.by_turn] == [7 / 4, 1, 1, 1, 3]
    assert [t.characters for t in stats.by_turn] == [14 / 4, 7 / 3, 1, 1, 5]


@pytest.mark.parametrize(("warm_turns", "never"), [(0, 1), (1, 2), (2, 2), (3, 3), (4, 4)])
def test_never_switchable_is_fewer_than_two_turns_more_than_w(warm_turns: int, never: int) -> None:
    stats = measured(warm_turns)
    assert stats.never_switchable == never
    assert stats.never_switchable_share == never / 4


def test_tokens_are_counted_only_when_asked() -> None:
    assert {turn.tokens for turn in measured(tokens=False).by_turn} == {None}


def test_the_last_batch_of_tokens_counts_and_none_is_large() -> None:
    sizes = []

    def count(texts: Sequence[str]) -> list[int]:
        sizes.append(len(texts))
        return words(texts)

    many = (Session(f"s{n}", "t", ("a b", "c")) for n in range(3001))
    stats = measure(many, warm_turns=3, count_tokens=count, place="t")
    assert [turn.tokens for turn in stats.by_turn] == [2, 1]
    assert sum(sizes) == 6002
    assert max(sizes) <= 1024 + 2
    sizes.clear()
    long = (Session(f"s{n}", "t", ("x" * 300_000,)) for n in range(20))
    measure(long, warm_turns=3, count_tokens=count, place="t")
    assert max(sizes) <= 4


def test_no_session_is_held() -> None:
    alive: set[int] = set()
    most = 0

    def sessions() -> Iterator[Session]:
        nonlocal most
        for number in range(500):
            session = Session(f"s{number}", "t", ("a", "b"))
            alive.add(number)
            weakref.finalize(session, alive.discard, number)
            most = max(most, len(alive))
            yield session
            del session

    measure(sessions(), warm_turns=3, count_tokens=words, place="t")
    assert 1 <= most <= 3


def test_nothing_at_all_is_counted_as_nothing() -> None:
    stats = measure((), warm_turns=3, count_tokens=words, place="t")
    assert (stats.sessions, stats.by_turn, stats.never_switchable_share) == (0, (), None)
    overview, turns, *_ = task_tables(stats, CARD)
    assert turns.rows == ()
    assert overview.rows[0] == {"what": "sessions", "value": 0, "expected": 5}


def test_what_no_run_would_take_is_an_error() -> None:
    with pytest.raises(UserError, match="task t: has two sessions 'a'"):
        measure((ITEMS[0], ITEMS[0]), warm_turns=3, count_tokens=None, place="task t")
    with pytest.raises(UserError, match="task t: session 'e' has no user turns"):
        measure((Session("e", "t", ()),), warm_turns=3, count_tokens=None, place="task t")


@pytest.mark.parametrize(
    ("lengths", "expected"), [({}, None), ({3: 1}, 3), ({1: 1, 2: 1}, 1.5), ({1: 2, 9: 1}, 1)]
)
def test_median(lengths: dict[int, int], expected: float | None) -> None:
    assert median(lengths) == expected


def test_the_hash_is_of_one_json_line_per_session() -> None:
    session = Session(
        "a", "t", ("Grüße", "b"), source=MappingProxyType({"file": "f"}), metadata={"z": 1, "b": []}
    )
    line = {
        "id": "a", "task": "t", "turns": ["Grüße", "b"], "references": None, "gold": None,
        "reference_kind": None, "system": None, "language": "en", "license": "unknown",
        "source": {"file": "f"}, "metadata": {"b": [], "z": 1},
    }  # fmt: skip
    text = json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n"
    assert sessions_digest([session]) == hashlib.sha256(text.encode()).hexdigest()
    twice = hashlib.sha256(text.encode() * 2).hexdigest()
    assert sessions_digest(iter([session, session])) == twice


def test_the_hash_tells_any_change() -> None:
    sessions = [item for item in ITEMS if isinstance(item, Session)]
    assert measured().sha256 == sessions_digest(sessions)
    changed = [
        sessions[::-1],
        sessions[:-1],
        [*sessions[:-1], Session("d", "t", ("a", "b", "c", "D"))],
        [],
    ]
    assert len({sessions_digest(s) for s in [*changed, sessions]}) == 5


def test_tables() -> None:
    overview, turns, languages, dropped = task_tables(measured(), CARD, "By words.")
    shown = {row[0]: row[1:] for row in overview.cells()}
    assert shown["sessions"] == ["4", "5"]
    assert shown["user turns"] == ["12", "–"]
    assert shown["turns per session, mean"] == ["3", "–"]
    assert shown["turns per session, median"] == ["3", "–"]
    assert shown["never switchable"] == ["3", "–"]
    assert shown["never switchable (%)"] == ["75", "–"]
    assert "W + 2 = 5 user turns" in overview.caption
    assert to_csv(turns).splitlines()[:2] == [
        "turn,sessions,share (%),ending,tokens (mean),characters (mean)",
        "1,4,100,1,1.75,3.5",
    ]
    assert turns.notes == ("By words.",)
    assert languages.cells() == [["en", "3", "75.0"], ["de", "1", "25.0"]]
    assert dropped.cells() == [["empty_message", "2"], ["no_user_turn", "1"]]


def test_a_short_table_says_what_it_leaves_out() -> None:
    table = turns_table(measured(tokens=False), limit=2)
    assert [column.key for column in table.columns][-2:] == ["ending", "characters"]
    assert len(table.rows) == 2
    assert table.notes == ("3 later turn indices, up to 5, are not shown",)


def bars(axes) -> list[list[float]]:
    return [[bar.get_height() for bar in group] for group in axes.containers]


def test_the_figure_shows_lengths_and_how_many_sessions_reach_a_turn() -> None:
    with styled():
        figure = draw_turn_lengths(measured(warm_turns=3), "Title")
        figure.canvas.draw()
    lengths, reach = figure.axes
    assert bars(lengths) == [[1.75, 1, 1, 1, 3]]
    assert lengths.get_ylabel() == "Tokens per turn"
    assert bars(reach) == [[4, 3, 2, 2, 1], [1, 1, 1]]
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    assert figure.legends[0].get_title().get_text() == "4 sessions, 12 user turns"
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert labels == {"default warm turns, W = 3", "end here, never switchable"}


def test_the_figure_without_tokens_and_of_nothing() -> None:
    with styled():
        figure = draw_turn_lengths(measured(tokens=False), "Title")
        empty = draw_turn_lengths(
            measure((), warm_turns=3, count_tokens=None, place="t"), "A long title " * 12
        )
        empty.canvas.draw()
    assert figure.axes[0].get_ylabel() == "Characters per turn"
    assert [text.get_text() for text in empty.axes[0].texts] == ["no sessions"]
    title = empty._suptitle.get_window_extent()  # type: ignore[attr-defined]
    assert title.x0 >= 0
    assert title.x1 <= empty.bbox.width


def test_the_figure_cuts_a_tail_that_few_sessions_reach() -> None:
    sessions = [Session(f"s{n}", "t", ("a",) * (3 if n else 200)) for n in range(150)]
    stats = measure(sessions, warm_turns=3, count_tokens=words, place="t")
    assert [turn.index for turn in shown_turns(stats)] == [1, 2, 3]
    with styled():
        figure = draw_turn_lengths(stats, "Title")
    setting = figure.legends[0].get_title().get_text()
    assert setting == "150 sessions, 647 user turns; turn indices above 3, up to 200, are not shown"
