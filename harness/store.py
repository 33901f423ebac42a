"""The run folder: a manifest first, then one fsynced line per finished session.

Killed at any moment, the folder loses at most the sessions in flight: a torn last line is cut off
when the run resumes, and the sessions it lacks are served again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import IO, Any, NamedTuple, cast

from harness.errors import UserError
from harness.record import SCHEMA_VERSION, Manifest, SessionRecord
from harness.spec import differences
from harness.task import Drop

MANIFEST = "manifest.json"
SESSIONS = "sessions.jsonl"
SCORES = "scores.jsonl"
DROPPED = "dropped.jsonl"
SUMMARY = "summary.json"
ERRORS = "errors"
ADAPTERS = "adapters"
WORK = "work"
LOCK = ".lock"

PROSE = ("summary", "pair.summary")
"""Where a canonical spec holds words for people, which change no question."""


class UnitKey(NamedTuple):
    """What one line of `sessions.jsonl` is about; no two finished lines share it."""

    method: str
    task: str
    session_id: str
    seed: int


def unit_hash(key: UnitKey) -> str:
    """16 hex digits that name a unit's files."""
    return hashlib.sha256(repr(key).encode()).hexdigest()[:16]


class Store:
    """Write access to a run folder, held by one process at a time.

    Opening it creates the folder and its manifest, or checks that the manifest there asks the same
    question. Raises UserError when it does not, or when another process holds the folder.
    `dropped`: what each task left out, listed in `dropped.jsonl`.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        dropped: Mapping[str, Sequence[Drop]] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self._manifest = manifest
        self._dropped = dropped
        self._out: IO[str] | None = None

    def __enter__(self) -> Store:
        from filelock import FileLock, Timeout

        if (self.folder / MANIFEST).exists():
            check_same_run(self.folder, self._manifest)
        elif self.folder.exists() and any(p.name != LOCK for p in self.folder.iterdir()):
            raise UserError(self.folder, "is not empty and holds no run; choose another --out")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(self.folder, "another process is running here; wait for it") from None
        if not (self.folder / MANIFEST).exists():
            self._list_dropped()
            write_json(self.folder / MANIFEST, self._manifest)
        cut_torn_line(self.folder / SESSIONS)
        self._clear_unfinished()
        self._out = (self.folder / SESSIONS).open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._out is not None:
            self._out.close()
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        self._lock.release()

    def _list_dropped(self) -> None:
        lines = [
            json.dumps({"task": task, **asdict(drop)}, ensure_ascii=True) + "\n"
            for task, drops in self._dropped.items()
            for drop in drops
        ]
        if lines:
            write_text_atomically(self.folder / DROPPED, "".join(lines))

    def _clear_unfinished(self) -> None:
        """Remove what sessions left behind that an earlier start did not finish."""
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        kept = self.folder / ADAPTERS
        if kept.is_dir():
            finished = {unit_hash(key) for key in self.finished()}
            for folder in [f for f in kept.iterdir() if f.name not in finished]:
                shutil.rmtree(folder)

    def finished(self) -> set[UnitKey]:
        """Keys of the sessions that need not be served again."""
        return {key_of(r) for r in read_sessions(self.folder)}

    def append(self, record: SessionRecord) -> None:
        """Add a finished session; on disk when this returns."""
        if self._out is None:
            raise RuntimeError("the store is not open")
        self._out.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")
        self._out.flush()
        os.fsync(self._out.fileno())

    def write_traceback(self, key: UnitKey, text: str) -> Path:
        """Keep a failed session's traceback beside the records; returns the file."""
        path = self.folder / ERRORS / f"{unit_hash(key)}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{key}\n\n{text}", "utf-8")
        return path

    def forget_errors(self) -> int:
        """Drop the records of what failed, and of what was skipped for it, so that these sessions
        are served again; returns how many.
        """
        records = list(read_sessions(self.folder))
        kept = [r for r in records if r["outcome"] not in ("error", "skipped")]
        if self._out is not None:
            self._out.close()
        lines = (json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in kept)
        write_text_atomically(self.folder / SESSIONS, "".join(lines))
        self._out = (self.folder / SESSIONS).open("a", encoding="utf-8")
        return len(records) - len(kept)


def key_of(record: SessionRecord) -> UnitKey:
    return UnitKey(record["method"], record["task"], record["session_id"], record["seed"])


def check_same_run(folder: Path, manifest: Manifest) -> None:
    """Raise UserError that prints the differing fields unless `folder` holds this very run.

    The same run asks the same question, with the same files of the user's own, on the same kind
    of machine: timings of two machines are never mixed.
    """
    old = read_manifest(folder)
    changed = [c for c in differences(old["spec"], manifest["spec"]) if c[0] not in PROSE]
    for name in ("hash_recipe", "sessions_hash", "sources"):
        changed += differences(_part(old, name), _part(manifest, name))
    changed += differences({"shard": old.get("shard")}, {"shard": manifest.get("shard")})
    there, here = (m["hardware"].get("machine_class") for m in (old, manifest))
    changed += differences({"machine_class": there}, {"machine_class": here})
    if changed:
        fields = "; ".join(f"{path}: {a!r} there, {b!r} here" for path, a, b in changed)
        raise UserError(folder, f"holds another run ({fields}); choose another --out")


def _part(manifest: Manifest, name: str) -> dict[str, Any]:
    return {name: cast("dict[str, Any]", manifest)[name]}


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a run folder. Raises UserError when there is none or it is damaged."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(folder, f"is not a run folder: it has no {MANIFEST}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(path, f"is damaged: {error}") from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA_VERSION:
        raise UserError(
            path, f"is no manifest of schema {SCHEMA_VERSION}; use the code that wrote it"
        )
    missing = sorted(Manifest.__required_keys__ - manifest.keys())
    if missing:
        raise UserError(path, f"is damaged: it lacks {', '.join(missing)}")
    return cast(Manifest, manifest)


def read_sessions(folder: Path) -> Iterator[SessionRecord]:
    """The finished sessions of a run, in the order they finished; a torn last line is left out."""
    for record in _read_lines(folder / SESSIONS):
        yield cast(SessionRecord, record)


def _read_lines(path: Path) -> Iterator[Any]:
    if not path.exists():
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}", f"is damaged: {error}") from None


def cut_torn_line(path: Path) -> None:
    """Remove what follows the last newline of `path`: a line that a crash left unfinished."""
    if not path.exists():
        return
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    if end != len(data):
        with path.open("r+b") as file:
            file.truncate(end)
            os.fsync(file.fileno())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON so that readers see the old file or the new one, never a part."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text_atomically(path, text + "\n")


def write_text_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
