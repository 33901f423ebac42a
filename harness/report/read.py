"""A run folder as the reports read it: sorted, so that the order of its lines never matters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from harness.errors import UserError
from harness.record import Manifest, ScoreRecord, SessionRecord
from harness.score import scorers_by_task, sessions_by_key
from harness.spec import EVERY_TASK
from harness.stats import Attempt
from harness.store import SCORES, read_manifest

ALL = EVERY_TASK
"""The name under which a method's results over every task stand."""


@dataclass(frozen=True)
class RunData:
    """Manifest, sessions and scores of one run, sorted by key."""

    manifest: Manifest
    sessions: tuple[SessionRecord, ...]
    scores: tuple[ScoreRecord, ...]
    scorers: dict[str, tuple[str, ...]]

    @property
    def spec(self) -> dict[str, Any]:
        return self.manifest["spec"]

    @property
    def methods(self) -> list[str]:
        """Ids of the methods, in the order of the spec."""
        return [method["id"] for method in self.spec["methods"]]

    @property
    def tasks(self) -> list[str]:
        return [task["name"] for task in self.spec["tasks"]]

    @property
    def reference(self) -> str | None:
        return cast("str | None", self.spec["reference"])

    @property
    def scorer_names(self) -> list[str]:
        """Every scorer of the run once, in the order of the spec."""
        return list(dict.fromkeys(name for task in self.tasks for name in self.scorers[task]))

    @cached_property
    def turns_of(self) -> dict[Attempt, int]:
        """How many turns each session has, as far as any method got with it; at least 1."""
        found: dict[Attempt, int] = {}
        for session in self.sessions:
            known = max(1, len(session["turns"]), len(session["gold"] or ()))
            key = attempt(session)
            found[key] = max(found.get(key, 1), known)
        return found

    def expected(self) -> int:
        """How many (method, task, session, seed) the manifest asks for."""
        per_method = sum(len(ids) for ids in self.manifest["sessions"].values())
        return per_method * len(self.methods) * len(self.spec["seeds"])

    def of(self, task: str, method: str) -> Cell:
        """What one method did on one task, or on all of them."""
        tasks = self.tasks if task == ALL else [task]
        return Cell(
            tuple(s for s in self.sessions if s["method"] == method and s["task"] in tasks),
            tuple(s for s in self.scores if s["method"] == method and s["task"] in tasks),
        )


@dataclass(frozen=True)
class Cell:
    """The sessions and scores of one method on one task (or on all)."""

    sessions: tuple[SessionRecord, ...]
    scores: tuple[ScoreRecord, ...]

    @property
    def served(self) -> tuple[SessionRecord, ...]:
        return tuple(s for s in self.sessions if s["outcome"] == "scored")


def attempt(session: SessionRecord) -> Attempt:
    return (session["task"], session["session_id"], session["seed"])


def read_run(run: Path) -> RunData:
    """Read a scored run. Raises UserError when `run` is no run folder or has no scores yet."""
    manifest = read_manifest(run)
    return RunData(
        manifest=manifest,
        sessions=tuple(sessions_by_key(run)),
        scores=tuple(_read_scores(run / SCORES)),
        scorers=scorers_by_task(manifest, run),
    )


def _read_scores(path: Path) -> Iterable[ScoreRecord]:
    if not path.is_file():
        raise UserError(path, "does not exist; score the run first")
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                yield cast(ScoreRecord, json.loads(line))
            except ValueError as error:
                raise UserError(f"{path}:{number}", f"is damaged: {error}") from None
