"""The project's own form of a session: one JSON object, read strictly.

Keys: `id` and `turns` are needed; `system`, `references`, `reference_kind`, `gold`, `language`,
`license`, `source` and `metadata` may be left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness.data.faults import Fault, Problem, half_character, kind_of, shown, turns_problems
from harness.data.json_values import Located
from harness.errors import nearest
from harness.session import Session

KEYS = (
    "id",
    "turns",
    "system",
    "references",
    "reference_kind",
    "gold",
    "language",
    "license",
    "source",
    "metadata",
)
_NEEDED = KEYS[:2]

_MAX_DEPTH = 32
"""Of `source` and `metadata`; what copies and hashes a session later recurses into them."""


def from_own(record: Located, number: int, task: str) -> Iterator[Session | Fault]:
    """The session of a record, or all that is wrong with it."""
    value = record.value
    if not isinstance(value, dict):
        need = f"must be a JSON object with {_NEEDED[0]!r} and {_NEEDED[1]!r}"
        yield Fault(record.place, "", f"{need}, not {kind_of(value)}")
        return
    if not any(key in value for key in _NEEDED):
        keys = ", ".join(shown(key) for key in list(value)[:5]) or "none"
        yield Fault(record.place, "", f"has neither 'id' nor 'turns'; its keys: {keys}")
        return
    problems = list(_problems(value))
    if problems:
        yield from (problem.at(record.place) for problem in problems)
        return
    turns = tuple(value["turns"])
    yield Session(
        id=value["id"],
        task=task,
        turns=turns,
        references=_per_turn(value.get("references")),
        reference_kind=value.get("reference_kind"),
        gold=_per_turn(value.get("gold")),
        system=value.get("system"),
        language=value.get("language", "en"),
        license=value.get("license", "unknown"),
        source=value.get("source", {}),
        metadata=value.get("metadata", {}),
    )


def _per_turn(items: list[str | None] | None) -> tuple[str | None, ...] | None:
    return None if items is None else tuple(items)


def _problems(value: dict[str, Any]) -> Iterator[Problem]:
    for key in value:
        if key not in KEYS:
            yield Problem(shown(key), f"is an unknown key; {nearest(key[:40], KEYS)}")
    for key in _NEEDED:
        if key not in value:
            yield Problem(f"key {key!r}", "is missing; every session needs it")
    if "turns" in value:
        yield from turns_problems(value["turns"], "'turns'")
    for key in ("references", "gold"):
        yield from _per_turn_problems(value, key)
    yield from _reference_kind_problems(value)
    for key in ("id", "system", "language", "license"):
        # A system prompt may be null, as a JSON writer spells "none".
        if key in value and not (key == "system" and value[key] is None):
            yield from _text_problems(value[key], f"{key!r}")
    for key in ("source", "metadata"):
        if key in value:
            yield from _object_problems(value[key], f"{key!r}")


def _text_problems(text: object, field: str) -> Iterator[Problem]:
    if not isinstance(text, str):
        yield Problem(field, f"must be a string, not {kind_of(text)}")
    elif not text.strip():
        yield Problem(field, "is an empty string; write it out or leave the key away")
    elif broken := half_character(text):
        yield Problem(field, broken)


def _per_turn_problems(value: dict[str, Any], key: str) -> Iterator[Problem]:
    """A list with one string or null per user turn; an empty string is neither."""
    items, turns, field = value.get(key), value.get("turns"), f"{key!r}"
    if items is None:
        return
    if not isinstance(items, list):
        yield Problem(field, f"must be a list of strings and nulls, not {kind_of(items)}")
        return
    if isinstance(turns, list) and len(items) != len(turns):
        yield Problem(
            field, f"has {len(items)} entries for {len(turns)} turns; give one per turn, or null"
        )
    for number, item in enumerate(items, start=1):
        entry = f"{field} entry {number}"
        if item is None:
            continue
        if not isinstance(item, str):
            yield Problem(entry, f"must be a string or null, not {kind_of(item)}")
        elif not item.strip():
            yield Problem(entry, "is empty; use null for none")
        elif broken := half_character(item):
            yield Problem(entry, broken)


def _reference_kind_problems(value: dict[str, Any]) -> Iterator[Problem]:
    kind, has_references = value.get("reference_kind"), value.get("references") is not None
    if has_references and kind is None:
        yield Problem("'references'", 'need \'reference_kind\': "human" or "model"')
    if kind is not None and not has_references:
        yield Problem("'reference_kind'", "is given without 'references'; give both or none")
    if kind not in (None, "human", "model"):
        yield Problem("'reference_kind'", f'must be "human" or "model", not {shown(kind)}')


def _object_problems(item: object, field: str) -> Iterator[Problem]:
    if not isinstance(item, dict):
        yield Problem(field, f"must be an object, not {kind_of(item)}")
    elif _deeper_than(item, _MAX_DEPTH):
        yield Problem(field, f"is nested more than {_MAX_DEPTH} deep")
    else:
        # A table of another format may hold what JSON has not.
        try:
            text = json.dumps(item, ensure_ascii=False, allow_nan=False)
        except ValueError:
            yield Problem(field, "holds NaN or an infinite number; use null or a finite number")
        except TypeError as error:
            yield Problem(field, f"holds what JSON has not: {error}")
        else:
            if broken := half_character(text):
                yield Problem(field, broken)


def _deeper_than(value: object, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_deeper_than(item, depth - 1) for item in inner)
