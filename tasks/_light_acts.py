"""The scenes of a YAML file of acts, as ParlAI writes a teacher's examples: lines that build up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from harness.data.json_values import Located
from harness.data.text import read_chunks
from harness.errors import UserError

SILENCE = "__SILENCE__"
"""The label of an act in which the one speaker of a single-speaker file says nothing."""


def read_scenes(path: Path) -> Iterator[Located]:
    """The scenes: characters with personas, location, and all lines as pairs of name and text.

    An act has the lines so far and the next one as its label. Acts of one scene build on each
    other: the lines of one are the first lines of the next, which is checked. A new scene begins
    with an act of no more lines than the one before it, or of other characters or another place.
    Raises UserError at the act that is wrong.
    """
    scene: Located | None = None
    lines: list[str] = []
    for found in _acts(path):
        said = _lines(found.value, found.place)
        if scene is not None and (len(said) <= len(lines) or not _same(scene, found)):
            yield _whole(scene, lines)
            scene = None
        elif scene is not None and said[: len(lines)] != lines:
            number = next(n for n, line in enumerate(lines) if line != said[n]) + 1
            raise UserError(
                found.place,
                f"line {number} of 'full_context' is not what the act before has there; "
                "an act repeats the lines of the acts before it",
            )
        scene, lines = scene or found, said
    if scene is None:
        raise UserError(path, "'acts' is empty")
    yield _whole(scene, lines)


def _same(one: Located, other: Located) -> bool:
    return all(one.value.get(key) == other.value.get(key) for key in ("personas", "location"))


def _acts(path: Path) -> Iterator[Located]:
    """The acts with the line each begins on. An act is a list of one example."""
    content, lines = _load(path)
    if not isinstance(content, dict) or not isinstance(content.get("acts"), list):
        raise UserError(path, "is no file of acts: a mapping with a list 'acts' was expected")
    for act, line in zip(content["acts"], lines, strict=True):
        examples = act if isinstance(act, list) else [act]
        for example in examples:
            if not isinstance(example, dict):
                raise UserError(
                    f"{path}:{line}", f"an act must be a mapping, not {type(example).__name__}"
                )
            yield Located(path, line, example)


def _load(path: Path) -> tuple[Any, list[int]]:
    """The content, and the line of each item of its list `acts`."""
    import yaml

    text = "".join(read_chunks(path))
    try:
        content = yaml.safe_load(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}:{mark.line + 1}" if mark else path
        raise UserError(place, f"not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UserError(path, f"not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise UserError(path, "not valid YAML: nested too deeply") from None
    except (ValueError, LookupError, AttributeError) as error:
        # A scalar that its tag does not fit, as in `!!bool perhaps`.
        raise UserError(path, f"not valid YAML: a value is not of its type: {error}") from None
    members = root.value if isinstance(root, yaml.MappingNode) else []
    acts = [value for key, value in members if key.value == "acts"]
    items = acts[-1].value if acts and isinstance(acts[-1], yaml.SequenceNode) else []
    return content, [item.start_mark.line + 1 for item in items]


def _lines(act: Mapping[str, Any], place: str) -> list[str]:
    """The lines so far and the one that is the label, as "name: text"."""
    context = act.get("full_context")
    labels = act.get("labels", act.get("eval_labels"))
    if not _strings(context):
        raise UserError(place, "'full_context' must be a list of strings")
    if not _strings(labels):
        raise UserError(place, "'labels' (or 'eval_labels') must be a list of strings")
    if len(labels) != 1:
        raise UserError(place, f"has {len(labels)} labels where one was expected")
    if labels[0].strip().endswith(SILENCE):
        raise UserError(
            place,
            f"a label is {SILENCE}: these are the acts of one speaker; give those of all speakers",
        )
    return [*context, labels[0]]


def _strings(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _whole(act: Located, lines: list[str]) -> Located:
    """The scene that begins with `act` and has `lines` in the end."""
    personas = act.value.get("personas")
    if not isinstance(personas, list) or not all(isinstance(p, dict) for p in personas):
        raise UserError(act.place, "'personas' must be a list of names with personas")
    names = [p["name"] for p in personas if isinstance(p.get("name"), str)]
    pairs = [_split(line, names, act.place) for line in lines]
    return Located(act.path, act.line, {**act.value, "characters": personas, "lines": pairs})


def _split(line: str, names: list[str], place: str) -> tuple[str, str]:
    """Name and text of a line. A name may hold a colon or begin as another does."""
    speaking = [name for name in names if line.startswith(f"{name}:")]
    if not speaking:
        known = ", ".join(names) or "none"
        raise UserError(place, f"no character says {line[:60]!r}; characters: {known}")
    name = max(speaking, key=len)
    return name, line[len(name) + 1 :]
