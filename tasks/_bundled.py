"""Where the bundled sessions lie and how they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.data.own_file import read_sessions
from harness.session import Session

DATA = Path(__file__).parent / "data"


def bundled(name: str) -> Iterator[Session]:
    """The sessions of `data/<name>.jsonl`, in file order."""
    return read_sessions(DATA / f"{name}.jsonl", name)
