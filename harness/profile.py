"""Profiles: TOML files that say what to run, and the command line's changes to them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.catalog import folder, summaries
from harness.config_errors import describe
from harness.engines.pairs import load_pair
from harness.errors import UserError, nearest
from harness.plan import build_method, build_task, canonical_args, canonical_task
from harness.spec import MethodSpec, RunSpec

MAX_BYTES = 1 << 20

_PREFIX_CACHE = "prefix_cache"


@dataclass(frozen=True)
class Overrides:
    """What the command line changes. None or empty: as the profile has it."""

    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    limit: int | None = None
    max_new_tokens: int | None = None
    seed: int | None = None
    concurrency: int | None = None
    arrival_rate: float | None = None
    think_time: float | None = None
    settings: tuple[str, ...] = ()


def load_spec(profile: str, overrides: Overrides) -> tuple[RunSpec, str]:
    """The run that a profile (by name or path) and the command line ask for, and its place.

    Raises UserError naming the file and key of anything wrong.
    """
    place, data = _read(profile)
    data.setdefault("profile", Path(place).stem if place.endswith(".toml") else profile)
    for setting in overrides.settings:
        _set(data, setting)
    _apply(data, overrides, place)
    pair = data.get("pair")
    if not isinstance(pair, str):
        raise UserError(f"{place}: pair", f"must be the name of a pair or a file, not {pair!r}")
    data["pair"] = load_pair(pair)
    try:
        spec = RunSpec(**data)
        methods = tuple(canonical_args(m, build_method(m, place)) for m in spec.methods)
        tasks = tuple(canonical_task(t, build_task(t, place)) for t in spec.tasks)
        return RunSpec(**{**dict(spec), "methods": methods, "tasks": tasks}), place
    except ValidationError as error:
        raise describe(error, RunSpec, place) from None


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dict. Raises UserError with the place of what cannot be read."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(path, f"is {size:,} bytes; a settings file has at most {MAX_BYTES:,}")
        raw = path.read_bytes()
    except IsADirectoryError:
        raise UserError(path, "is a folder; give a TOML file") from None
    except OSError as error:
        raise UserError(path, f"cannot be read: {error.strerror}") from None
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}", "is not UTF-8; save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(path, f"is not valid TOML: {error}") from None


def parse_named(text: str, option: str) -> dict[str, Any]:
    """`name` or `name:arg=value,...` of the command line, as a profile's table.

    Raises UserError at `option` for what is no argument.
    """
    if ".py:" in text:
        head, _, tail = text.partition(".py:")
        cls, _, arguments = tail.partition(":")
        name = f"{head}.py:{cls}"
    else:
        name, _, arguments = text.partition(":")
    args: dict[str, Any] = {}
    for pair in filter(None, arguments.split(",")):
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(option, f"{text!r}: {pair!r} is not arg=value")
        args[key.strip()] = parse_value(value)
    return {"name": name, "args": args}


def split_named(text: str) -> list[str]:
    """The names in a comma-separated list: a part with `=` is an argument of the one before."""
    found: list[str] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        if found and "=" in part and ":" not in part.split("=")[0]:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def _read(profile: str) -> tuple[str, dict[str, Any]]:
    known = summaries("profiles")
    if profile in known:
        text = (folder("profiles") / f"{profile}.toml").read_text("utf-8")
        return f"profile {profile}", tomllib.loads(text)
    path = Path(profile)
    if not path.suffix and not path.exists():
        raise UserError("profile", f"unknown profile {profile!r}; {nearest(profile, known)}")
    return str(path), read_toml(path)


def _apply(data: dict[str, Any], overrides: Overrides, place: str) -> None:
    if overrides.methods:
        data["methods"] = [_named(m, data.get("methods")) for m in overrides.methods]
        if data.get("reference") not in [_method_id(m, place) for m in data["methods"]]:
            data["reference"] = None
    if overrides.tasks:
        listed = _tables(data, "tasks", place)
        data["tasks"] = [_task(text, listed) for text in overrides.tasks]
    if overrides.limit is not None:
        data["tasks"] = [{**t, "limit": overrides.limit} for t in _tables(data, "tasks", place)]
    if overrides.max_new_tokens is not None:
        generation = data.setdefault("generation", {})
        if not isinstance(generation, dict):
            raise UserError(f"{place}: generation", "must be a table: [generation]")
        generation["max_new_tokens"] = overrides.max_new_tokens
    if overrides.seed is not None:
        data["seeds"] = [overrides.seed]
    for key, value in (
        ("concurrency", overrides.concurrency),
        ("arrival_rate", overrides.arrival_rate),
        ("think_time_s", overrides.think_time),
    ):
        if value is not None:
            data[key] = value


def _named(text: str, listed: Any) -> dict[str, Any]:
    """A method of the command line: one of the profile's own by label or id, else a new one."""
    for table in listed if isinstance(listed, list) else ():
        if isinstance(table, Mapping) and text == table.get("label"):
            return dict(table)
    method = parse_named(text, "--methods")
    if _PREFIX_CACHE in method["args"]:  # a setting of the engines, not of the method
        method[_PREFIX_CACHE] = method["args"].pop(_PREFIX_CACHE)
    return method


def _task(text: str, listed: list[dict[str, Any]]) -> dict[str, Any]:
    """A task of the command line: the profile's own of that name, with arguments added."""
    given = parse_named(text, "--tasks")
    own = next((t for t in listed if t.get("name") == given["name"]), {})
    args = own.get("args", {})
    if not isinstance(args, dict):
        return dict(own)  # refused where the whole profile is checked
    return {**own, "name": given["name"], "args": {**args, **given["args"]}}


def _method_id(table: dict[str, Any], place: str) -> str:
    try:
        return MethodSpec(**table).id
    except ValidationError as error:
        raise describe(error, MethodSpec, f"{place}: methods") from None


def _tables(data: dict[str, Any], key: str, place: str) -> list[dict[str, Any]]:
    tables = data.get(key)
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise UserError(f"{place}: {key}", f"must be a list of tables: [[{key}]]")
    return tables


def _set(data: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    if not equals or not path.strip():
        raise UserError("--set", f"{setting!r} is not key=value, e.g. generation.temperature=0.7")
    *parents, last = path.strip().split(".")
    table = data
    for parent in parents:
        step = table.setdefault(parent, {})
        if not isinstance(step, dict):
            raise UserError("--set", f"{path!r}: {parent!r} is not a table")
        table = step
    table[last] = parse_value(text)


def parse_value(text: str) -> Any:
    """A TOML value where the text is one, else the text itself."""
    try:
        return tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        return text
