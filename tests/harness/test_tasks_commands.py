"""`tasks show`, `tasks stats` and their sisters, as a user calls them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness import registry
from harness.session_hash import sessions_digest
from tasks.maths import Maths

Bench = Callable[..., Result]

SESSION = {
    "id": "trip",
    "system": "You plan [bold]trips[/bold].",
    "turns": ["We are four [red]friends[/red].", "And \u001b[31mwithout\u001b[0m the car?"],
    "references": ["Take the train.", None],
    "reference_kind": "human",
    "gold": [None, "42"],
    "language": "fr",
    "license": "MIT",
    "source": {"file": "log-7"},
    "metadata": {"kind": "travel", "steps": [1, 2]},
}

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
    "model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"},
}


def write(*sessions: dict, name: str = "my.jsonl") -> Path:
    path = Path(name)
    path.write_text("".join(json.dumps(s) + "\n" for s in sessions), "utf-8")
    return path


def good(result: Result) -> str:
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


def refused(result: Result) -> str:
    """The one line of an error, whose exit code is 2; nothing else was printed."""
    assert result.exit_code == 2, result.output + repr(result.exception)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert len(line) < 400
    return line


# show


@pytest.mark.parametrize("name", [entry.name for entry in registry.tasks().entries()])
def test_every_card_can_be_read_without_any_data(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    text = good(bench("tasks", "show", name))
    card = registry.tasks().load(name, "test").card
    for fact in (name, card.title, card.license, card.origin.split("\n")[0], "scorers"):
        assert fact in text


def test_the_card_of_a_bundled_task(bench: Bench) -> None:
    text = good(bench("tasks", "show", "drift"))
    assert "Each session of `source` breaks off" in text
    assert ["earliest", "int | None, ≥ 2", "None"] in [
        [cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()
    ]
    lines = good(bench("tasks", "show", "planning")).splitlines()
    (row,) = [line for line in lines if line.startswith("planning-camping")]
    assert row.split()[1] == "10"
    assert lines[-1].startswith("There are more")


def test_a_task_that_needs_a_file_says_so(bench: Bench) -> None:
    text = good(bench("tasks", "show", "jsonl"))
    assert "run_bench.py tasks show jsonl --path FILE" in text
    text = good(bench("tasks", "show", "jsonl", "--path", write(SESSION)))
    assert "trip" in text
    assert "That is all." in text


def test_one_session_is_shown_in_full(bench: Bench) -> None:
    text = good(bench("tasks", "show", "jsonl", "--path", write(SESSION), "--session", "trip"))
    said = [
        "trip, 2 user turns", "fr", "MIT", "log-7", "You plan [bold]trips[/bold].",
        "turn 1, user", "We are four [red]friends[/red].", "reference (human)", "Take the train.",
        "turn 2, user", r"And \x1b[31mwithout\x1b[0m the car?", "gold answer", "42",
        "metadata", "travel", "[1, 2]",
    ]  # fmt: skip
    places = [text.index(part) for part in said]
    assert places == sorted(places)
    assert "\x1b" not in text
    assert text.count("reference (") == text.count("gold answer") == 1


def test_what_steers_a_terminal_is_written_out(bench: Bench) -> None:
    turn = "a\rb\u202ec\u0007d\u009be\tf\n\ng"
    path = write({"id": "x\u001b]0;t", "turns": [turn], "metadata": {"k\u001b": "\u001bv"}})
    for extra in ([], ["--session", "x\u001b]0;t"]):
        text = good(bench("tasks", "show", "jsonl", "--path", path, *extra))
        assert not set(text) & set("\r\x07\x1b\x9b\u202e")
        assert r"x\x1b]0;t" in text
    assert r"a\rb\u202ec\x07d\x9be" in text
    assert r"k\x1b" in text


def test_an_unknown_session_is_answered_with_the_nearest(bench: Bench) -> None:
    line = refused(bench("tasks", "show", "planning", "--session", "planning-campin"))
    assert "did you mean 'planning-camping'?" in line
    many = write(*({"id": f"s{n:05}", "turns": ["a"]} for n in range(3000)))
    line = refused(bench("tasks", "show", "jsonl", "--path", many, "--session", "quite another"))
    assert "it has 3,000 sessions, the first: 's00000', 's00001', 's00002'" in line


# What is wrong with the options, for every command that opens a task.

OPTIONS = {
    "unknown task": (["plannig"], "did you mean 'planning'"),
    "empty name": ([""], "valid:"),
    "file that is not there": (["gone.py:Task"], "no such file"),
    "path for a task without files": (["drift", "--path", "x"], "its arguments: source,"),
    "path twice": (["jsonl", "--path", "x", "--arg", "path=y"], "keep one"),
    "argument without a value": (["drift", "--arg", "seed"], "'seed' is not KEY=VALUE"),
    "argument without a name": (["drift", "--arg", "=3"], "is not KEY=VALUE"),
    "argument twice": (["drift", "--arg", "seed=1", "--arg", "seed=2"], "seed is given twice"),
    "unknown argument": (["drift", "--arg", "sed=1"], "did you mean 'seed'"),
    "argument of a wrong type": (["drift", "--arg", "seed=many"], "seed = 'many'"),
    "data that are not there": (["jsonl", "--path", "gone.jsonl"], "gone.jsonl"),
    "bad data": (["jsonl", "--path", "bad.jsonl"], "bad.jsonl:2"),
}


@pytest.mark.parametrize(("words", "hint"), OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(
    "command", [["show"], ["stats", "--json"], ["export", "--format", "soma", "--out", "o"]]
)
def test_wrong_options(bench: Bench, command: list[str], words: list[str], hint: str) -> None:
    Path("bad.jsonl").write_text('{"id": "a", "turns": ["x"]}\n{"id": "b"}\n')
    assert hint in refused(bench("tasks", *command, *words))


# stats


def test_stats_as_json(bench: Bench) -> None:
    other = {"id": "b", "turns": ["one", "two", "three", "four", "five"], "language": "en"}
    path = write(SESSION, other)
    result = bench("tasks", "stats", "jsonl", "--path", path, "--json")
    found = json.loads(good(result))
    assert result.stderr == ""
    assert result.stdout.count("\n") == 1
    assert (found["sessions"], found["user_turns"]) == (2, 7)
    assert found["expected"] == {"sessions": None, "user_turns": None}
    assert found["dropped"] == {}
    assert found["languages"] == {"en": 1, "fr": 1}
    assert (found["default_warm_turns"], found["never_switchable"]) == (3, 1)
    assert found["turns_per_session"] == {
        "mean": 3.5, "min": 2, "median": 3.5, "max": 5, "sessions_by_turns": {"2": 1, "5": 1},
    }  # fmt: skip
    assert [t["sessions"] for t in found["tokens_by_turn"]] == [2, 2, 1, 1, 1]
    assert found["tokens_by_turn"][4] == {
        "turn": 5, "sessions": 1, "tokens": None, "characters": 4.0,
    }  # fmt: skip
    assert found["tokenizer"] is None
    assert list(found["files"]) == ["my.jsonl"]
    assert len(found["files"]["my.jsonl"]) == len(found["sha256"]) == 64


def test_the_hash_is_that_of_the_tasks_sessions(bench: Bench) -> None:
    found = json.loads(good(bench("tasks", "stats", "maths", "--json")))
    assert found["sha256"] == sessions_digest(Maths().sessions())
    assert found["files"] == {}
    assert found["expected"] == {"sessions": 12, "user_turns": 127}
    drawn = [
        json.loads(good(bench("tasks", "stats", "drift", "--json", "--arg", f"seed={seed}")))
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0]["sha256"] != drawn[2]["sha256"]


def test_json_is_the_same_in_every_process_and_loads_nothing_heavy(root: Path) -> None:
    code = (
        "import sys; sys.argv[1:] = ['tasks', 'stats', 'roleplay', '--json']\n"
        "from run_bench import cli\n"
        "cli(standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'tokenizers', 'numpy', 'pandas', 'matplotlib'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert done[0].stderr.strip() == "[]"
    assert done[0].stdout == done[1].stdout


def test_stats_for_people(bench: Bench) -> None:
    text = good(bench("tasks", "stats", "planning"))
    rows = [line.split() for line in text.splitlines()]
    assert ["sessions", "12", "12"] in rows
    assert ["user", "turns", "126", "126"] in rows
    assert ["never", "switchable", "0", "–"] in rows
    # The embedded pair's tokenizer; docs/tasks.md has the same numbers.
    assert ["1", "12", "100.0", "0", "122.4", "481.3"] in rows
    assert (
        rows[-1][-1] == json.loads(bench("tasks", "stats", "planning", "--json").stdout)["sha256"]
    )


def test_a_long_tail_of_turns_is_cut_on_the_screen_only(bench: Bench) -> None:
    path = write({"id": "a", "turns": ["x"] * 90}, {"id": "b", "turns": ["x"]})
    text = good(bench("tasks", "stats", "jsonl", "--path", path, "--no-tokens", "--out", "out"))
    assert "70 later turn indices, up to 90, are not shown" in text
    assert len(Path("out/turns.csv").read_text("utf-8").splitlines()) == 91


def test_tokens_of_a_users_own_pair(bench: Bench) -> None:
    """No template and no special tokens; a tokenizer's own limit of length does not count."""
    Path("model").mkdir()
    Path("model/config.json").write_text("{}")
    Path("model/tokenizer.json").write_text(json.dumps(TOKENIZER))
    pair = "".join(f'[{role}]\nid = "./model"\n' for role in ("F", "G", "encoder"))
    Path("mine.toml").write_text(pair)
    path = write({"id": "a", "turns": ["one two three four", "five"]})
    words = ["tasks", "stats", "jsonl", "--path", path, "--json", "--tokens", "--pair"]
    found = json.loads(good(bench(*words, "mine.toml")))
    assert [turn["tokens"] for turn in found["tokens_by_turn"]] == [4, 1]
    assert found["tokenizer"].startswith("F of pair mine.toml")
    Path("model/tokenizer.json").write_text("{")
    found = json.loads(good(bench(*words, "mine.toml")))
    assert found["tokenizer"] is None
    assert found["tokens_by_turn"][0]["tokens"] is None
    assert "did you mean 'embedded'" in refused(bench(*words, "embeded"))


def test_without_a_tokenizer_there_are_characters(bench: Bench) -> None:
    path = write({"id": "a", "turns": ["four", "five"]})
    text = good(bench("tasks", "stats", "jsonl", "--path", path, "--pair", "qwen3"))
    assert "No tokens:" in text
    assert "`fetch qwen3`" in " ".join(text.split())
    assert "Characters" in text
    assert "Tokens" not in text


def test_tables_and_figure_as_files(bench: Bench) -> None:
    result = bench("tasks", "stats", "maths", "--out", "a/b")
    good(result)
    assert "wrote 9 files to a/b" in result.stderr
    folder = Path("a/b")
    assert {p.name for p in folder.iterdir()} == {
        "overview.csv", "overview.md", "turns.csv", "turns.md", "languages.csv", "languages.md",
        "stats.html", "turn_lengths.png", "turn_lengths.pdf",
    }  # fmt: skip
    assert (folder / "overview.csv").read_text("utf-8").splitlines()[1] == "sessions,12,12"
    page = (folder / "stats.html").read_text("utf-8")
    assert page.count("<section") == 3
    assert 'src="turn_lengths.png"' in page
    assert (folder / "turn_lengths.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_cannot_be_written_is_one_error(bench: Bench) -> None:
    Path("file").write_text("")
    line = refused(bench("tasks", "stats", "maths", "--json", "--out", "file/below"))
    assert "file/below: cannot be written" in line


# validate and export


def test_validate_says_by_its_exit_code_whether_a_file_is_right(bench: Bench) -> None:
    good(bench("tasks", "validate", write(SESSION)))
    Path("bad.jsonl").write_text('{"id": "a", "turns": []}\n')
    assert bench("tasks", "validate", "bad.jsonl").exit_code == 1
    assert "gone.jsonl" in refused(bench("tasks", "validate", "gone.jsonl"))
    assert bench("tasks", "validate", write(SESSION), "--form", "messages").exit_code == 1


@pytest.mark.parametrize("form", ["jsonl", "soma", "openai"])
def test_an_exported_task_can_be_read_again(bench: Bench, form: str) -> None:
    good(bench("tasks", "export", "planning", "--format", form, "--out", "out.data"))
    found = json.loads(good(bench("tasks", "stats", "jsonl", "--path", "out.data", "--json")))
    assert (found["sessions"], found["user_turns"]) == (12, 126)


# help


@pytest.mark.parametrize("words", [["--help"], ["tasks", "--help"], ["tasks", "stats", "--help"]])
def test_help_imports_nothing_of_the_harness(root: Path, words: list[str]) -> None:
    code = (
        f"import sys; sys.argv[1:] = {words!r}\n"
        "from run_bench import cli\n"
        "cli(standalone_mode=False)\n"
        "found = [m for m in sys.modules if m.split('.')[0] in ('harness', 'rich', 'pydantic')]\n"
        "assert set(found) <= {'harness', 'harness.errors'}, found"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
