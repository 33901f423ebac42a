"""Scores that were computed before, by the hash of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import UserError


def content_key(parts: Mapping[str, Any]) -> str:
    """SHA-256 over the parts as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


class ScoreCache:
    """Numbers by key in one SQLite file, shared by all runs; each is on disk when `put` returns."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Every function raises UserError where the file cannot serve."""
        self._path = path
        with self._guarded():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60)
            self._db.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, value TEXT)")
            self._db.commit()

    def get(self, key: str) -> tuple[float, ...] | None:
        with self._guarded():
            row = self._db.execute("SELECT value FROM scores WHERE key = ?", (key,)).fetchone()
            return None if row is None else tuple(json.loads(row[0]))

    def put(self, key: str, values: tuple[float, ...]) -> None:
        with self._guarded(), self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO scores VALUES (?, ?)", (key, json.dumps(values))
            )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise UserError(self._path, f"cannot hold scores: {error}; delete it") from None

    def close(self) -> None:
        self._db.close()
