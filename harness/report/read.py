"""A run folder as the reports read it: sorted, so that the order of its lines never matters."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from harness.errors import UserError
from harness.record import Manifest, ScoreRecord, SessionRecord, WorkerRecord
from harness.score import scorers_by_task, sessions_by_key
from harness.spec import EVERY_TASK
from harness.stats import Attempt
from harness.store import SCORES, read_manifest

ALL = EVERY_TASK
"""The name under which a method's results over every task stand."""

_HIDDEN_QUEUE = "openai"
"""The engine that cannot tell waiting from work: both happen behind a server."""


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

    @cached_property
    def machine_classes(self) -> list[str]:
        """Of the machines that served the run's sessions."""
        return sorted({w["machine_class"] for w in self._workers})

    @cached_property
    def worker_count(self) -> int:
        """How many processes served the run's sessions."""
        return len({(w["machine_class"], w["index"]) for w in self._workers})

    @property
    def _workers(self) -> list[WorkerRecord]:
        served = [s for s in self.sessions if s["outcome"] == "scored"]
        return [s["worker"] for s in served if s["worker"] is not None]

    @property
    def timing_refused(self) -> str | None:
        """Why the run has no times, no memory and no cost by time; None: it has."""
        if len(self.machine_classes) < 2:
            return None
        names = ", ".join(name or "unknown" for name in self.machine_classes)
        return f"the sessions were served on machines of several classes ({names})"

    def caches(self, method: str) -> bool:
        """Whether a method was served with the prefix cache on."""
        (own,) = [m["prefix_cache"] for m in self.spec["methods"] if m["id"] == method]
        return bool((own or self.spec["prefix_cache"]) == "on")

    @cached_property
    def cached_reference(self) -> str | None:
        """The method that differs from the reference only by having the prefix cache on."""
        if self.reference is None or self.caches(self.reference):
            return None
        same = {m["id"]: (m["name"], m["args"]) for m in self.spec["methods"]}
        twins = [m for m in self.methods if same[m] == same[self.reference] and self.caches(m)]
        return twins[0] if twins else None

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
            self._hidden_queues,
            self.timing_refused is not None,
        )

    @cached_property
    def _hidden_queues(self) -> frozenset[str]:
        pair = self.spec["pair"]
        return frozenset(r for r in ("F", "G") if pair[r]["engine"] == _HIDDEN_QUEUE)


@dataclass(frozen=True)
class Cell:
    """The sessions and scores of one method on one task (or on all).

    `hidden_queues`: the models whose engine does not tell how long a request waited in it.
    `unlike_machines`: whether machines of several classes served the run.
    """

    sessions: tuple[SessionRecord, ...]
    scores: tuple[ScoreRecord, ...]
    hidden_queues: frozenset[str] = frozenset()
    unlike_machines: bool = False

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
