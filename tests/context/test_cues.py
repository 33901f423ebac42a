"""Words that point back, beginnings that go on, turns too short to stand alone."""

from __future__ import annotations

import pytest

from harness.context.cues import cues


@pytest.mark.parametrize(
    ("turn", "language", "expected"),
    [
        ("Rewrite your previous response in the style of a pirate song.", "en", ("word",)),
        ("Is the second one cheaper than a train ticket to Lyon?", "en", ("word",)),
        ("And for six people coming from the north of Spain?", "en", ("beginning",)),
        ("Why?", "en", ("beginning", "ellipsis")),
        ("Thirty euros.", "en", ("ellipsis",)),
        ("Name the capital of the largest country in South America.", "en", ()),
        ("IT IS RAINING IN PARIS EVERY DAY OF NOVEMBER", "en", ("word",)),
        ("Italy has twenty regions; name three of Italy's northern regions.", "en", ()),
        ("那孩子发烧三天了应该吃什么药比较好", "zh", ("word",)),
        ("头疼。", "zh", ("ellipsis",)),
        ("请问高血压患者早上应该吃什么药", "zh", ()),
        ("Y luego, para seis personas, cuánto costaría el tren?", "es", ()),
        ("¿Por qué?", "es", ("ellipsis",)),
        ("And then what happens to the rest of them?", "en-GB", ("word", "beginning")),
    ],
)
def test_cues(turn: str, language: str, expected: tuple[str, ...]) -> None:
    assert cues(turn, language) == expected
