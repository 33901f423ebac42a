"""From a profile to what will be served: the spec, its methods built, its sessions loaded.

Everything a user can get wrong is found here, before a run folder exists.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

import harness
from harness import registry
from harness.config_errors import describe
from harness.errors import UserError
from harness.measure.machine import code_version, hardware, packages
from harness.method import Method
from harness.record import SCHEMA_VERSION, Manifest
from harness.session import Session
from harness.spec import HASH_RECIPE, MethodSpec, RunSpec, TaskSpec
from harness.store import UnitKey
from harness.task import Task

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
    """A validated run: `sessions` by task name, `blocks` in the order they are served.

    `warm_turns`: the default W of each task, from its card.
    """

    spec: RunSpec
    methods: dict[str, Method]
    sessions: dict[str, tuple[Session, ...]]
    warm_turns: dict[str, int]

    def blocks(self) -> Iterator[Block]:
        """Method order is drawn anew for every (seed, task): a machine's drift hits all alike."""
        for seed in self.spec.seeds:
            for task in self.spec.tasks:
                order = list(self.methods)
                random.Random(f"{seed}/{task.name}").shuffle(order)
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
            sessions_hash=_sessions_hash(self.sessions),
            sources=self.sources(),
            warmup=list(WARMUP_PROMPTS) if self.spec.warmup else [],
            hardware=hardware(),
            packages=packages(),
            created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )


def make_plan(spec: RunSpec, place: str) -> Plan:
    """Build the methods and load the sessions of `spec`; `place` names it in error messages."""
    methods = {m.id: build_method(m, place) for m in spec.methods}
    for task in spec.tasks:
        for scorer in task.scorers or ():
            registry.scorers().check(scorer, f"{place}: task {task.name}: scorers")
    tasks = {t.name: build_task(t, place) for t in spec.tasks}
    sessions = {t.name: _sessions_of(tasks[t.name], t, place) for t in spec.tasks}
    warm_turns = {name: task.card.default_warm_turns for name, task in tasks.items()}
    return Plan(spec, methods, sessions, warm_turns)


def build_method(spec: MethodSpec, place: str) -> Method:
    """The method of `spec` with its arguments checked. Raises UserError naming the argument."""
    cls = registry.methods().load(spec.name, place)
    return _build(cls, spec.args, f"{place}: method {spec.name}")


def build_task(spec: TaskSpec, place: str) -> Task:
    """The task of `spec` with its arguments checked. Raises UserError naming the argument."""
    cls = registry.tasks().load(spec.name, place)
    return _build(cls, spec.args, f"{place}: task {spec.name}")


def _sessions_of(task: Task, spec: TaskSpec, place: str) -> tuple[Session, ...]:
    """The sessions of a task under its limits. Raises UserError for bad data or none at all."""
    # All of them are read, also under a limit: bad data must be found before a run begins.
    everything = list(task.sessions())
    sessions = tuple(_shorten(s, spec.max_turns) for s in everything[: spec.limit])
    if not sessions:
        raise UserError(place, f"task {spec.name!r} has no sessions")
    seen: set[str] = set()
    for session in everything:
        if session.id in seen:
            raise UserError(place, f"task {spec.name!r} has two sessions {session.id!r}")
        seen.add(session.id)
        if not session.turns:
            raise UserError(place, f"task {spec.name!r}: session {session.id!r} has no user turns")
    return sessions


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


def _shorten(session: Session, max_turns: int | None) -> Session:
    if max_turns is None or len(session.turns) <= max_turns:
        return session
    values = {f: getattr(session, f) for f in session.__dataclass_fields__}
    for name in ("turns", "references", "gold"):
        if values[name] is not None:
            values[name] = values[name][:max_turns]
    return Session(**values)


def _sessions_hash(sessions: dict[str, tuple[Session, ...]]) -> str:
    content = {task: [asdict(s) for s in group] for task, group in sessions.items()}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
