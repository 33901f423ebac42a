"""Joining the shards of a run into one run folder, as if it had been served in one piece."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from harness.errors import UserError
from harness.record import SCHEMA_VERSION, Manifest, SessionRecord
from harness.shard import Shard, Whole
from harness.spec import HASH_RECIPE, differences, spec_hash
from harness.store import (
    ADAPTERS,
    DROPPED,
    ERRORS,
    MANIFEST,
    PROSE,
    SESSIONS,
    UnitKey,
    key_of,
    read_manifest,
    unit_hash,
    write_json,
)

_OF_A_SHARD = ("shard", "whole")
_FIELDS = SessionRecord.__required_keys__
"""What every line of a session has."""

_PROSE = tuple(f"spec.{name}" for name in PROSE)
_MEND = "serve the rest by the command that made it, or give --partial"
_FACTS = ("code_version", "harness_version", "packages")
"""What two shards of one run may differ in, beside their machines; whoever merges them is told."""


@dataclass(frozen=True)
class Merged:
    """What was joined. `missing`: sessions that no shard had, which only `partial` allows.

    `differing`: one line for each way in which a shard was served otherwise than the first.
    """

    shards: tuple[Shard, ...]
    sessions: int
    missing: int
    differing: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """One shard, as its folder and manifest have it."""

    folder: Path
    manifest: Manifest
    shard: Shard
    whole: Whole

    def units(self) -> set[UnitKey]:
        """What the shard consists of."""
        return _units(self.manifest, self.whole.part(self.shard))

    def facts(self) -> dict[str, Any]:
        """What else than the question decides its numbers."""
        known = dict(self.manifest)
        machine = {"machine_class": self.manifest["hardware"].get("machine_class")}
        return {**machine, **{name: known[name] for name in _FACTS}}


def merge_runs(out: Path, runs: Sequence[Path], *, partial: bool) -> Merged:
    """Join the shards in `runs` into the new run folder `out`, which appears whole or not at all.

    Sessions are sorted by key, their lines copied byte for byte, and so is what their methods kept
    and the tracebacks of those that failed. Raises UserError, naming the folder or the file and
    line, for runs that are no shards of one run, for shards or sessions that are missing (unless
    `partial`) or there twice, for damage, and for an `out` that is not empty.
    """
    out = out.absolute()
    _check_out(out)
    parts = sorted((_read_part(run) for run in runs), key=lambda part: part.shard.index)
    _check_same_question(parts)
    _check_set(parts, partial)
    found = [(part, _read_lines(part, partial)) for part in parts]
    try:
        _write(out, found)
    except OSError as error:
        raise UserError(out, f"cannot be written: {error}") from error
    first, *others = parts
    count = sum(len(lines) for _, lines in found)
    return Merged(
        shards=tuple(part.shard for part in parts),
        sessions=count,
        missing=len(_units(first.manifest, first.whole.sessions)) - count,
        differing=tuple(
            f"{path}: {a!r} in {first.folder}, {b!r} in {part.folder}"
            for part in others
            for path, a, b in differences(first.facts(), part.facts())
        ),
    )


def _units(manifest: Manifest, sessions: Mapping[str, Sequence[str]]) -> set[UnitKey]:
    spec = manifest["spec"]
    return {
        UnitKey(method["id"], task, session, seed)
        for method in spec["methods"]
        for task, ids in sessions.items()
        for session in ids
        for seed in spec["seeds"]
    }


def _check_out(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(out, "is there and not empty; choose another OUT")


def _read_part(run: Path) -> _Part:
    manifest = read_manifest(run)
    if "shard" not in manifest or "whole" not in manifest:
        raise UserError(run, "is no shard of a run; `run --shard i/n` makes them")
    place = run / MANIFEST
    if manifest["hash_recipe"] != HASH_RECIPE:
        raise UserError(place, "was written by other code; merge with the code that wrote it")
    try:
        shard, whole = Shard(**manifest["shard"]), Whole(**manifest["whole"])
        intact = spec_hash(manifest["spec"]) == manifest["spec_hash"]
    except (ValidationError, TypeError, KeyError, AttributeError) as error:
        raise UserError(place, f"is damaged: {' '.join(str(error).split())}") from error
    if not intact:
        raise UserError(place, "is damaged: its spec is not the one that spec_hash was made of")
    if whole.part(shard) != manifest["sessions"]:
        raise UserError(place, f"is damaged: its sessions are not those of shard {shard}")
    return _Part(run, manifest, shard, whole)


def _check_same_question(parts: Sequence[_Part]) -> None:
    """Raise UserError that prints the differing fields unless all are shards of one run."""
    first, *others = ((part.folder, _question(part)) for part in parts)
    for folder, question in others:
        changed = [c for c in differences(first[1], question) if c[0] not in _PROSE]
        if changed:
            fields = "; ".join(f"{path}: {a!r} there, {b!r} here" for path, a, b in changed)
            raise UserError(folder, f"is a shard of another run than {first[0]} ({fields})")


def _question(part: _Part) -> dict[str, Any]:
    return {
        "spec": part.manifest["spec"],
        "sessions_hash": part.whole.sessions_hash,
        "sources": part.manifest["sources"],
        "shards": part.shard.count,
    }


def _check_set(parts: Sequence[_Part], partial: bool) -> None:
    for one, other in pairwise(parts):
        if one.shard == other.shard:
            raise UserError(other.folder, f"is shard {other.shard}, and so is {one.folder}")
    count = parts[0].shard.count
    there = {part.shard.index for part in parts}
    missing = [f"{index}/{count}" for index in range(1, count + 1) if index not in there]
    if missing and not partial:
        named = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise UserError("RUN...", f"of the shards, {named} are missing; give all, or --partial")


def _read_lines(part: _Part, partial: bool) -> dict[UnitKey, bytes]:
    """The lines of a shard's finished sessions, by what they are about."""
    path = part.folder / SESSIONS
    units = part.units()
    lines: dict[UnitKey, bytes] = {}
    for number, line in enumerate(_raw_lines(path), start=1):
        place = f"{path}:{number}"
        if not line.endswith(b"\n"):
            if partial:
                break
            raise UserError(place, f"is torn: the shard was interrupted; {_MEND}")
        key = _key(line, place)
        if key not in units:
            raise UserError(place, f"holds {tuple(key)}, which is not of shard {part.shard}")
        if key in lines:
            raise UserError(place, f"holds {tuple(key)}, which an earlier line holds too")
        lines[key] = line
    if len(lines) < len(units) and not partial:
        raise UserError(part.folder, f"has {len(lines)} of {len(units)} sessions; {_MEND}")
    return lines


def _raw_lines(path: Path) -> Iterator[bytes]:
    """Lines with their newlines; none of a file that is not there."""
    if path.exists():
        with path.open("rb") as file:
            yield from file


def _key(line: bytes, place: str) -> UnitKey:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise UserError(place, f"is damaged: {error}") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA_VERSION:
        raise UserError(place, f"is no session of schema {SCHEMA_VERSION}")
    missing = sorted(_FIELDS - record.keys())
    if missing:
        raise UserError(place, f"is damaged: it lacks {', '.join(missing)}")
    key = key_of(cast(SessionRecord, record))
    if not all(isinstance(name, str) for name in key[:3]) or not isinstance(key.seed, int):
        raise UserError(place, "is damaged: method, task, session_id or seed is of another type")
    return key


def _write(out: Path, found: Sequence[tuple[_Part, Mapping[UnitKey, bytes]]]) -> None:
    """Make the folder beside its place and move it there by one rename."""
    half = out.with_name(f".{out.name}.{os.getpid()}.merging")
    try:
        half.mkdir(parents=True)
        lines = {key: line for _, lines in found for key, line in lines.items()}
        with (half / SESSIONS).open("wb") as file:
            file.writelines(lines[key] for key in sorted(lines))
            file.flush()
            os.fsync(file.fileno())
        for part, own in found:
            for name in sorted(unit_hash(key) for key in own):
                _copy(part.folder / ADAPTERS / name, half / ADAPTERS / name)
                _copy(part.folder / ERRORS / f"{name}.txt", half / ERRORS / f"{name}.txt")
        _copy(found[0][0].folder / DROPPED, half / DROPPED)
        write_json(half / MANIFEST, _manifest([part for part, _ in found]))
        half.rename(out)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, if there is one."""
    if source.exists():
        target.parent.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copyfile(source, target)


def _manifest(parts: Sequence[_Part]) -> Manifest:
    """The manifest of the run in one piece, with what each shard was served on."""
    first = parts[0]
    own = {name: value for name, value in first.manifest.items() if name not in _OF_A_SHARD}
    merged: dict[str, Any] = {
        **own,
        **first.whole.model_dump(),
        "created_at": min(part.manifest["created_at"] for part in parts),
        "shards": [
            {**part.shard.model_dump(), **part.facts(), "client": part.manifest.get("client")}
            for part in parts
        ],
    }
    return cast(Manifest, merged)
