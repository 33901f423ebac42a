"""Where methods, tasks and scorers are found by name. The only place that reaches them.

An entry point of a group names a package ("baselines": every public module in it that defines the
class its file name announces is one entry: `history_prefix.py` defines `HistoryPrefix`) or one
class ("soma.method:Soma"). A user may also name `path/to/file.py:Name`. Listing reads sources with
`ast` and imports nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar

from harness.errors import BenchError, UserError, nearest
from harness.method import Method
from harness.task import Task

T = TypeVar("T")

_USER_MODULE = "soma_bench_user_"


@dataclass(frozen=True)
class Entry:
    """A registered name: its summary (first docstring line) and the class it stands for."""

    name: str
    summary: str
    module: str
    attribute: str


@dataclass(frozen=True)
class Registry(Generic[T]):
    """One kind of thing by name. `kind` is its plural in messages, `base` what classes must be."""

    kind: str
    group: str
    base: type[T]

    def entries(self) -> list[Entry]:
        """All registered entries by name. Raises BenchError when two claim the same name."""
        found: dict[str, Entry] = {}
        for point in entry_points(group=self.group):
            for entry in _entries_of(point):
                other = found.setdefault(entry.name, entry)
                if (other.module, other.attribute) != (entry.module, entry.attribute):
                    raise BenchError(
                        f"{self.kind} {entry.name!r} is claimed by {other.module}:{other.attribute}"
                        f" and by {entry.module}:{entry.attribute}; uninstall or rename one"
                    )
        return sorted(found.values(), key=lambda e: e.name)

    def check(self, name: str, place: str) -> Entry:
        """The entry registered as `name`, not imported. Raises UserError at `place` for none."""
        by_name = {e.name: e for e in self.entries()}
        if name in by_name:
            return by_name[name]
        if not by_name:
            raise UserError(place, f"no {self.kind} are registered; install with `make setup`")
        raise UserError(place, f"no {self.kind} named {name!r}; {nearest(name, by_name)}")

    def load(self, name: str, place: str) -> type[T]:
        """The class registered as `name`, or at `path/to/file.py:Name`.

        Raises UserError at `place` for an unknown name, a missing file or a class of another kind.
        """
        if ".py:" in name:
            target = _load_from_path(name, place)
        else:
            entry = self.check(name, place)
            target = getattr(importlib.import_module(entry.module), entry.attribute)
        if not (isinstance(target, type) and issubclass(target, self.base)):
            raise UserError(place, f"{name!r} is not a subclass of {self.base.__name__}")
        undefined = sorted(getattr(target, "__abstractmethods__", ()))
        if undefined:
            raise UserError(place, f"{name!r} does not define {', '.join(undefined)}")
        return target


def methods() -> Registry[Method]:
    # An abstract class serves `issubclass` as well as a concrete one.
    return Registry("methods", "soma_bench.methods", Method)  # type: ignore[type-abstract]


def tasks() -> Registry[Task]:
    return Registry("tasks", "soma_bench.tasks", Task)  # type: ignore[type-abstract]


def scorers() -> Registry[Any]:
    return Registry("scorers", "soma_bench.scorers", object)


def name_of(cls: type) -> str:
    """How the command line calls a class: its registered name, or `file.py:Name`."""
    package, _, module = cls.__module__.rpartition(".")
    if package:
        return module
    return f"{module.removeprefix(_USER_MODULE)}.py:{cls.__name__}"


def source_hash(name: str) -> str | None:
    """SHA-256 of the file that `path/to/file.py:Name` names; None for a registered name."""
    if ".py:" not in name:
        return None
    return hashlib.sha256(Path(name.rsplit(":", 1)[0]).read_bytes()).hexdigest()


def _entries_of(point: EntryPoint) -> Iterator[Entry]:
    if ":" in point.value:
        module, attribute = point.value.split(":", 1)
        source = _source(module)
        if source is not None:
            tree = ast.parse(source.read_text("utf-8"))
            yield Entry(point.name, _summary(tree), module, attribute)
        return
    package = importlib.util.find_spec(point.value)
    for folder in (package.submodule_search_locations or ()) if package else ():
        for file in sorted(Path(folder).glob("*.py")):
            if file.stem.startswith("_"):
                continue
            tree = ast.parse(file.read_text("utf-8"))
            attribute = _camel(file.stem)
            if any(isinstance(n, ast.ClassDef) and n.name == attribute for n in tree.body):
                yield Entry(file.stem, _summary(tree), f"{point.value}.{file.stem}", attribute)


def _source(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


def _summary(tree: ast.Module) -> str:
    return (ast.get_docstring(tree) or "").split("\n", 1)[0]


def _camel(stem: str) -> str:
    return "".join(part.capitalize() for part in stem.split("_"))


def _load_from_path(name: str, place: str) -> Any:
    path_text, attribute = name.rsplit(":", 1)
    path = Path(path_text)
    if not path.is_file():
        raise UserError(place, f"{path_text}: no such file; give path/to/file.py:ClassName")
    module_name = f"{_USER_MODULE}{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(place, f"{path_text} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise UserError(
            place, f"{path_text} does not import: {type(error).__name__}: {error}"
        ) from error
    if not hasattr(module, attribute):
        classes = [k for k, v in vars(module).items() if isinstance(v, type)]
        raise UserError(
            place, f"{path_text} defines no {attribute!r}; {nearest(attribute, classes)}"
        )
    return getattr(module, attribute)
