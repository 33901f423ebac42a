"""A shard of a run: every n-th session of each task, the same for all methods."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pydantic import Field, model_validator

from harness.errors import UserError
from harness.loading import Loaded
from harness.plan import Plan
from harness.record import Manifest
from harness.spec import Strict


class Shard(Strict):
    """The `index`-th of `count` parts, from 1. Written `index/count`."""

    index: int = Field(ge=1)
    count: int = Field(ge=1, le=100_000)

    @model_validator(mode="after")
    def _in_range(self) -> Shard:
        if self.index > self.count:
            raise ValueError(f"there is no part {self.index} of {self.count}")
        return self

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Whole(Strict):
    """What a shard is a part of, as its manifest tells it: the sessions of the run in one piece."""

    sessions: dict[str, list[str]]
    sessions_hash: str
    task_hashes: dict[str, str]

    def part(self, shard: Shard) -> dict[str, list[str]]:
        """The sessions of one shard, by task: by their places in the task's canonical order."""
        return {t: ids[shard.index - 1 :: shard.count] for t, ids in self.sessions.items()}


def parse_shard(text: str) -> Shard:
    """A shard from `i/n`. Raises UserError."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    index, count = (int(part) for part in found.groups()) if found else (0, 0)
    if not 1 <= index <= count:
        raise UserError("--shard", f"{text!r} is not i/n with i from 1 to n, e.g. 1/4")
    return Shard(index=index, count=count)


def plan_of_shard(plan: Plan, shard: Shard) -> Plan:
    """The part of `plan` that a shard serves. Raises UserError for a shard without any session."""
    loaded = {
        task: Loaded(whole.sessions[shard.index - 1 :: shard.count], whole.dropped)
        for task, whole in plan.loaded.items()
    }
    if not any(part.sessions for part in loaded.values()):
        most = max(len(whole.sessions) for whole in plan.loaded.values())
        raise UserError("--shard", f"{shard} holds no session; the run has {most} shards at most")
    return replace(plan, loaded=loaded)


def manifest_of_shard(plan: Plan, shard: Shard) -> Manifest:
    """The manifest of a shard of `plan`: of what it serves, and of what that is a part of."""
    whole = plan.manifest()
    parts: dict[str, Any] = {
        "shard": shard.model_dump(),
        "whole": {name: dict(whole)[name] for name in Whole.model_fields},
    }
    return Manifest(**{**plan_of_shard(plan, shard).manifest(), **parts})  # type: ignore[typeddict-item]
