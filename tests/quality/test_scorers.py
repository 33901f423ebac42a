"""Known answers of every scorer, and what they must not do to the machine they run on."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.quality._answer import canonical, final_answer
from harness.quality._words import words
from harness.quality.base import Item, Resources, Unscored
from harness.quality.exact_match import ExactMatch
from harness.quality.repetition import Repetition, repeated_share
from harness.quality.rouge_l import RougeL
from harness.quality.similarity import Similarity
from tests.report.synthetic import encoder_dir

NONE = Resources()


@pytest.mark.parametrize(
    "text, share",
    [
        ("", 0.0),
        ("only three words", 0.0),
        ("one two three four", 0.0),
        ("one two three four one two three four", 1 - 4 / 5),
        ("go go go go go go go", 1 - 1 / 4),
        ("Go, go! GO go. go", 1 - 1 / 2),
    ],
)
def test_repetition(text: str, share: float) -> None:
    assert repeated_share(text) == pytest.approx(share)
    assert Repetition().values([Item("u", text)], NONE) == [pytest.approx(share)]


@pytest.mark.parametrize(
    "reply, reference, f1",
    [
        ("the cat sat", "the cat sat", 1.0),
        ("the cat sat on the mat", "the cat lay on the mat", 5 / 6),
        ("a b", "b a", 0.5),
        ("the cat", "the cat sat down", 2 * 1 * 0.5 / 1.5),
        ("dog", "cat", 0.0),
        ("", "cat", 0.0),
        ("我要水", "我要茶", 2 / 3),
    ],
)
def test_rouge_l(reply: str, reference: str, f1: float) -> None:
    value = RougeL().values([Item("u", reply, reference_reply=reference)], NONE)
    assert value == [pytest.approx(f1, abs=1e-6)]


def test_words_are_those_of_rouge_score() -> None:
    from rouge_score.tokenizers import DefaultTokenizer

    text = "It's 3.5 o'clock -- don't (ever) say snake_case, e.g. A1b2!"
    assert words(text) == DefaultTokenizer().tokenize(text)


@pytest.mark.parametrize(
    "reply, gold, match",
    [
        ("It is 12.", "12", 1.0),
        ("It is 120.", "12", 0.0),
        ("It is 12.", "120", 0.0),
        (r"So \boxed{12}, not 7.", "12", 1.0),
        (r"\boxed{12}", "120", 0.0),
        (r"First \boxed{3}, then \boxed{4}.", "4", 1.0),
        (r"\boxed{5} and \boxed{6", "5", 1.0),
        (r"\boxed{\frac{3}{4}}", "0.75", 1.0),
        ("That makes 3/4 of it.", r"\frac{3}{4}", 1.0),
        ("She pays $1,234.50.", "1234.5", 1.0),
        (r"\boxed{1{,}234}", "1234", 1.0),
        ("It cools to -5 degrees.", "5", 0.0),
        ("It cools to -5 degrees.", "-5", 1.0),
        ("Pages 10-12.", "12", 1.0),
        ("25% of them", "25", 1.0),
        (r"\boxed{2x+2}", "2(x+1)", 1.0),
        (r"\boxed{2x+2}", "2(x+2)", 0.0),
        ("I do not know.", "12", 0.0),
        ("", "12", 0.0),
    ],
)
def test_exact_match(reply: str, gold: str, match: float) -> None:
    assert ExactMatch().values([Item("u", reply, gold=gold)], NONE) == [match]


def test_exact_match_works_outside_the_main_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        item = Item("u", r"\boxed{2x+2}", gold="2(x+1)")
        assert pool.submit(ExactMatch().values, [item], NONE).result() == [1.0]


@pytest.mark.parametrize(
    "text, answer",
    [
        (r"\boxed{a{b}c} 7", "a{b}c"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1", "1"),
        ("room x2 costs 9", "9"),
        ("v1.2", None),
        ("1,234 and 5", "5"),
        ("nothing", None),
    ],
)
def test_final_answer(text: str, answer: str | None) -> None:
    assert final_answer(text) == answer


def test_canonical_number() -> None:
    assert canonical("-$1,200.50") == "-1200.50"
    assert canonical(r"25\%") == "25"
    assert canonical("x + 1") == "x + 1"


def test_similarity_of_meanings() -> None:
    items = [
        Item("u", "The cat sleeps on the sofa.", "The cat sleeps on the sofa."),
        Item("u", "A cat is asleep on the couch.", "The cat sleeps on the sofa."),
        Item("u", "Interest rates rose in March.", "The cat sleeps on the sofa."),
        Item("u", "  ", "The cat sleeps on the sofa."),
    ]
    same, near, far, empty = Similarity().values(items, Resources(encoder_dir()))
    assert same == pytest.approx(1.0, abs=1e-5)
    assert isinstance(near, float)
    assert isinstance(far, float)
    assert 0.7 < near < 1.0
    assert far < 0.3
    assert empty == 0.0


def test_similarity_needs_its_encoder(tmp_path: Path) -> None:
    item = Item("u", "a reply", "a reference")
    with pytest.raises(UserError, match="needs the folder of a sentence encoder"):
        Similarity().values([item], NONE)
    with pytest.raises(UserError, match=r"modules\.json"):
        Similarity().values([item], Resources(tmp_path))


def test_missing_texts_are_unscored_in_place() -> None:
    items = [
        Item("u", "a b", None),
        Item("u", "a b", "a b"),
        Item("u", "a b", " "),
    ]
    assert RougeL().values(items, NONE) == [
        Unscored("no reference reply for this turn"),
        1.0,
        Unscored("the reference reply is empty"),
    ]
    assert ExactMatch().values(items[:1], NONE) == [Unscored("no gold answer for this turn")]


def test_the_metric_interface_gives_the_same_values() -> None:
    result = RougeL().compute(predictions=["a b", "x"], references=["b a", "x"])
    assert result == {"rouge_l": 0.75, "rouge_l_values": [0.5, 1.0]}
    assert Repetition().compute(predictions=["a b c"]) == {
        "repetition": 0.0,
        "repetition_values": [0.0],
    }


def test_a_metric_writes_nothing_to_the_shared_cache(tmp_path: Path) -> None:
    code = (
        "from harness.quality.rouge_l import RougeL\n"
        "print(RougeL().compute(predictions=['a'], references=['a'])['rouge_l'])\n"
    )
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": "", "HOME": str(home), "HF_HOME": str(home / "hf"), "HF_HUB_OFFLINE": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1.0"
    left = [p for p in home.rglob("*") if p.is_file() and "metrics" in p.parts]
    assert left == []


def test_the_interface_imports_nothing_heavy() -> None:
    code = "import sys, harness.quality.base; print('evaluate' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert importlib.util.find_spec("evaluate") is not None
