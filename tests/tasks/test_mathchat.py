"""MathChat follow-up: markers become turns, closing answers become gold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks._answers import checkable
from tasks.mathchat import Mathchat

FIXTURES = Path(__file__).parents[1] / "fixtures" / "mathchat"
FOLLOW_UP = FIXTURES / "follow_up.jsonl"


def split(items) -> tuple[list[Session], list[Drop]]:
    items = list(items)
    return (
        [item for item in items if isinstance(item, Session)],
        [item for item in items if isinstance(item, Drop)],
    )


def test_a_problem_and_its_follow_ups() -> None:
    session = next(Mathchat(path=FOLLOW_UP).sessions())
    assert session.id == "mathchat-0001"
    assert session.turns == (
        "Ola bakes 4 trays of 12 rolls. How many rolls is that?",
        "And with 5 trays?",
        "How long does that take, at 8 minutes a tray?",
    )
    assert session.references == (
        "She bakes 4*12=48 rolls.",
        "That is 5 * 12 = 60 rolls.\n\nSo there are more. The answer is \\ANSWER{60 rolls}.",
        "It takes \\ANSWER{40} minutes. In hours, the answer is \\ANSWER{2/3} hours.",
    )
    assert session.reference_kind == "model"
    assert session.gold == ("48", "60", "2/3")  # without unit; the last of two
    assert session.system is not None
    assert r"\boxed{" in session.system
    assert session.source == {"file": "follow_up.jsonl", "record": 1}


def test_answers_in_other_dress_and_in_prose() -> None:
    _, second, third = split(Mathchat(path=FOLLOW_UP).items())[0]
    assert second.gold == ("48", "1{,}200", "600")  # \boxed{}, and no command but \text{}
    assert third.turns[1:] == ("How long does it take?", "Can it be done in no time?")
    assert third.gold == ("48", None, None)  # two numbers in words; prose


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("6.75 hours", "6.75"),
        (r"170 \text{ miles}", "170"),
        (r"\frac{1}{6} \text{ seconds}", r"\frac{1}{6}"),
        (r"\frac{80!}{64!}", r"\frac{80!}{64!}"),
        (r" \(\textbf{9}\).", "9"),
        (r" \(\text{ANSWER:} 180\).", "180"),
        (" **45**.", "45"),
        (r"\$20", "20"),
        ("33.33%", "33.33%"),
        ("1,200 kg", "1,200"),
        ("-5 degrees", "-5"),
        (r"5 \text{ hours } 20 \text{ minutes}", None),
        ("45,50 cm", None),
        ("5 1/2 hours", None),
        ("7x7", None),
        ("Impossible", None),
        ("$", None),
    ],
)
def test_what_can_be_checked_of_an_answer(answer: str, gold: str | None) -> None:
    assert checkable(answer) == gold


def test_what_is_left_out() -> None:
    sessions, drops = split(Mathchat(path=FOLLOW_UP).items())
    assert [s.id[-4:] for s in sessions] == ["0001", "0002", "0003"]
    assert [(d.reason, d.detail[-4:], d.place.rpartition(":")[2]) for d in drops] == [
        ("preamble", "0002", "2"),  # of a dialogue that is kept
        ("malformed_followup", "0004", "4"),  # one follow-up
        ("malformed_followup", "0005", "5"),  # two questions, then two replies
        ("malformed_followup", "0006", "6"),  # a question without a reply
        ("preamble", "0007", "7"),
        ("malformed_followup", "0007", "7"),  # no marker
        ("empty_message", "0008", "8"),
        ("broken_characters", "0009", "9"),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question": "Q?", "answer": "#### 1"}', "'followup' must be a string, not NoneType"),
        (
            '{"question": "Q?", "answer": 1, "followup": "A:"}',
            "'answer' must be a string, not int",
        ),
        ('{"answer": "#### 1", "followup": "A:"}', "'question' must be a string, not NoneType"),
        ("[1]", "'question' must be a string"),
        ('{"question": "Q?", "answer": "#### 1", "fol', "not valid JSON at column"),
    ],
)
def test_malformed_lines(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "follow_up.jsonl"
    path.write_text(FOLLOW_UP.read_text("utf-8").splitlines()[0] + "\n\n" + line, "utf-8")
    with pytest.raises(UserError) as caught:
        list(Mathchat(path=tmp_path).items())
    assert caught.value.place == f"{path}:3"
    assert problem in caught.value.problem


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "follow_up.jsonl").touch()
    with pytest.raises(UserError, match=r"follow_up\.jsonl: the file is empty"):
        list(Mathchat(path=tmp_path).items())


def test_the_file_is_fetched_at_one_revision() -> None:
    (file,) = Mathchat.remote
    assert "/f9d899866bd9146b0a2d91ff8362b4440c19adb0/MathChat%20Benchmark/" in file.url


def test_every_session_can_show_a_switch() -> None:
    assert all(
        len(s.turns) >= Mathchat.card.default_warm_turns + 2
        for s in Mathchat(path=FOLLOW_UP).sessions()
    )


def test_the_real_sample(real_sample: Callable[[str], Path]) -> None:
    """Counted without the loader.

    Records: `grep -c .` 126. `A:` and `B:` at the beginning of a line of a follow-up: 252 each by
    `grep -o`, in the order ABAB in every record. No gold, read by eye: answers in hours and minutes
    (record 29, both), with a remainder (82 and 109, one each), "7x7" (86), and two persons' shares
    (106): 6 of 378.
    """
    path = real_sample("math/mathchat_follow_up.head.jsonl")
    sessions, drops = split(Mathchat(path=path).items())
    assert drops == []
    assert len(sessions) == 126
    assert sum(len(s.turns) for s in sessions) == 126 + 252
    assert all(None not in (s.references or (None,)) for s in sessions)
    without = [
        (s.source["record"], turn)
        for s in sessions
        for turn, gold in enumerate(s.gold or (), start=1)
        if gold is None
    ]
    assert without == [(29, 2), (29, 3), (82, 2), (86, 2), (106, 2), (109, 3)]
    golds = {s.source["record"]: s.gold for s in sessions}
    assert golds[23] == ("7", "14", "42")  # \(\text{14}\)
    assert golds[96] == ("40", "16", r"\frac{80!}{64!}")
    assert golds[121] == ("240", "180", "12")  # \(\text{ANSWER:} 180\)
    assert golds[124] == ("50", "55", "8")  # three marked answers in one reply


def accepted(path: Path) -> list[float]:
    """What the scorer says of each gold answer as a boxed reply."""
    from harness.quality.base import Resources
    from harness.quality.exact_match import ExactMatch

    golds = [gold for s in Mathchat(path=path).sessions() for gold in s.gold or () if gold]
    replies = [rf"So it is \boxed{{{gold}}}." for gold in golds]
    return ExactMatch().score_texts(replies, golds, Resources())


def test_every_gold_answer_is_one_that_the_scorer_accepts() -> None:
    assert accepted(FIXTURES) == [1.0] * 7


def test_every_gold_answer_of_the_sample_too(real_sample: Callable[[str], Path]) -> None:
    assert accepted(real_sample("math/mathchat_follow_up.head.jsonl")) == [1.0] * 372
