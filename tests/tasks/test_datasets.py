"""What holds for every published dataset: its card, its page, its source, its errors."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

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
