"""Names and summaries of the TOML files that come with the harness; imports nothing heavy."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable


def folder(kind: str) -> Traversable:
    """Where the harness keeps its `kind`: "pairs" or "profiles"."""
    return files("harness") / kind


def summaries(kind: str) -> dict[str, str]:
    """Name (file stem) to summary of every file of `kind`, sorted by name."""
    found = {}
    for file in folder(kind).iterdir():
        if file.name.endswith(".toml"):
            data = tomllib.loads(file.read_text("utf-8"))
            found[file.name.removesuffix(".toml")] = str(data.get("summary", ""))
    return dict(sorted(found.items()))
