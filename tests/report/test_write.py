"""Whole reports: what is written, that it repeats byte for byte, and that nothing breaks it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.report.figures import figures
from harness.report.tables import QUALITY_TABLES
from harness.report.write import write_report
from tests.report.synthetic import CACHED, SHIFT, build_run, read_records, score, write_sessions

TABLE_NAMES = {
    "main",
    "main_by_task",
    "quality",
    "quality_difference",
    "quality_tokens",
    "latency",
    "latency_percentiles",
    "first_token",
    "memory",
    "cost",
}


def stems(folder: Path) -> list[str]:
    return list(figures(json.loads((folder / "summary.json").read_text("utf-8"))))


def report(folder: Path, **options: object) -> Path:
    build_run(folder, **options)  # type: ignore[arg-type]
    score(folder)
    write_report(folder)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "sessions.jsonl"
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report(tmp_path_factory.mktemp("write") / "run")


def test_files(run: Path) -> None:
    names = set(content(run))
    assert {f"tables/{t}.{kind}" for t in TABLE_NAMES for kind in ("csv", "md", "tex")} <= names
    assert {f"figures/{stem}.{kind}" for stem in stems(run) for kind in ("png", "pdf")} <= names
    assert names - {n for n in names if "/" in n} == {
        "manifest.json",
        "report.html",
        "scores.jsonl",
        "summary.json",
    }


def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    other = content(report(tmp_path / "run", shuffle=5))
    mine = content(run)
    assert [name for name in mine if mine[name] != other[name]] == []


def test_quality_tables_do_not_depend_on_time(run: Path, tmp_path: Path) -> None:
    other = build_run(tmp_path / "run", pace=1.7)
    score(other)
    write_report(other)
    for table in QUALITY_TABLES:
        for kind in ("csv", "md", "tex"):
            name = f"tables/{table}.{kind}"
            assert (run / name).read_bytes() == (other / name).read_bytes(), name
    assert (run / "tables/latency.csv").read_bytes() != (other / "tables/latency.csv").read_bytes()


def test_captions_state_the_setting(run: Path) -> None:
    setting = "Pair toy, live history, prefix cache off, concurrency 1, seeds 0, n = 6 sessions"
    for table in TABLE_NAMES:
        text = (run / f"tables/{table}.md").read_text("utf-8")
        assert setting in text
        assert "machine cpu-2core" in text.replace("\\", "")


def test_page_is_self_contained(run: Path) -> None:
    page = (run / "report.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == len(stems(run))
    assert "http" not in page
    assert "<script" not in page


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", methods=("big",), tasks={"chat": ("c1",)})
    nasty = "<img src=x>&$x_1$"
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    manifest["spec"]["methods"][0]["id"] = nasty
    manifest["spec"]["reference"] = nasty
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    write_sessions(folder, [r | {"method": nasty} for r in read_records(folder)])
    score(folder)
    write_report(folder)
    assert "<img src=x>" not in (folder / "report.html").read_text("utf-8")
    assert r"\textless{}img src=x\textgreater{}\&\$x\_1\$" in (
        folder / "tables/main.tex"
    ).read_text("utf-8")


@pytest.mark.parametrize(
    "options",
    [
        {"methods": ("big",), "tasks": {"chat": ("c1",)}},
        {"methods": ("small",), "reference": None},
        {"all_errors": True},
        {"methods": ("big", CACHED, SHIFT), "concurrency": 2, "objectives": {"ttft_s": 0.5}},
    ],
    ids=["one method, one session, no gold", "no reference", "all errors", "load and a cache"],
)
def test_small_and_failed_runs_have_reports(tmp_path: Path, options: dict[str, object]) -> None:
    folder = report(tmp_path / "run", **options)
    assert json.loads((folder / "summary.json").read_text("utf-8"))["results"]
    for stem in stems(folder):
        assert (folder / f"figures/{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / f"figures/{stem}.pdf").read_bytes().startswith(b"%PDF")
    optional = {"load", "adaptation_under_load", "prefix_cache", "adaptation"}
    written = {path.stem for path in (folder / "tables").glob("*.tex")} - TABLE_NAMES
    assert written == (optional if "concurrency" in options else set())
