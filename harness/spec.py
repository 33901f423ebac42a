"""A run as one frozen value: what is served, by which methods, under which settings.

Two runs with the same hash asked the same question. The hash recipe is versioned: a new field or a
new meaning takes a new version, so that old runs are never silently taken for new ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.context.settings import ContextSettings
from harness.engines.pairs import PairSpec

HASH_RECIPE = 4

EVERY_TASK = "all"
"""What reports call the rows over all tasks."""


class Strict(BaseModel):
    """Frozen, and refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Switch = Literal["on", "off"]


class MethodSpec(Strict):
    """One method of a run. `args` hold only what differs from its defaults.

    `prefix_cache`: whether engines may use a session's keys and values again when this method
    serves it; None, as the run has it.
    """

    name: str = Field(min_length=1)
    label: str | None = Field(default=None, pattern=r"^[\w.,:=+-]{1,60}$")
    args: dict[str, Any] = {}
    prefix_cache: Switch | None = None

    @property
    def id(self) -> str:
        """How records and tables call it: the label, or the name with its arguments."""
        if self.label:
            return self.label
        given = dict(sorted(self.args.items()))
        if self.prefix_cache is not None:
            given["prefix_cache"] = self.prefix_cache
        if not given:
            return self.name
        return f"{self.name}:" + ",".join(f"{k}={v}" for k, v in given.items())


class TaskSpec(Strict):
    """One task of a run. `limit`: the first so many sessions. `scorers`: None, the task's own.

    `context`: keep only sessions whose turns depend on what was said before; None, keep all.
    """

    name: str = Field(min_length=1)
    args: dict[str, Any] = {}
    limit: int | None = Field(default=None, ge=1)
    max_turns: int | None = Field(default=None, ge=1)
    scorers: tuple[str, ...] | None = None
    context: ContextSettings | None = None


class GenerationSpec(Strict):
    """How replies are drawn. Temperature 0 is greedy."""

    max_new_tokens: int = Field(default=128, ge=1, le=32768)
    temperature: float = Field(default=0.0, ge=0.0, le=5.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)


class ObjectivesSpec(Strict):
    """What a turn must not exceed to count as good; None: no objective. In seconds."""

    ttft_s: float | None = Field(default=None, gt=0)
    tpot_s: float | None = Field(default=None, gt=0)
    e2e_s: float | None = Field(default=None, gt=0)


class RunSpec(Strict):
    """Everything that decides what a run measures.

    `reference` names the method that others are compared with, by id. `history`: "live", of the
    method's own replies, or "replay", of the reference's, which is then served first.
    `prefix_cache`: whether engines may use keys and values of a session's earlier requests again.
    `concurrency` is how many sessions are served at once; 1 is for latency. `arrival_rate`: None,
    or sessions arrive by themselves, so many a minute on average, at times drawn from a Poisson
    process, and none waits for another to end. `batch_size` bounds how many waiting requests an
    engine takes at a time. `adapt_concurrency`: how many sessions are adapted together.
    `think_time_s`: how long a user thinks between a reply and the next turn; it counts in no
    latency, but work in the background can hide in it. `objectives`: what goodput counts.
    """

    profile: str = Field(pattern=r"^[\w.-]{1,60}$")
    summary: str = ""
    pair: PairSpec
    methods: tuple[MethodSpec, ...] = Field(min_length=1)
    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    reference: str | None = None
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    generation: GenerationSpec = GenerationSpec()
    history: Literal["live", "replay"] = "live"
    prefix_cache: Switch = "off"
    concurrency: int = Field(default=1, ge=1, le=4096)
    arrival_rate: float | None = Field(default=None, gt=0, le=1e6)
    batch_size: int = Field(default=16, ge=1, le=4096)
    adapt_concurrency: int = Field(default=1, ge=1, le=256)
    think_time_s: float = Field(default=0.0, ge=0.0, le=3600.0)
    objectives: ObjectivesSpec | None = None
    warmup: bool = True

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("seeds repeat; give each once")
        return seeds

    @field_validator("tasks")
    @classmethod
    def _free_names(cls, tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        if any(t.name == EVERY_TASK for t in tasks):
            raise ValueError(f"{EVERY_TASK!r} stands for all tasks in reports; rename the task")
        return tasks

    @model_validator(mode="after")
    def _distinct_names(self) -> RunSpec:
        for what, names in (
            ("methods", [m.id for m in self.methods]),
            ("tasks", [t.name for t in self.tasks]),
        ):
            twice = sorted({n for n in names if names.count(n) > 1})
            if twice:
                raise ValueError(f"{what} repeat: {', '.join(twice)}; give each once, or a label")
        if self.reference is not None and self.reference not in [m.id for m in self.methods]:
            raise ValueError(f"reference {self.reference!r} is not among the methods")
        if self.history == "replay" and self.reference is None:
            raise ValueError(
                "history = 'replay' needs reference: the method whose replies make the history"
            )
        if self.arrival_rate is not None and self.concurrency != 1:
            raise ValueError(
                "concurrency and arrival_rate exclude each other: sessions either wait for one "
                "another or arrive by themselves; give one of them"
            )
        return self

    def caches(self, method: MethodSpec) -> bool:
        """Whether `method` is served with the prefix cache on."""
        return (method.prefix_cache or self.prefix_cache) == "on"

    @property
    def alone(self) -> bool:
        """Whether no two sessions are ever served at the same time."""
        return self.concurrency == 1 and self.arrival_rate is None

    def canonical(self) -> dict[str, Any]:
        """The spec as JSON values, as the manifest stores it."""
        data: dict[str, Any] = self.model_dump(mode="json")
        for stored, method in zip(data["methods"], self.methods, strict=True):
            stored["id"] = method.id
        return data

    def hash(self) -> str:
        """SHA-256 over the hash recipe's version and the canonical spec without its prose."""
        return spec_hash(self.canonical())


def spec_hash(canonical: Mapping[str, Any]) -> str:
    """The hash of a canonical spec, e.g. of one read back from a manifest."""
    content = {k: v for k, v in canonical.items() if k != "summary"}
    content["pair"] = {k: v for k, v in content["pair"].items() if k != "summary"}
    text = json.dumps(
        {"recipe": HASH_RECIPE, "spec": content},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Dotted paths at which two canonical specs differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from differences(a, b, f"{path}[{index}]")
    elif old != new:
        yield path, old, new
