"""Names to classes: lazily, with help for a mistyped one, and from a file by path."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from harness import registry
from harness.errors import BenchError, UserError
from harness.method import Method

METHOD_FILE = '''"""A method of a user."""
from harness.method import Method

class Mine(Method):
    """Mine."""
    knob: int = 1

    async def open(self, session, engines):
        raise RuntimeError("not opened in these tests")

class Unfinished(Method):
    """Lacks `open`."""

class Other:
    """No method."""
'''


def test_every_registered_entry_loads_and_has_a_summary() -> None:
    for kind in (registry.methods(), registry.tasks(), registry.scorers()):
        entries = kind.entries()
        assert entries
        for entry in entries:
            assert entry.summary, f"{entry.name} has no docstring"
            assert kind.load(entry.name, "test").__name__ == entry.attribute


def test_listing_imports_none_of_it() -> None:
    code = (
        "import sys; from harness import registry; registry.methods().entries();"
        "registry.tasks().entries(); registry.scorers().entries();"
        "heavy = {'torch', 'transformers', 'evaluate', 'pandas', 'baselines.original'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(
        UserError, match=r"place: no methods named 'orignal'; did you mean 'original'"
    ):
        registry.methods().load("orignal", "place")


def test_a_class_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(METHOD_FILE)
    cls = registry.methods().load(f"{path}:Mine", "place")
    assert issubclass(cls, Method)
    assert cls.model_validate({"knob": "3"}).model_dump() == {"knob": 3}


@pytest.mark.parametrize(
    ("suffix", "source", "problem"),
    [
        (":Mine", None, "no such file"),
        (":Mien", METHOD_FILE, "did you mean 'Mine'"),
        (":Other", METHOD_FILE, "not a subclass of Method"),
        (":Unfinished", METHOD_FILE, "does not define open"),
        (":Mine", "import nothing_of_that_name", "does not import: ModuleNotFoundError"),
        (":Mine", "class Mine(", "does not import: SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, suffix: str, source: str | None, problem: str
) -> None:
    path = tmp_path / "mine.py"
    if source is not None:
        path.write_text(source)
    with pytest.raises(UserError, match=problem):
        registry.methods().load(f"{path}{suffix}", "place")


def test_two_packages_claiming_one_name_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("baselines", "baselines", "soma_bench.methods"),
        EntryPoint("original", "baselines.surrogate:Surrogate", "soma_bench.methods"),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    with pytest.raises(BenchError, match=r"'original' is claimed by .* and by"):
        registry.methods().entries()


def test_nothing_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [])
    with pytest.raises(UserError, match="make setup"):
        registry.methods().load("original", "place")
