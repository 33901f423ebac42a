"""What a user can get wrong in a file or on the command line: one line, code 2, nothing left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

PROFILE = """
pair = "embedded"
reference = "original"
[generation]
max_new_tokens = 8
[[methods]]
name = "original"
[[tasks]]
name = "planning"
limit = 1
"""

PAIR = """
summary = "mine"
[F]
id = "embedded:F"
[G]
id = "embedded:G"
[encoder]
id = "embedded:encoder"
"""

GOOD = {"id": "s1", "turns": ["hello", "again"]}


def edited(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


PROFILES = {
    "unknown key": (edited(PROFILE, "pair =", "piar = 1\npair ="), "'piar'; did you mean 'pair'"),
    "unknown nested key": (edited(PROFILE, "max_new_tokens", "max_tokens"), "max_new_tokens"),
    "unknown method key": (
        edited(PROFILE, 'name = "original"', 'name = "original"\nlable = "x"'),
        "label",
    ),
    "unknown task key": (edited(PROFILE, "limit", "limits"), "did you mean 'limit'"),
    "wrong type": (edited(PROFILE, "= 8", '= "many"'), "generation.max_new_tokens"),
    "negative": (edited(PROFILE, "= 8", "= -8"), "generation.max_new_tokens"),
    "not TOML": (edited(PROFILE, 'pair = "embedded"', "pair = embedded"), "line 2"),
    "duplicate key": (edited(PROFILE, 'pair = "embedded"', 'pair = "a"\npair = "b"'), "line 3"),
    "unknown pair": (edited(PROFILE, '"embedded"', '"embeded"'), "did you mean 'embedded'"),
    "pair of wrong type": (edited(PROFILE, '"embedded"', "7"), "pair"),
    "no pair": (edited(PROFILE, 'pair = "embedded"', ""), "pair"),
    "unknown method": (PROFILE.replace("original", "orginal"), "did you mean 'original'"),
    "unknown task": (edited(PROFILE, "planning", "planing"), "did you mean 'planning'"),
    "no methods": (edited(PROFILE, '[[methods]]\nname = "original"\n', ""), "methods"),
    "no tasks": (PROFILE[: PROFILE.index("[[tasks]]")], "tasks"),
    "methods not a list": (edited(PROFILE, "[[methods]]", "[methods]"), "methods"),
    "same method twice": (PROFILE + '[[methods]]\nname = "original"\n', "original"),
    "same task twice": (PROFILE + '[[tasks]]\nname = "planning"\n', "planning"),
    "foreign reference": (
        edited(PROFILE, 'reference = "original"', 'reference = "gold"'),
        "'gold'",
    ),
    "unknown argument": (
        edited(
            PROFILE,
            'name = "original"',
            'name = "truncation"\nargs = { last_turn = 2 }\nlabel = "original"',
        ),
        "did you mean 'last_turns'",
    ),
    "wrong argument type": (
        edited(
            PROFILE,
            'name = "original"',
            'name = "truncation"\nargs = { last_turns = "two" }\nlabel = "original"',
        ),
        "last_turns",
    ),
    "argument out of range": (
        edited(
            PROFILE,
            'name = "original"',
            'name = "summarization"\nargs = { every = 0 }\nlabel = "original"',
        ),
        "every",
    ),
    "wrong role": (
        edited(
            PROFILE,
            'name = "original"',
            'name = "truncation"\nargs = { serve = "H" }\nlabel = "original"',
        ),
        "serve",
    ),
    "unknown scorer": (
        edited(PROFILE, "limit = 1", 'scorers = ["similarty"]'),
        "did you mean 'similarity'",
    ),
    "limit of nothing": (edited(PROFILE, "limit = 1", "limit = 0"), "limit"),
    "seed twice": (edited(PROFILE, "pair =", "seeds = [1, 1]\npair ="), "seeds"),
    "history of another kind": (edited(PROFILE, "pair =", 'history = "liev"\npair ='), "history"),
}

OVERRIDDEN = {
    "unknown key of a chosen method": (
        edited(PROFILE, 'name = "original"', 'name = "original"\nlabel = "mine"\nspeed = 1'),
        ["-m", "mine"],
        "unknown key 'speed'",
    ),
    "method without a name": (PROFILE, ["-m", ":last_turns=1"], "name"),
    "generation that is no table": (
        edited(PROFILE, "[generation]\nmax_new_tokens = 8", "generation = 5").replace(
            'reference = "original"', ""
        ),
        ["--max-new-tokens", "4"],
        "generation",
    ),
    "task whose name is a list": (
        edited(PROFILE, '"planning"', '["planning"]'),
        ["-t", "maths,planing"],
        "did you mean 'planning'",
    ),
    "tasks that are no list": (
        edited(PROFILE, '[[tasks]]\nname = "planning"\nlimit = 1', "[tasks]"),
        ["--limit", "1"],
        "[[tasks]]",
    ),
}

PAIRS = {
    "unknown key": (edited(PAIR, "[F]", "[F]\nrevison = 'x'"), "did you mean 'revision'"),
    "missing model": (PAIR[: PAIR.index("[G]")] + '[encoder]\nid = "x"', "G"),
    "empty id": (edited(PAIR, "embedded:F", ""), "F.id"),
    "wrong dtype": (edited(PAIR, "[F]", '[F]\ndtype = "int4"'), "F.dtype"),
    "unknown engine": (
        edited(PAIR, "[F]", '[F]\nengine = "transformer"'),
        "did you mean 'transformers'",
    ),
    "negative price": (
        PAIR + '[prices]\ndate = 2026-01-01\nsource = "x"\nusd_per_hour = -1\n',
        "usd_per_hour",
    ),
    "prices without a date": (PAIR + '[prices]\nsource = "x"\n', "date"),
    "not TOML": ("F = [", "TOML"),
}

LINES = {
    "bad JSON": (b'{"id": "a", "turns": ["x"]}\n{"id": "b", "turns": [}\n', ":2"),
    "not an object": (b'["x"]\n', ":1"),
    "unknown key": (b'{"id": "a", "turns": ["x"], "sytem": "y"}\n', "system"),
    "missing turns": (b'{"id": "a"}\n', "turns"),
    "no turns": (b'{"id": "a", "turns": []}\n', "turns"),
    "empty turn": (b'{"id": "a", "turns": ["x", "  "]}\n', "turn"),
    "turn of wrong type": (b'{"id": "a", "turns": ["x", 3]}\n', "turns"),
    "wrong length": (b'{"id": "a", "turns": ["x", "y"], "gold": ["1"]}\n', "gold"),
    "references of no kind": (
        b'{"id": "a", "turns": ["x"], "references": ["y"]}\n',
        "reference_kind",
    ),
    "duplicate ids": (b'{"id": "a", "turns": ["x"]}\n{"id": "a", "turns": ["y"]}\n', ":2"),
    "not UTF-8": (b'{"id": "a", "turns": ["\xff"]}\n', ":1"),
    "NaN": (b'{"id": "a", "turns": ["x"], "metadata": {"p": NaN}}\n', ":1"),
    "empty file": (b"", "empty"),
    "truncated": (b'{"id": "a", "turns": ["x"]}\n{"id": "b", "tur', ":2"),
    "a 50 MB line": (b'{"id": "a", "turns": ["' + b"x" * 50_000_000 + b'"]}\n', ":1"),
}

COMMANDS = {
    "unknown profile": (["run", "dmeo"], "did you mean 'demo'"),
    "profile file that is not there": (["run", "gone.toml"], "gone.toml"),
    "profile that is a folder": (["run", "."], "folder"),
    "argument without a value": (["run", "smoke", "-m", "truncation:last_turns"], "arg=value"),
    "setting without a value": (["run", "smoke", "--set", "seeds"], "key=value"),
    "setting below a value": (["run", "smoke", "--set", "pair.F.id=x"], "not a table"),
    "setting of no field": (["run", "smoke", "--set", "generation.temprature=1"], "temperature"),
    "limit of nothing": (["run", "smoke", "--limit", "0"], "--limit"),
    "score of no run": (["score", "nowhere"], "not a run folder"),
    "report of no run": (["report", "nowhere"], "not a run folder"),
    "show of no run": (["show", "nowhere", "--session", "x"], "not a run folder"),
    "fetch of no pair": (["fetch", "embeded"], "did you mean 'embedded'"),
    "list of no kind": (["list", "metods"], "methods"),
    "task file that is not there": (["run", "smoke", "-t", "x.py:Task"], "no such file"),
}


def check(result: Result, hint: str) -> None:
    """One line that names the place and helps, exit code 2, no traceback."""
    assert result.exit_code == 2, result.output + repr(result.exception)
    message = result.stderr.strip().splitlines()[-1]
    assert message.lower().startswith("error: ")
    assert hint in message
    assert len(message) < 400
    assert "Traceback" not in result.output
    assert not Path("results").exists()
    assert not Path("run").exists()


@pytest.mark.parametrize(("text", "hint"), PROFILES.values(), ids=PROFILES)
def test_profile(bench: Callable[..., Result], text: str, hint: str) -> None:
    Path("my.toml").write_text(text, "utf-8")
    result = bench("run", "my.toml", "--out", "run")
    check(result, hint)
    assert "my.toml" in result.stderr or "pair" in result.stderr


@pytest.mark.parametrize(("text", "words", "hint"), OVERRIDDEN.values(), ids=OVERRIDDEN)
def test_profile_with_overrides(
    bench: Callable[..., Result], text: str, words: list[str], hint: str
) -> None:
    Path("my.toml").write_text(text, "utf-8")
    check(bench("run", "my.toml", "--out", "run", *words), hint)


def test_profile_that_is_not_utf8(bench: Callable[..., Result]) -> None:
    Path("my.toml").write_bytes(PROFILE.encode() + b"# \xff\n")
    result = bench("run", "my.toml", "--out", "run")
    check(result, "my.toml:11")


def test_profile_that_is_far_too_large(bench: Callable[..., Result]) -> None:
    Path("my.toml").write_bytes(PROFILE.encode() + b"#" * 50_000_000)
    check(bench("run", "my.toml", "--out", "run"), "my.toml")


@pytest.mark.parametrize(("text", "hint"), PAIRS.values(), ids=PAIRS)
def test_pair(bench: Callable[..., Result], text: str, hint: str) -> None:
    Path("mypair.toml").write_text(text, "utf-8")
    Path("my.toml").write_text(edited(PROFILE, '"embedded"', '"mypair.toml"'), "utf-8")
    result = bench("run", "my.toml", "--out", "run")
    check(result, hint)
    assert "mypair.toml" in result.stderr


@pytest.mark.parametrize(("data", "hint"), LINES.values(), ids=LINES)
def test_task_file(bench: Callable[..., Result], data: bytes, hint: str) -> None:
    Path("mine.jsonl").write_bytes(data)
    task = '[[tasks]]\nname = "jsonl"\nargs = { path = "mine.jsonl" }\n'
    Path("my.toml").write_text(PROFILE[: PROFILE.index("[[tasks]]")] + task, "utf-8")
    result = bench("run", "my.toml", "--out", "run")
    check(result, hint)
    assert "mine.jsonl" in result.stderr


def test_task_file_that_is_not_there(bench: Callable[..., Result]) -> None:
    task = '[[tasks]]\nname = "jsonl"\nargs = { path = "gone.jsonl" }\n'
    Path("my.toml").write_text(PROFILE[: PROFILE.index("[[tasks]]")] + task, "utf-8")
    check(bench("run", "my.toml", "--out", "run"), "gone.jsonl")


@pytest.mark.parametrize(("words", "hint"), COMMANDS.values(), ids=COMMANDS)
def test_command(bench: Callable[..., Result], words: list[str], hint: str) -> None:
    check(bench(*words), hint)


def test_a_good_file_of_the_same_form_is_accepted(tmp_path: Path) -> None:
    """The malformed ones are refused for what is wrong with them, not for their form."""
    from harness.plan import make_plan
    from harness.profile import Overrides, load_spec

    (tmp_path / "mine.jsonl").write_text(json.dumps(GOOD) + "\n")
    (tmp_path / "mypair.toml").write_text(PAIR)
    task = f'[[tasks]]\nname = "jsonl"\nargs = {{ path = "{tmp_path}/mine.jsonl" }}\n'
    head = edited(PROFILE[: PROFILE.index("[[tasks]]")], '"embedded"', f'"{tmp_path}/mypair.toml"')
    (tmp_path / "my.toml").write_text(head + task)
    spec, place = load_spec(str(tmp_path / "my.toml"), Overrides())
    plan = make_plan(spec, place)
    assert [s.turns for s in plan.sessions["jsonl"]] == [("hello", "again")]
