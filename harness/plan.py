"""From a profile to what will be served: the spec, its methods built, its sessions loaded.

Everything a user can get wrong is found here, before a run folder exists.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

import harness
from harness import registry
from harness.config_errors import describe
from harness.data.files import hashes_of
from harness.loading import Loaded, load_sessions
from harness.measure.machine import code_version, hardware, packages
from harness.method import Method
from harness.record import SCHEMA_VERSION, Manifest
from harness.session import Session
from harness.spec import HASH_RECIPE, MethodSpec, RunSpec, TaskSpec
from harness.store import UnitKey
from harness.task import Drop, Task

M = TypeVar("M", bound=BaseModel)

WARMUP_PROMPTS = (
    "Say hello.",
    "Name three colors, and for each of them one thing in a kitchen that often has it.",
    "The bus leaves at ten past eight and takes a quarter of an hour. My class starts at half past "
    "eight, and the school is five minutes on foot from the stop. Will I be there in time? Explain "
    "how you worked it out, then tell me how many minutes I have left or how late I will be.",
)
"""Served before anything is measured; no bundled task asks any of this."""


@dataclass(frozen=True)
class Unit:
    """One (method, session, seed) to serve."""

    key: UnitKey
    method: Method
    session: Session


@dataclass(frozen=True)
class Block:
    """Units served together: one method on one task under one seed."""

    method: str
    task: str
    seed: int
    units: tuple[Unit, ...]


@dataclass(frozen=True)
class Plan:
    """A validated run: sessions by task name, `blocks` in the order they are served.

    `data`: of each task that reads files, their names and SHA-256. `warm_turns`: the default W of
    each task, from its card.
    """

    spec: RunSpec
    methods: dict[str, Method]
    loaded: dict[str, Loaded]
    data: dict[str, dict[str, str]]
    warm_turns: dict[str, int]

    @property
    def sessions(self) -> dict[str, tuple[Session, ...]]:
        return {task: loaded.sessions for task, loaded in self.loaded.items()}

    def blocks(self) -> Iterator[Block]:
        """Method order is drawn anew for every (seed, task): a machine's drift hits all alike.

        In replay the reference comes first: the others' histories are made of its replies.
        """
        for seed in self.spec.seeds:
            for task in self.spec.tasks:
                order = list(self.methods)
                random.Random(f"{seed}/{task.name}").shuffle(order)
                if self.spec.history == "replay":
                    order.sort(key=lambda method: method != self.spec.reference)
                for method in order:
                    units = tuple(
                        Unit(UnitKey(method, task.name, s.id, seed), self.methods[method], s)
                        for s in self.sessions[task.name]
                    )
                    yield Block(method, task.name, seed, units)

    def sources(self) -> dict[str, str]:
        """Hashes of the user's own files that the spec names by path."""
        names = [m.name for m in self.spec.methods] + [t.name for t in self.spec.tasks]
        names += [scorer for t in self.spec.tasks for scorer in t.scorers or ()]
        hashes = {name: registry.source_hash(name) for name in names}
        return {name: found for name, found in hashes.items() if found is not None}

    def manifest(self) -> Manifest:
        return Manifest(
            schema=SCHEMA_VERSION,
            spec=self.spec.canonical(),
            spec_hash=self.spec.hash(),
            hash_recipe=HASH_RECIPE,
            harness_version=harness.__version__,
            code_version=code_version(),
            sessions={task: [s.id for s in group] for task, group in self.sessions.items()},
            sessions_hash=self._sessions_hash(),
            task_hashes={task: loaded.digest for task, loaded in self.loaded.items()},
            dropped={
                task: dict(Counter(drop.reason for drop in loaded.dropped))
                for task, loaded in self.loaded.items()
            },
            data=self.data,
            sources=self.sources(),
            warmup=list(WARMUP_PROMPTS) if self.spec.warmup else [],
            hardware=hardware(),
            packages=packages(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _sessions_hash(self) -> str:
        """One hash over all tasks, whatever their order."""
        lines = sorted(f"{task} {loaded.digest}\n" for task, loaded in self.loaded.items())
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def make_plan(spec: RunSpec, place: str, judging: Callable[[str], None] | None = None) -> Plan:
    """Build the methods and load the sessions of `spec`; `place` names it in error messages.

    `judging` is told the task's name for every session that a filter is about to judge.
    """
    methods = {m.id: build_method(m, place) for m in spec.methods}
    for task in spec.tasks:
        for scorer in task.scorers or ():
            registry.scorers().check(scorer, f"{place}: task {task.name}: scorers")
    tasks = {t.name: build_task(t, place) for t in spec.tasks}
    loaded = {t.name: _load(tasks[t.name], t, place, judging) for t in spec.tasks}
    data = {name: found for name, task in tasks.items() if (found := hashes_of(task.files()))}
    warm_turns = {name: task.card.default_warm_turns for name, task in tasks.items()}
    return Plan(spec, methods, loaded, data, warm_turns)


def _load(task: Task, spec: TaskSpec, place: str, judging: Callable[[str], None] | None) -> Loaded:
    if spec.context is None:
        return load_sessions(task, spec, place)
    from harness.context.filter import ContextFilter

    def keep(session: Session) -> Drop | None:
        if judging is not None:
            judging(spec.name)
        return judge(session)

    judge = ContextFilter(spec.context)
    try:
        return load_sessions(task, spec, place, keep)
    finally:
        judge.close()


def build_method(spec: MethodSpec, place: str) -> Method:
    """The method of `spec` with its arguments checked. Raises UserError naming the argument."""
    cls = registry.methods().load(spec.name, place)
    return _build(cls, spec.args, f"{place}: method {spec.name}")


def build_task(spec: TaskSpec, place: str) -> Task:
    """The task of `spec` with its arguments checked. Raises UserError naming the argument."""
    cls = registry.tasks().load(spec.name, place)
    return _build(cls, spec.args, f"{place}: task {spec.name}")


def canonical_args(spec: MethodSpec, method: Method) -> MethodSpec:
    """`spec` with its arguments as the method understood them, defaults left out."""
    return spec.model_copy(update={"args": method.model_dump(mode="json", exclude_defaults=True)})


def canonical_task(spec: TaskSpec, task: Task) -> TaskSpec:
    """`spec` with its scorers named, and its arguments as the task understood them."""
    args = task.model_dump(mode="json", exclude_defaults=True)
    return spec.model_copy(update={"args": args, "scorers": spec.scorers or task.scorers})


def _build(cls: type[M], args: dict[str, Any], place: str) -> M:
    try:
        return cls(**args)
    except ValidationError as error:
        raise describe(error, cls, place) from None
