"""CraigslistBargain as its authors' system writes it: a scenario, events and an outcome.

The parsed files add each message's dialogue act as `metadata` of its event; the text is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.data.json_values import Located
from harness.dataset import text_of
from harness.errors import UserError
from harness.task import Drop
from tasks._cast import UNKNOWN_SPEAKER
from tasks._craigslist_deal import Deal, Role, act_named, amount, in_words, sides_of

OTHER_EVENT = "other_event"
"""What is no move of the negotiation, as joining or typing."""


def from_events(found: Located) -> Deal:
    """Raises UserError for a record that is not of the schema."""
    record, place = found.value, found.place
    id = f"craigslist-{text_of(record, 'uuid', place)}"
    kbs = _mapping(record, "scenario", place).get("kbs")
    if not isinstance(kbs, list):
        raise UserError(place, "the scenario has no list 'kbs' of what each side knows")
    sides = sides_of(
        [_mapping(kb, "personal", place) for kb in kbs],
        [_mapping(kb, "item", place) for kb in kbs],
        place,
    )
    events = record.get("events")
    if not isinstance(events, list):
        raise UserError(place, f"'events' must be a list, not {type(events).__name__}")
    said: list[tuple[Role, str]] = []
    drops = []
    for number, event in enumerate(events, start=1):
        where = f"{place} (event {number})"
        text = _said(event, where)
        agent = _agent(event, where)
        if text is None:
            drops.append(Drop(OTHER_EVENT, place, f"{id}: {event['action']}"))
        elif agent is None:
            drops.append(Drop(UNKNOWN_SPEAKER, place, f"{id}: {event['action']}"))
        else:
            said.append((sides[agent].role, text))
    agreed, price = _outcome(record.get("outcome"), place)
    return Deal(
        id=id,
        place=place,
        sides={side.role: side for side in sides},
        said=tuple(said),
        drops=tuple(drops),
        agreed=agreed,
        price=price,
        source={"file": found.path.name, "record": record["uuid"]},
    )


def _said(event: Any, place: str) -> str | None:
    """What an event says; None for an event that is no move."""
    action = text_of(event, "action", place)
    if action == "message":
        return text_of(event, "data", place)
    act = act_named(action)
    if act != "offer":
        return in_words(act) if act else None
    data = _mapping(event, "data", place)
    terms = data.get("sides")
    price = amount(data.get("price"), "price", place)
    return in_words(act, price, terms if isinstance(terms, str) else "")


def _agent(event: Mapping[str, Any], place: str) -> int | None:
    """0 or 1, the side's place among the `kbs`; None where the event has no agent."""
    agent = event.get("agent")
    if agent is None:
        return None
    if isinstance(agent, bool) or agent not in (0, 1):
        raise UserError(place, f"'agent' must be 0 or 1, not {agent!r}")
    return int(agent)


def _outcome(value: Any, place: str) -> tuple[bool | None, float | None]:
    """Whether they agreed, and on what. An offer stands there also where it was turned down."""
    if value is None:
        return None, None
    if not isinstance(value, dict):
        raise UserError(place, f"'outcome' must be an object or null, not {type(value).__name__}")
    if value.get("reward") is None:
        return None, None
    if value["reward"] != 1:
        return False, None
    offer = value.get("offer")
    price = offer.get("price") if isinstance(offer, dict) else None
    return True, amount(price, "price", place)


def _mapping(value: Any, key: str, place: str) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, dict):
        raise UserError(place, f"{key!r} must be an object, not {type(found).__name__}")
    return found
