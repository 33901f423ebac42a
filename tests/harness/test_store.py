"""The run folder: durable, resumable, and never another run's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from harness.errors import UserError
from harness.record import SCHEMA_VERSION, Manifest, SessionRecord
from harness.store import (
    ADAPTERS,
    SESSIONS,
    WORK,
    Store,
    UnitKey,
    key_of,
    read_manifest,
    read_sessions,
    unit_hash,
    write_text_atomically,
)
from harness.task import Drop
from harness.workspace import Workspace


def manifest(machine: str = "cpu-2core", sources: Any = None, **spec: Any) -> Manifest:
    return Manifest(
        schema=SCHEMA_VERSION,
        spec={"profile": "x", **spec},
        spec_hash="s",
        hash_recipe=1,
        harness_version="0",
        code_version=None,
        sessions={},
        sessions_hash="h",
        sources=sources or {},
        warmup=[],
        hardware={"machine_class": machine},
        packages={},
        created_at="",
    )


def record(session_id: str, outcome: str = "scored") -> SessionRecord:
    return cast(
        SessionRecord,
        {"method": "m", "task": "t", "session_id": session_id, "seed": 0, "outcome": outcome},
    )


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    with Store(tmp_path / "run", manifest()) as store:
        for name in ("b", "a", "ü \u2028"):
            store.append(record(name))
        assert store.finished() == {UnitKey("m", "t", n, 0) for n in ("b", "a", "ü \u2028")}
    assert [r["session_id"] for r in read_sessions(tmp_path / "run")] == ["b", "a", "ü \u2028"]


def test_manifest_is_there_before_any_session(tmp_path: Path) -> None:
    with Store(tmp_path / "run", manifest(seeds=[1])):
        assert read_manifest(tmp_path / "run")["spec"]["seeds"] == [1]


@pytest.mark.parametrize("torn", ['{"method": "m"', "{", '{"a": 1}', "\u00e9"])
def test_torn_last_line_is_cut_and_the_rest_kept(tmp_path: Path, torn: str) -> None:
    with Store(tmp_path / "run", manifest()) as store:
        store.append(record("a"))
    with (tmp_path / "run" / SESSIONS).open("ab") as file:
        file.write(torn.encode()[:-1] if torn == "\u00e9" else torn.encode())
    assert [r["session_id"] for r in read_sessions(tmp_path / "run")] == ["a"]
    with Store(tmp_path / "run", manifest()) as store:
        store.append(record("b"))
    assert [r["session_id"] for r in read_sessions(tmp_path / "run")] == ["a", "b"]


def test_damage_before_the_last_line_is_an_error_with_its_line(tmp_path: Path) -> None:
    with Store(tmp_path / "run", manifest()) as store:
        store.append(record("a"))
    path = tmp_path / "run" / SESSIONS
    path.write_text("not json\n" + path.read_text("utf-8"), "utf-8")
    with pytest.raises(UserError, match=r"sessions\.jsonl:1: is damaged"):
        list(read_sessions(tmp_path / "run"))


def test_another_run_is_refused_and_the_differing_fields_named(tmp_path: Path) -> None:
    with Store(tmp_path / "run", manifest(generation={"temperature": 0.0}, seeds=[0])):
        pass
    with (
        pytest.raises(UserError, match=r"generation\.temperature: 0\.0 there, 0\.7 here"),
        Store(tmp_path / "run", manifest(generation={"temperature": 0.7}, seeds=[0])),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"machine": "h100"}, "machine_class: 'cpu-2core' there, 'h100' here"),
        ({"sources": {"my.py:M": "b"}}, r"sources\.my\.py:M: 'a' there, 'b' here"),
        ({"sources": {}}, r"sources\.my\.py:M: 'a' there, None here"),
    ],
)
def test_another_machine_or_another_method_file_is_another_run(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    with Store(tmp_path / "run", manifest(sources={"my.py:M": "a"})):
        pass
    here = {"sources": {"my.py:M": "a"}, **change}
    with pytest.raises(UserError, match=named), Store(tmp_path / "run", manifest(**here)):
        pass


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "damaged"),
        ("[]", "no manifest of schema 3"),
        ("{}", "no manifest of schema 3"),
        ('{"schema": 1}', "no manifest of schema 3"),
        ('{"schema": 99}', "no manifest of schema 3"),
        ('{"schema": 3}', "lacks code_version, created_at"),
    ],
)
def test_a_damaged_manifest_is_one_clear_error(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=problem):
        read_manifest(tmp_path)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds no run"), Store(tmp_path, manifest()):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["thesis.txt"]


def test_two_writers_never_share_a_folder(tmp_path: Path) -> None:
    with (
        Store(tmp_path / "run", manifest()),
        pytest.raises(UserError, match="another process"),
        Store(tmp_path / "run", manifest()),
    ):
        pass


def test_forgetting_errors_keeps_everything_else(tmp_path: Path) -> None:
    """What was skipped, was skipped for an error: in replay, that of the reference."""
    with Store(tmp_path / "run", manifest()) as store:
        for name, outcome in (("a", "scored"), ("b", "error"), ("c", "skipped"), ("d", "unscored")):
            store.append(record(name, outcome))
        assert store.forget_errors() == 2
        store.append(record("b"))
    assert [r["session_id"] for r in read_sessions(tmp_path / "run")] == ["a", "d", "b"]


def test_what_was_left_out_is_listed_once(tmp_path: Path) -> None:
    drops = {"t": [Drop("empty_message", "f.json:3", "id 7"), Drop("odd", "f.json:9", score=0.25)]}
    with Store(tmp_path / "run", manifest(), drops):
        pass
    lines = (tmp_path / "run" / "dropped.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"task": "t", "reason": "empty_message", "place": "f.json:3", "detail": "id 7"}
        | {"score": None},
        {"task": "t", "reason": "odd", "place": "f.json:9", "detail": "", "score": 0.25},
    ]
    with Store(tmp_path / "run", manifest(), {}):
        pass
    assert len((tmp_path / "run" / "dropped.jsonl").read_text("utf-8").splitlines()) == 2


def test_records_with_nan_are_refused_rather_than_stored(tmp_path: Path) -> None:
    bad = {**record("a"), "session_s": float("nan")}
    with Store(tmp_path / "run", manifest()) as store, pytest.raises(ValueError, match="JSON"):
        store.append(cast(SessionRecord, bad))
    assert list(read_sessions(tmp_path / "run")) == []


def test_atomic_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a.json", json.dumps({"x": 1}))
    write_text_atomically(tmp_path / "a.json", json.dumps({"x": 2}))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 2}


def test_key_of_names_the_unit() -> None:
    assert key_of(record("a")) == UnitKey("m", "t", "a", 0)


def test_what_unfinished_sessions_left_is_removed_on_resume(tmp_path: Path) -> None:
    run, done, killed = tmp_path / "run", UnitKey("m", "t", "a", 0), UnitKey("m", "t", "b", 0)
    with Store(run, manifest()) as store:
        for key in (done, killed):
            (run / ADAPTERS / unit_hash(key) / "adapter-1").mkdir(parents=True)
            (run / WORK / unit_hash(key)).mkdir(parents=True)
        store.append(record("a"))
    (run / WORK / "left-by-a-kill").mkdir(parents=True)
    with Store(run, manifest()):
        assert not (run / WORK).exists()
        assert [f.name for f in (run / ADAPTERS).iterdir()] == [unit_hash(done)]


def test_a_workspace_keeps_what_it_should_and_only_of_a_finished_session(tmp_path: Path) -> None:
    key = UnitKey("m", "t", "a", 0)
    with Workspace(tmp_path, key) as workspace:
        scratch, kept = workspace.folder("x"), workspace.folder("y", keep=True)
        with pytest.raises(FileExistsError):
            workspace.folder("x")
        workspace.finished()
    assert not scratch.exists()
    assert kept.exists()
    assert json.loads((kept.parent / "unit.json").read_text())["session_id"] == "a"
    other = UnitKey("m", "t", "b", 0)
    with Workspace(tmp_path, other) as workspace:
        lost = workspace.folder("y", keep=True)  # and the session does not finish
    assert not lost.parent.exists()
    with Workspace(None, other) as workspace:
        loose = workspace.folder("y", keep=True)
        workspace.finished()
    assert not loose.exists()
