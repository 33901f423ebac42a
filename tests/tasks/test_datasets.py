"""What holds for every published dataset: its card, its page, its source, its errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import Result

from harness import registry
from harness.dataset import Dataset
from harness.errors import UserError

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "datasets"
COMMIT = re.compile(r"/[0-9a-f]{40}/")


def datasets() -> dict[str, type[Dataset]]:
    tasks = registry.tasks()
    found = {e.name: tasks.load(e.name, "test") for e in tasks.entries()}
    return {name: cls for name, cls in found.items() if issubclass(cls, Dataset)}


each = pytest.mark.parametrize(("name", "cls"), datasets().items(), ids=list(datasets()))


def test_they_are_all_there() -> None:
    paper = {"sharegpt", "remedi", "craigslist", "multi_char", "math", "mt_bench"}
    others = {"mts_dialog", "casino", "light", "crd3", "gsm8k_socratic", "mathchat", "mt_bench_101"}
    assert set(datasets()) == paper | others


@each
def test_the_card_says_what_one_must_know(name: str, cls: type[Dataset]) -> None:
    card = cls.card
    assert card.license and card.language and card.citation and card.origin
    assert card.reference_kind in ("human", "model")
    assert card.default_warm_turns >= 1
    assert cls.scorers and cls.patterns


@each
def test_it_has_a_page_that_agrees(name: str, cls: type[Dataset]) -> None:
    overview = (PAGES / "README.md").read_text("utf-8")
    card = cls.card
    row = f"| {card.license} | {card.reference_kind} | {card.default_warm_turns} |"
    (line,) = re.findall(rf"^\| \[`{name}`\]\({name}\.md\) .*$", overview, flags=re.M)
    assert row in line
    assert line.endswith("| yes |" if cls.remote else "| no |")
    page = (PAGES / f"{name}.md").read_text("utf-8").lower()
    assert "live" in page and "replay" in page
    own = set(cls.model_fields) - {"path"}
    assert [argument for argument in own if f"`{argument}`" not in page] == []


@each
def test_what_can_be_fetched_is_pinned(name: str, cls: type[Dataset]) -> None:
    """To a commit, over TLS, each under a name of its own that the task would find in a folder."""
    names = [file.name for file in cls.remote]
    assert len(set(names)) == len(names)
    for file in cls.remote:
        url = urlsplit(file.url)
        assert url.scheme == "https"
        assert url.netloc in ("huggingface.co", "raw.githubusercontent.com")
        assert COMMIT.search(url.path), file.url
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256)


@each
def test_without_data_one_line_says_how_to_get_them(
    name: str, cls: type[Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMA_BENCH_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="the data are not here") as raised:
        list(cls().items())
    assert raised.value.place == f"{name}: path"
    assert ("fetch " + name in raised.value.problem) == bool(cls.remote)
    with pytest.raises(UserError, match="no such file"):
        list(cls(path=tmp_path / "gone.json").items())


@each
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n" + bytes(64), b"[{", b'["x"]', b"7"])
def test_a_file_of_another_kind_is_one_error(
    name: str, cls: type[Dataset], content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "question.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        list(cls(path=path).items())
    assert raised.value.place.startswith(str(path))
    assert "\n" not in str(raised.value)


def test_no_published_data_are_in_the_repository() -> None:
    """Bundled data are the project's own; fixtures are small, and none is a published file."""
    files = [p for p in (ROOT / "tests" / "fixtures").rglob("*") if p.is_file()]
    assert files
    assert max(p.stat().st_size for p in files) < 32 * 1024
    published = {file.name for cls in datasets().values() for file in cls.remote if file.sha256}
    named = {p for p in (ROOT / "tasks").rglob("*") if p.name in published}
    assert named == set()


# Counted by hand in each dataset's own tests, which say how.
SAMPLES = {
    "sharegpt": ("sharegpt/dialogstudio_original_example.json", 4, 14, {}),
    "sharegpt, own numbers": ("sharegpt/fastchat_dummy_conversation.json", 500, 1000, {}),
    "remedi": ("remedi/dev_human_annotation.head.txt", 39, 334, {}),
    "remedi, crawl": ("remedi/000001.session.json", 1, 18, {}),
    "mts_dialog": ("extra_mts_dialog/MTS-Dialog-ValidationSet.csv", 100, 392, {}),
    "craigslist": ("craigslist/dialograph_test.head.json", 108, 411, {}),
    "craigslist, original": ("craigslist/dialogstudio_original_examples.json", 5, 19, {}),
    "casino": ("extra_casino/casino_valid.json", 30, 206, {}),
    "light": ("multi_char", 3, 9, {}),
    "crd3": ("multi_char/crd3_C1E001_2_0.head.json", 14, 162, {}),
    "gsm8k_socratic": ("math/gsm8k_test_socratic.head.jsonl", 200, 697, {}),
    "mathchat": ("math/mathchat_follow_up.head.jsonl", 126, 378, {}),
    "mt_bench": ("mt_bench", 80, 160, {"wrong_reference": 2}),
    "mt_bench_101": ("extra_mtbench101/mtbench101.head.jsonl", 234, 700, {}),
    "jsonl": ("extra_soma_demo/demo_dialogues.json", 4, 20, {}),
}


@pytest.mark.parametrize("case", SAMPLES)
def test_stats_of_every_real_sample(
    case: str, bench: Callable[..., Result], real_sample: Callable[[str], Path]
) -> None:
    name = case.split(",")[0]
    file, sessions, user_turns, dropped = SAMPLES[case]
    result = bench("tasks", "stats", name, "--path", real_sample(file), "--json")
    assert result.exit_code == 0, result.output
    stats = json.loads(result.stdout)
    assert (stats["sessions"], stats["user_turns"]) == (sessions, user_turns)
    assert stats["dropped"] == dropped
    assert re.fullmatch(r"[0-9a-f]{64}", stats["sha256"])
    assert stats["files"]


@pytest.mark.parametrize("name", ["math", "sharegpt", "light", "casino"])
def test_two_machines_read_the_same(name: str, tmp_path: Path) -> None:
    """Another place, another hash seed, another zone and locale: the same sessions in order."""
    hashes = set()
    for number, zone in enumerate(("UTC", "Asia/Tokyo")):
        place = tmp_path / f"machine-{number}" / "data"
        shutil.copytree(ROOT / "tests" / "fixtures" / name, place)
        path = max((p for p in place.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
        words = ["tasks", "stats", name, "--path", str(path.relative_to(place)), "--json"]
        words += ["--arg", "problems=2"] if name == "math" else []
        done = subprocess.run(
            [sys.executable, str(ROOT / "run_bench.py"), *words],
            cwd=place,
            env={**os.environ, "PYTHONHASHSEED": str(number), "TZ": zone, "LC_ALL": "C"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        stats = json.loads(done.stdout)
        assert stats["sessions"] >= 1
        hashes.add(stats["sha256"])
    assert len(hashes) == 1
