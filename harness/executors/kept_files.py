"""What a method kept of a session, brought from the machine that served it into the run folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from harness.store import ADAPTERS, WORK, UnitKey, unit_hash


def take_kept(scratch: Path, key: UnitKey) -> dict[str, bytes]:
    """The kept files of a served unit, by path below their folder; `scratch` holds them no more."""
    folder = scratch / ADAPTERS / unit_hash(key)
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    kept = {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    shutil.rmtree(folder)
    return kept


def put_kept(run: Path, key: UnitKey, kept: Mapping[str, bytes]) -> None:
    """Write kept files where a session served in the run folder would have left them."""
    if not kept:
        return
    half = run / WORK / unit_hash(key)
    for name, content in kept.items():
        path = half / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (run / ADAPTERS).mkdir(exist_ok=True)
    half.rename(run / ADAPTERS / unit_hash(key))
