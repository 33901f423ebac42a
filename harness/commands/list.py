"""`list`: what is registered, without importing any of it."""

from __future__ import annotations

import json
from typing import Any


def list_kind(kind: str, *, as_json: bool) -> str:
    """The things of `kind` with their summaries, as aligned text or a JSON list."""
    rows = [{"name": n, "summary": s} for n, s in _summaries(kind).items()]
    if as_json:
        return json.dumps(rows, indent=2, ensure_ascii=False)
    width = max((len(r["name"]) for r in rows), default=0)
    return "\n".join(f"{r['name']:<{width}}  {r['summary']}" for r in rows)


def _summaries(kind: str) -> dict[str, str]:
    if kind in ("pairs", "profiles"):
        from harness.catalog import summaries

        return summaries(kind)
    from harness import registry

    by_kind: dict[str, registry.Registry[Any]] = {
        "methods": registry.methods(),
        "tasks": registry.tasks(),
        "scorers": registry.scorers(),
    }
    return {e.name: e.summary for e in by_kind[kind].entries()}
