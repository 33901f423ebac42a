"""From what the command line says of a task to the task: its name, `--path` and `--arg`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from harness import registry
from harness.errors import UserError
from harness.plan import build_task
from harness.profile import parse_value
from harness.spec import TaskSpec
from harness.task import Task

_PATH = "path"


def task_class(name: str) -> type[Task]:
    """The class of a task, by name or as `path/to/file.py:Class`. Raises UserError for none."""
    return registry.tasks().load(name, "tasks")


def open_task(name: str, path: Path | None, args: Sequence[str]) -> Task:
    """The task with its arguments. Raises UserError naming the option of anything wrong."""
    task_class(name)
    return build_task(TaskSpec(name=name, args=task_args(name, path, args)), "tasks")


def task_args(name: str, path: Path | None, args: Iterable[str]) -> dict[str, Any]:
    """The arguments that `--path` and `--arg KEY=VALUE` give; values are TOML where they can be.

    Raises UserError for an option that is malformed, is given twice, or does not fit the task.
    """
    found: dict[str, Any] = {}
    for text in args:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise UserError("--arg", f"{text!r} is not KEY=VALUE, e.g. seed=1")
        if key in found:
            raise UserError("--arg", f"{key} is given twice; keep one")
        found[key] = parse_value(value)
    if path is not None:
        fields = task_class(name).model_fields
        if _PATH not in fields:
            known = ", ".join(fields) or "none"
            raise UserError("--path", f"task {name} reads no file of yours; its arguments: {known}")
        if _PATH in found:
            raise UserError("--path", f"--arg {_PATH}=... says it too; keep one")
        found[_PATH] = str(path)
    return found
