"""Replay: every method's history holds the reference's replies, and nothing mixes with live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

METHOD = '''"""Answers from the full history, or fails."""
from harness.method import Method, Reply


class Own(Method):
    """Own."""

    fails: bool = False

    async def open(self, session, engines):
        return Conversation(engines, self.fails)


class Conversation:
    def __init__(self, engines, fails):
        self.engines, self.fails = engines, fails

    async def reply(self, text):
        if self.fails:
            raise RuntimeError("broken on purpose")
        return Reply(await self.engines.G.generate([{"role": "user", "content": text}]))

    async def close(self):
        pass
'''
FAST = ("--set", "warmup=false", "--offline", "--max-new-tokens", "6", "-t", "planning")


def records(folder: str = "run") -> dict[str, dict[str, Any]]:
    lines = Path(folder, "sessions.jsonl").read_text("utf-8").splitlines()
    return {r["method"]: r for r in map(json.loads, lines)}


def prompts(record: dict[str, Any]) -> list[str]:
    return [turn["prompt_hash"] for turn in record["turns"]]


def run(bench: Callable[..., Result], history: str, *methods: str) -> Result:
    chosen = [word for method in methods for word in ("-m", method)]
    return bench("run", "smoke", *chosen, *FAST, "--set", f"history={history}", "--out", "run")


@pytest.fixture
def replayed(bench: Callable[..., Result]) -> dict[str, dict[str, Any]]:
    little = "prompt_length=2,candidates=1,keep=1,iterations=1,steps=1"
    adapted = f"soma:warm_turns=1,gate=false,{little}"
    kept = "truncation:last_turns=99"
    result = run(bench, "replay", "surrogate", "original", kept, "summarization", adapted)
    assert result.exit_code == 0, result.output
    return records()


def test_histories_are_made_of_the_references_replies(
    replayed: dict[str, dict[str, Any]], bench: Callable[..., Result]
) -> None:
    """F and G of the embedded pair share tokenizer and template: equal histories, equal prompts."""
    names = list(replayed)
    assert names[0] == "original"
    original = replayed["original"]
    assert len(original["turns"]) > 2
    for name in ("surrogate", next(n for n in names if n.startswith("truncation"))):
        assert prompts(replayed[name]) == prompts(original)
    said = [turn["reply"] for turn in original["turns"]]
    assert [turn["reply"] for turn in replayed["surrogate"]["turns"]] != said
    adapted = replayed[next(n for n in names if n.startswith("soma"))]
    assert {turn["served_by"] for turn in adapted["turns"][1:]} == {"G"}

    manifest = json.loads(Path("run/manifest.json").read_text("utf-8"))
    assert manifest["spec"]["history"] == "replay"
    tables = list(Path("run/tables").glob("*.md"))
    assert tables
    for table in tables:
        assert "replay history" in table.read_text("utf-8")

    again = run(bench, "live", *names)
    assert again.exit_code == 2
    assert "history: 'replay' there, 'live' here" in again.stderr


def test_live_histories_are_a_methods_own(bench: Callable[..., Result]) -> None:
    assert run(bench, "live", "original", "surrogate").exit_code == 0
    found = records()
    original, surrogate = prompts(found["original"]), prompts(found["surrogate"])
    assert original[0] == surrogate[0]
    assert original[1:] != surrogate[1:]


def test_without_stored_replies_a_session_is_skipped(bench: Callable[..., Result]) -> None:
    Path("own.py").write_text(METHOD)
    failing = "own.py:Own:fails=true"
    chosen = ("-m", failing, "-m", "surrogate", "--set", "reference=own.py:Own:fails=True")
    words = ("run", "smoke", *chosen, *FAST, "--set", "history=replay", "--out", "run")
    assert bench(*words).exit_code == 1
    found = records()
    assert found["own.py:Own:fails=True"]["outcome"] == "error"
    assert found["surrogate"]["outcome"] == "skipped"
    assert "was not served" in found["surrogate"]["reason"]
    assert bench(*words, "--retry-errors").exit_code == 1
    lines = Path("run/sessions.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 2


def test_a_method_that_cannot_be_replayed_says_so(bench: Callable[..., Result]) -> None:
    Path("own.py").write_text(METHOD)
    result = run(bench, "replay", "original", "own.py:Own")
    assert result.exit_code == 1
    assert "has no replay()" in records()["own.py:Own"]["reason"]


def test_replay_needs_a_reference(bench: Callable[..., Result]) -> None:
    result = run(bench, "replay", "surrogate", "truncation")
    assert result.exit_code == 2
    assert "needs reference" in result.stderr
    assert not Path("run").exists()
