"""Merging shards: what comes out is the run in one piece, or nothing at all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.errors import UserError
from harness.merge import merge_runs
from harness.plan import Plan, Unit, make_plan
from harness.profile import Overrides, load_spec
from harness.record import Outcome
from harness.serving import unserved
from harness.shard import Shard, manifest_of_shard, plan_of_shard
from harness.store import Store, check_same_run, key_of, read_manifest, read_sessions, unit_hash
from harness.workspace import Workspace

COUNT = 3
METHODS = ("original", "surrogate")


def plan_of(limit: int = 4, **changes: Any) -> Plan:
    chosen = {"methods": METHODS, "tasks": ("planning", "maths"), "limit": limit, **changes}
    return make_plan(*load_spec("smoke", Overrides(**chosen)))


def units_of(plan: Plan) -> list[Unit]:
    return [unit for block in plan.blocks() for unit in block.units]


def fill(folder: Path, manifest: Any, plan: Plan, units: list[Unit]) -> None:
    """A run folder with a record of each unit: of a failure with a traceback, and an adapter."""
    dropped = {task: loaded.dropped for task, loaded in plan.loaded.items()}
    with Store(folder, manifest, dropped) as store:
        for number, unit in enumerate(units):
            failed = number % 3 == 0
            outcome: Outcome = "error" if failed else "skipped"
            if failed:
                store.write_traceback(unit.key, f"of {unit.key}\n")
            with Workspace(folder, unit.key) as workspace:
                (workspace.folder("adapter-1", keep=True) / "a.bin").write_bytes(b"\x00" * number)
                workspace.finished()
            store.append(unserved(unit.key, unit.session, outcome, "for a reason"))


def shard_folder(where: Path, plan: Plan, index: int, count: int = COUNT) -> Path:
    shard = Shard(index=index, count=count)
    folder = where / f"shard-{index}"
    part = plan_of_shard(plan, shard)
    fill(folder, manifest_of_shard(plan, shard), part, units_of(part))
    return folder


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Path:
    where = tmp_path_factory.mktemp("shards")
    for index in range(1, COUNT + 1):
        shard_folder(where, plan, index)
    return where


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> list[Path]:
    """Three shards of one run, complete, free to be damaged."""
    folder = shutil.copytree(made, tmp_path / "shards")
    return sorted(folder.iterdir())


def tree(run: Path, *parts: str) -> dict[str, bytes]:
    files = [p for part in parts for p in (run / part).rglob("*") if p.is_file()]
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in files}


def test_the_merged_run_is_the_one_in_one_piece(
    shards: list[Path], plan: Plan, tmp_path: Path
) -> None:
    merged = merge_runs(tmp_path / "out", list(reversed(shards)), partial=False)
    assert (merged.sessions, merged.missing, merged.differing) == (16, 0, ())
    whole: dict[str, Any] = {**plan.manifest()}
    out: dict[str, Any] = {**read_manifest(tmp_path / "out")}
    facts = out.pop("shards")
    assert [fact["index"] for fact in facts] == [1, 2, 3]
    assert {fact["machine_class"] for fact in facts} == {whole["hardware"]["machine_class"]}
    assert out.pop("created_at") <= whole.pop("created_at")
    assert out == whole
    check_same_run(tmp_path / "out", plan.manifest())

    found = list(read_sessions(tmp_path / "out"))
    assert [key_of(r) for r in found] == sorted(unit.key for unit in units_of(plan))
    lines = sorted(line for s in shards for line in (s / "sessions.jsonl").open("rb"))
    assert sorted((tmp_path / "out" / "sessions.jsonl").open("rb")) == lines
    kept = {k: v for s in shards for k, v in tree(s, "adapters", "errors").items()}
    assert tree(tmp_path / "out", "adapters", "errors") == kept
    assert len([name for name in kept if name.startswith("errors/")]) >= 3
    assert not list(tmp_path.glob(".*merging*"))


def test_what_the_tasks_left_out_comes_along(shards: list[Path], tmp_path: Path) -> None:
    line = '{"task": "maths", "reason": "x"}\n'
    (shards[0] / "dropped.jsonl").write_text(line)
    merge_runs(tmp_path / "out", shards, partial=False)
    assert (tmp_path / "out" / "dropped.jsonl").read_text() == line


def test_what_belongs_to_no_finished_session_stays_behind(
    shards: list[Path], tmp_path: Path
) -> None:
    (shards[0] / "adapters" / "0123456789abcdef").mkdir()
    merge_runs(tmp_path / "out", shards, partial=False)
    assert not (tmp_path / "out" / "adapters" / "0123456789abcdef").exists()


def edit_manifest(run: Path, **changes: Any) -> None:
    path = run / "manifest.json"
    data = json.loads(path.read_text())
    for dotted, value in changes.items():
        *parents, last = dotted.split("__")
        table = data
        for parent in parents:
            table = table[parent]
        table[last] = value
    path.write_text(json.dumps(data))


def edit_line(run: Path, number: int, **changes: Any) -> None:
    path = run / "sessions.jsonl"
    lines = path.read_text("utf-8").splitlines(keepends=True)
    lines[number] = json.dumps({**json.loads(lines[number]), **changes}) + "\n"
    path.write_text("".join(lines), "utf-8")


def append(run: Path, raw: bytes) -> None:
    with (run / "sessions.jsonl").open("ab") as file:
        file.write(raw)


def repeat_first(run: Path) -> None:
    append(run, (run / "sessions.jsonl").open("rb").readline())


def cut_lines(run: Path, left: int) -> None:
    path = run / "sessions.jsonl"
    path.write_bytes(b"".join(path.open("rb").readlines()[:left]))


def insert(run: Path, raw: bytes) -> None:
    path = run / "sessions.jsonl"
    path.write_bytes(raw + path.read_bytes())


LINE = "shard-2/sessions.jsonl:{number}: "
FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no run": (lambda s: shutil.rmtree(s), "shard-2: is not a run folder"),
    "no manifest": (lambda s: (s / "manifest.json").unlink(), "shard-2: is not a run folder"),
    "torn manifest": (
        lambda s: (s / "manifest.json").write_text('{"schema"'),
        "shard-2/manifest.json: is damaged",
    ),
    "other schema": (lambda s: edit_manifest(s, schema=1), "shard-2/manifest.json: is no manifest"),
    "other recipe": (lambda s: edit_manifest(s, hash_recipe=1), "manifest.json: was written by"),
    "shard out of range": (
        lambda s: edit_manifest(s, shard={"index": 4, "count": 3}),
        "shard-2/manifest.json: is damaged",
    ),
    "shard of text": (lambda s: edit_manifest(s, shard="2/3"), "shard-2/manifest.json: is damaged"),
    "whole of another kind": (
        lambda s: edit_manifest(s, whole={"sessions": []}),
        "shard-2/manifest.json: is damaged",
    ),
    "spec without a pair": (
        lambda s: edit_manifest(s, spec={}),
        "shard-2/manifest.json: is damaged",
    ),
    "spec changed by hand": (
        lambda s: edit_manifest(s, spec__seeds=[1]),
        "its spec is not the one that spec_hash was made of",
    ),
    "sessions of another shard": (
        lambda s: edit_manifest(s, shard__index=1),
        "its sessions are not those of shard 1/3",
    ),
    "text": (lambda s: append(s, b"what?\n"), LINE.format(number=5)),
    "no UTF-8": (lambda s: append(s, b'{"\xff": 1}\n'), LINE.format(number=5)),
    "an empty line": (lambda s: insert(s, b"\n"), LINE.format(number=1)),
    "a list": (lambda s: insert(s, b"[]\n"), LINE.format(number=1) + "is no session of schema"),
    "a record of old": (lambda s: edit_line(s, 1, schema=1), LINE.format(number=2)),
    "a part of a record": (
        lambda s: insert(s, b'{"schema": 3, "method": "m"}\n'),
        LINE.format(number=1) + "is damaged: it lacks",
    ),
    "a key of another type": (lambda s: edit_line(s, 2, seed=None), LINE.format(number=3)),
    "a key that is a list": (lambda s: edit_line(s, 2, method=[]), LINE.format(number=3)),
    "a torn line": (lambda s: append(s, b'{"schema": 3'), LINE.format(number=5) + "is torn"),
    "a line twice": (repeat_first, LINE.format(number=5)),
    "another method's": (lambda s: edit_line(s, 0, method="m"), "which is not of shard 2/3"),
    "another seed's": (lambda s: edit_line(s, 0, seed=9), LINE.format(number=1)),
    "a session of another shard": (
        lambda s: edit_line(s, 0, session_id="planning-move"),
        LINE.format(number=1),
    ),
    "unfinished": (lambda s: cut_lines(s, 2), "shard-2: has 2 of 4 sessions; serve the rest"),
    "never begun": (lambda s: (s / "sessions.jsonl").unlink(), "shard-2: has 0 of 4 sessions"),
    "other sessions": (
        lambda s: edit_manifest(s, whole__sessions_hash="0"),
        "is a shard of another run than .*sessions_hash",
    ),
    "another file of the user's": (
        lambda s: edit_manifest(s, sources={"m.py:M": "0"}),
        "is a shard of another run than .*m.py:M: None there, '0' here",
    ),
}


def refuses(out: Path, shards: list[Path], said: str, partial: bool = False) -> None:
    with pytest.raises(UserError, match=said) as caught:
        merge_runs(out, shards, partial=partial)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    assert not list(out.parent.glob(".*merging*"))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_shard_with_a_fault_is_named_and_nothing_is_written(
    fault: str, shards: list[Path], tmp_path: Path
) -> None:
    damage, said = FAULTS[fault]
    damage(shards[1])
    refuses(tmp_path / "out", shards, said)


PARTIAL = ("a torn line", "unfinished", "never begun")


@pytest.mark.parametrize("fault", [name for name in FAULTS if name not in PARTIAL])
def test_partial_excuses_only_what_is_missing(
    fault: str, shards: list[Path], tmp_path: Path
) -> None:
    damage, said = FAULTS[fault]
    damage(shards[1])
    refuses(tmp_path / "out", shards, said, partial=True)


@pytest.mark.parametrize("fault", PARTIAL)
def test_partial_takes_what_is_there_and_the_run_can_go_on(
    fault: str, shards: list[Path], plan: Plan, tmp_path: Path
) -> None:
    FAULTS[fault][0](shards[1])
    there = {key_of(r) for shard in shards for r in read_sessions(shard)}
    merged = merge_runs(tmp_path / "out", shards, partial=True)
    assert (merged.sessions, merged.missing) == (len(there), 16 - len(there))
    with Store(tmp_path / "out", plan.manifest()) as store:
        assert store.finished() == there


def test_a_missing_shard_is_named(shards: list[Path], tmp_path: Path) -> None:
    refuses(tmp_path / "out", [shards[1]], "1/3, 3/3 are missing")
    merged = merge_runs(tmp_path / "out", [shards[1]], partial=True)
    assert [str(s) for s in merged.shards] == ["2/3"]
    assert (merged.sessions, merged.missing) == (4, 12)


@pytest.mark.parametrize("partial", [False, True])
def test_a_shard_twice_is_refused(shards: list[Path], tmp_path: Path, partial: bool) -> None:
    copy = shutil.copytree(shards[0], tmp_path / "copy")
    said = "is shard 1/3, and so is"
    refuses(tmp_path / "out", [*shards, copy], said, partial)
    refuses(tmp_path / "out", [*shards, shards[0]], said, partial)


def test_a_run_in_one_piece_is_no_shard(shards: list[Path], plan: Plan, tmp_path: Path) -> None:
    fill(tmp_path / "whole", plan.manifest(), plan, [])
    refuses(tmp_path / "out", [*shards, tmp_path / "whole"], "is no shard of a run")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"max_new_tokens": 5}, "spec.generation.max_new_tokens: 16 there, 5 here"),
        ({"seed": 4}, r"spec.seeds\[0\]: 0 there, 4 here"),
        ({"limit": 5}, r"spec.tasks\[0\].limit: 4 there, 5 here"),
        ({"methods": ("surrogate", "original")}, r"spec.methods\[0\].id"),
    ],
)
def test_a_shard_of_another_question_shows_the_fields(
    changes: dict[str, Any], field: str, shards: list[Path], tmp_path: Path
) -> None:
    other = shard_folder(tmp_path, plan_of(**changes), 2)
    refuses(tmp_path / "out", [shards[0], other, shards[2]], field)


def test_a_shard_of_another_count_is_of_another_run(
    shards: list[Path], plan: Plan, tmp_path: Path
) -> None:
    other = shard_folder(tmp_path, plan, 2, count=4)
    refuses(tmp_path / "out", [shards[0], other], "shards: 3 there, 4 here", partial=True)


def test_prose_makes_no_other_question(shards: list[Path], tmp_path: Path) -> None:
    edit_manifest(shards[1], spec__summary="other words", spec__pair__summary="here too")
    assert merge_runs(tmp_path / "out", shards, partial=False).sessions == 16


def test_other_machines_and_code_are_told(shards: list[Path], tmp_path: Path) -> None:
    edit_manifest(shards[1], hardware__machine_class="big", code_version="abc")
    edit_manifest(shards[2], packages__torch="0.1")
    merged = merge_runs(tmp_path / "out", shards, partial=False)
    told = [line.split(": ")[0] for line in merged.differing]
    assert told == ["code_version", "machine_class", "packages.torch"]
    assert "'big' in" in merged.differing[1]
    facts = read_manifest(tmp_path / "out")["shards"]
    assert facts[1]["machine_class"] == "big"


@pytest.mark.parametrize("what", ["file", "full", "shard"])
def test_an_out_that_is_not_empty_is_left_alone(
    what: str, shards: list[Path], tmp_path: Path
) -> None:
    out = shards[0] if what == "shard" else tmp_path / "out"
    if what == "file":
        out.write_text("mine")
    elif what == "full":
        out.mkdir()
        (out / "mine").touch()
    before = tree(tmp_path, ".")
    with pytest.raises(UserError, match="not empty; choose another OUT"):
        merge_runs(out, shards, partial=False)
    assert tree(tmp_path, ".") == before


def test_an_empty_out_is_taken(shards: list[Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert merge_runs(tmp_path / "out", shards, partial=False).sessions == 16
    assert (tmp_path / "out" / "manifest.json").exists()


def test_what_cannot_be_written_leaves_nothing(shards: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        merge_runs(tmp_path / "file" / "out", shards, partial=False)
    failed = next(r for r in read_sessions(shards[0]) if r["outcome"] == "error")
    name = shards[0] / "adapters" / unit_hash(key_of(failed)) / "adapter-1" / "a.bin"
    name.unlink()
    name.symlink_to(tmp_path / "nothing")
    refuses(tmp_path / "out", shards, "cannot be written")


def test_the_command_line_says_a_fault_in_one_line(
    bench: Callable[..., Result], shards: list[Path]
) -> None:
    repeat_first(shards[2])
    result = bench("merge", "out", *shards)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {shards[2]}/sessions.jsonl:5: holds (")
    assert result.stderr.count("\n") == 1
    assert not Path("out").exists()
