"""What a method keeps on a worker's machine ends up where the local executor leaves it."""

from __future__ import annotations

from pathlib import Path

from harness.executors.kept_files import put_kept, take_kept
from harness.store import ADAPTERS, WORK, UnitKey
from harness.workspace import Workspace

KEY = UnitKey("m", "t", "s", 0)


def keep(run: Path) -> None:
    with Workspace(run, KEY) as workspace:
        folder = workspace.folder("adapter-1", keep=True)
        (folder / "deep").mkdir()
        (folder / "deep" / "weights.bin").write_bytes(bytes(range(256)))
        (folder / "empty").touch()
        workspace.finished()


def tree(run: Path) -> dict[str, bytes]:
    files = [p for p in (run / ADAPTERS).rglob("*") if p.is_file()]
    return {p.relative_to(run).as_posix(): p.read_bytes() for p in files}


def test_kept_files_arrive_as_they_were_and_are_gone_where_they_came_from(tmp_path: Path) -> None:
    here, scratch, run = (tmp_path / name for name in ("here", "scratch", "run"))
    for folder in (here, scratch, run):
        folder.mkdir()
    keep(here)
    keep(scratch)
    put_kept(run, KEY, take_kept(scratch, KEY))
    assert tree(run) == tree(here)
    assert len(tree(here)) == 3
    assert tree(scratch) == {}
    assert list((run / WORK).iterdir()) == []
    keep(scratch)


def test_a_session_that_kept_nothing_leaves_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    put_kept(run, KEY, take_kept(tmp_path / "scratch", KEY))
    assert list(run.iterdir()) == []
