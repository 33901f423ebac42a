"""ShareGPT's records for tests, and what the task makes of a file of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.session import Session
from harness.task import Drop
from tasks.sharegpt import Sharegpt

NAMES = MappingProxyType({"h": "human", "g": "gpt", "s": "system"})


def record(id: str, *messages: str) -> dict[str, Any]:
    """A record of messages written "h what the user says" or "g what the model says"."""
    said = [{"from": NAMES[m[0]], "value": m[2:]} for m in messages]
    return {"id": id, "conversations": said}


def written(folder: Path, records: Iterable[Any], name: str = "chats.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(list(records), indent=2), encoding="utf-8")
    return file


def read(path: Path, **options: Any) -> tuple[list[Session], list[Drop]]:
    items = list(Sharegpt(path=path, **options).items())
    sessions = [item for item in items if isinstance(item, Session)]
    return sessions, [item for item in items if isinstance(item, Drop)]
