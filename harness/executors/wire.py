"""What travels between a run and its workers: plain JSON text, read back as these types.

Sessions travel with their units, so that no worker reads a task's data or filters it again; methods
and engines do not travel: a worker makes them from the spec, as the run itself does. Nothing of the
environment is sent, so neither is a key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.serving import StoredReply
from harness.session import Session
from harness.spec import RunSpec, Strict
from harness.store import UnitKey


class Code(Strict):
    """What decides results beside the spec: the harness's code, and the packages it uses."""

    harness_version: str
    code_version: str | None
    packages: dict[str, str]


class Orders(Strict):
    """What a worker is told once.

    `index`: which of the run's workers it is. `cores`: how many it was given; None, all. `folder`:
    where relative paths begin. `sources`: SHA-256 of the user's own files that the spec names by
    path. `code`: what the run itself runs, and the worker must. `scratch`: where temporary files
    go; None, where the machine has them.
    """

    spec: RunSpec
    index: int
    cores: int | None
    warm_turns: dict[str, int]
    offline: bool
    folder: str
    sources: dict[str, str]
    code: Code
    scratch: str | None


class Job(Strict):
    """One unit to serve. `stored`: in replay, the replies that its history is made of."""

    key: UnitKey
    session: Session
    stored: tuple[StoredReply, ...] | None

    def text(self) -> str:
        """As JSON; what a task put into a session's facts and JSON has no word for, as text."""
        return self.model_dump_json(fallback=_plain, warnings=False)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
