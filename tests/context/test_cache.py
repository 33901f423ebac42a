"""Scores by content: found again, in another process too, and never for other content."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.context.cache import ScoreCache, content_key
from harness.errors import UserError


def test_what_was_put_is_found_again_by_another_cache(cache: Path) -> None:
    one, other = ScoreCache(cache), ScoreCache(cache)
    key = content_key({"turn": "é", "history": []})
    assert other.get(key) is None
    one.put(key, (1.5, -2.0))
    assert other.get(key) == (1.5, -2.0)
    one.put(key, (3.0,))
    assert other.get(key) == (3.0,)


def test_a_key_is_of_the_content_alone() -> None:
    assert content_key({"a": 1, "b": [2]}) == content_key({"b": [2], "a": 1})
    assert content_key({"a": 1}) != content_key({"a": 2})
    assert content_key({"turn": "a", "reply": None}) != content_key({"turn": "a", "reply": ""})


def test_a_file_that_holds_something_else_is_one_error(cache: Path) -> None:
    cache.write_bytes(b"not a database, but long enough to be taken for one" * 40)
    with pytest.raises(UserError, match=r"scores\.sqlite: cannot hold scores"):
        ScoreCache(cache)


def test_a_file_that_breaks_later_is_one_error_too(cache: Path) -> None:
    opened = ScoreCache(cache)
    opened.put("a", (1.0,))
    opened._db.execute("UPDATE scores SET value = 'torn'")
    with pytest.raises(UserError, match="cannot hold scores"):
        opened.get("a")
    opened._db.execute("DROP TABLE scores")
    with pytest.raises(UserError, match="cannot hold scores"):
        opened.put("a", (2.0,))
