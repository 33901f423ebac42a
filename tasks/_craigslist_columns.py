"""CraigslistBargain in the hub's columns: parallel lists of who speaks, what, and by which act.

That form keeps the text of messages only. What else happened is in the act's name, which the hub's
test split lacks: there offers and their answers are lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.data.json_values import Located
from harness.errors import UserError
from harness.task import Drop
from tasks._cast import UNKNOWN_SPEAKER
from tasks._craigslist_deal import (
    Act,
    Deal,
    Role,
    act_named,
    amount,
    in_words,
    sides_of,
)

LOST_ACT = "lost_act"
"""A turn without text and without an act's name."""


def from_columns(found: Located, number: int) -> Deal:
    """The negotiation that is record `number` of its file: the columns hold no ids.

    Raises UserError for a record that is not of the schema.
    """
    record, place = found.value, found.place
    id = f"craigslist-{found.path.name.split('.')[0]}-{number:05d}"
    people, items = (_rows(record.get(key), key, place) for key in ("agent_info", "items"))
    sides = sides_of(people, items, place)
    turns, texts = (_list(record.get(key), key, place) for key in ("agent_turn", "utterance"))
    acts = _rows(record.get("dialogue_acts"), "dialogue_acts", place)
    if not len(turns) == len(texts) == len(acts):
        raise UserError(
            place,
            f"has {len(turns)} of 'agent_turn', {len(texts)} of 'utterance' and {len(acts)} of "
            "'dialogue_acts'; the lists must be equally long",
        )
    said: list[tuple[Role, str]] = []
    drops = []
    agreed, offer = False, None
    for agent, text, labels in zip(turns, texts, acts, strict=True):
        act = _act(text, labels)
        if act == "offer":
            offer = amount(labels.get("price"), "price", place)
        agreed = agreed or act == "accept"
        if agent not in (0, 1):
            drops.append(Drop(UNKNOWN_SPEAKER, place, id))
        elif not text and not labels.get("intent"):
            drops.append(Drop(LOST_ACT, place, id))
        else:
            said.append((sides[agent].role, in_words(act, offer) if act else text or ""))
    known = all(drop.reason != LOST_ACT for drop in drops)
    return Deal(
        id=id,
        place=place,
        sides={side.role: side for side in sides},
        said=tuple(said),
        drops=tuple(drops),
        agreed=agreed if known else None,
        price=offer if agreed and known else None,
        source={"file": found.path.name, "record": number},
    )


def _act(text: str | None, labels: Mapping[str, Any]) -> Act | None:
    """The act of a turn without text, by its name; None for a message."""
    return None if text else act_named(labels.get("intent"))


def _rows(value: Any, key: str, place: str) -> list[Mapping[str, Any]]:
    """A column of records: as a list of objects, or as an object of lists (the hub's writing)."""
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return value
    if not isinstance(value, dict) or not all(isinstance(v, list) for v in value.values()):
        raise UserError(place, f"{key!r} must be an object of lists or a list of objects")
    if len({len(v) for v in value.values()}) > 1:
        raise UserError(place, f"the lists of {key!r} must be equally long")
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]


def _list(value: Any, key: str, place: str) -> list[Any]:
    kind = int if key == "agent_turn" else str
    if not isinstance(value, list) or not all(v is None or type(v) is kind for v in value):
        raise UserError(place, f"{key!r} must be a list of {kind.__name__}")
    return value
