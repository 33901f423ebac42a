"""Turning a pydantic complaint into the one line that mends the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.errors import UserError, nearest

UNQUOTED = "unquoted"
"""Type of a `PydanticCustomError` whose value is not repeated: it may hold a secret, or says less
than the message."""


def describe(error: ValidationError, model: type[BaseModel], place: object) -> UserError:
    """The first mistake in `error` as a `UserError` at `place`, the others counted.

    Names the dotted key, what was given and what would be right; for an unknown or a missing key
    the nearest valid name. `model` is the class whose validation failed.
    """
    details = error.errors(include_url=False, include_context=False)
    # An unknown key often is a missing one misspelt: report it first, it explains both.
    details.sort(key=lambda d: d["type"] != "extra_forbidden")
    first = details[0]
    key, parent = _locate(model, first["loc"])
    if first["type"] == "extra_forbidden":
        problem = f"unknown key {key!r}; {nearest(str(first['loc'][-1]), _fields(parent))}"
    elif first["type"] == "missing":
        problem = f"key {key!r} is missing"
    elif key and first["type"] == UNQUOTED:
        problem = f"{key}: {first['msg']}"
    elif key:
        problem = f"{key} = {_short(first['input'])}: {_lower(first['msg'])}"
    else:
        problem = _lower(first["msg"])
    if len(details) > 1:
        problem += f" (and {len(details) - 1} more)"
    return UserError(place, " ".join(problem.split()))


def _locate(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[str, type[BaseModel] | None]:
    """The dotted key of `loc`, and the model class that its last part should be a field of.

    Parts that pydantic adds for the members of a union name no key and are left out.
    """
    parts: list[str] = []
    current: Any = model
    parent: type[BaseModel] | None = model
    for depth, part in enumerate(loc):
        last = depth == len(loc) - 1
        owner = _model_in(current)
        if isinstance(part, int):
            parts.append(f"[{part}]")
            current = _item_of(current)
        elif owner is not None and (part in owner.model_fields or last):
            parent = owner
            parts.append(f".{part}")
            field = owner.model_fields.get(part)
            current = field.annotation if field else None
        elif (item := _item_of(current)) is not None:
            parent = None
            parts.append(f".{part}")
            current = item
    return "".join(parts).lstrip("."), parent


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model class in `annotation`, also where it is one member of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (dict, list, tuple, Mapping):
        return None
    found = [m for a in get_args(annotation) if (m := _model_in(a)) is not None]
    return found[0] if found else None


def _item_of(annotation: Any) -> Any:
    """What a container's values are; None when `annotation` is no container."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (list, tuple, dict) or origin is Mapping:
        return args[1] if origin in (dict, Mapping) else args[0]
    items = [i for a in args if (i := _item_of(a)) is not None]
    return items[0] if items else None


def _fields(model: type[BaseModel] | None) -> list[str]:
    return sorted(model.model_fields) if model else []


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message[:1].lower() + message[1:]
