"""A negotiation of CraigslistBargain, whichever form it was read from, and what its forms share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from harness.errors import UserError
from harness.task import Drop

Role = Literal["seller", "buyer"]
Act = Literal["offer", "accept", "reject", "quit"]
ROLES: tuple[Role, ...] = get_args(Role)
ACTS: tuple[Act, ...] = get_args(Act)


@dataclass(frozen=True)
class Side:
    """One of the two: its private target (and limit, where the data have one) and its listing."""

    role: Role
    target: float
    bottom_line: float | None
    title: str
    category: str
    price: float | None
    description: str


@dataclass(frozen=True)
class Deal:
    """A negotiation. `said`: who and what, acts put in words; `agreed`: None where not known."""

    id: str
    place: str
    sides: Mapping[Role, Side]
    said: tuple[tuple[Role, str], ...]
    drops: tuple[Drop, ...]
    agreed: bool | None
    price: float | None
    source: Mapping[str, Any]


def act_named(name: Any) -> Act | None:
    """The act of that name; None for a message, or anything else."""
    return next((act for act in ACTS if act == name), None)


def in_words(act: Act, price: float | None = None, terms: str = "") -> str:
    """An act as its speaker would say it."""
    if act == "offer":
        offer = f"I offer {money(price)}." if price is not None else "I make an offer."
        return f"{offer} {terms.strip()}".strip()
    if act == "accept":
        return "I accept the offer."
    if act == "reject":
        return "I reject the offer."
    return "I quit the negotiation."


def money(price: float) -> str:
    """$14,500, or $7.50 where there are cents."""
    return f"${price:,.0f}" if price == int(price) else f"${price:,.2f}"


def sides_of(
    people: list[Mapping[str, Any]], items: list[Mapping[str, Any]], place: str
) -> tuple[Side, Side]:
    """The sides in the order in which the turns number them, 0 and 1.

    Raises UserError unless they are one buyer and one seller with a target each.
    """
    if len(people) != 2 or len(items) != 2:
        raise UserError(place, f"has {len(people)} sides; a negotiation has a buyer and a seller")
    first, second = (_side(person, item, place) for person, item in zip(people, items, strict=True))
    if first.role == second.role:
        raise UserError(place, f"both sides are the {first.role}; one must buy and one sell")
    return first, second


def _side(person: Mapping[str, Any], item: Mapping[str, Any], place: str) -> Side:
    role = next((role for role in ROLES if role == person.get("Role")), None)
    if role is None:
        raise UserError(place, f"'Role' must be 'buyer' or 'seller', not {person.get('Role')!r}")
    target = amount(person.get("Target"), "Target", place)
    if target is None:
        raise UserError(place, f"the {role} has no 'Target'; each side has a target price")
    return Side(
        role=role,
        target=target,
        bottom_line=amount(person.get("Bottomline"), "Bottomline", place),
        title=_text(item.get("Title"), "Title", place, " "),
        category=_text(item.get("Category"), "Category", place, ", "),
        price=amount(item.get("Price"), "Price", place),
        description=_text(item.get("Description"), "Description", place, "\n"),
    )


def amount(value: Any, name: str, place: str) -> float | None:
    """A price. None where there is none, which the hub's columns write as -1 or "None"."""
    if value is None or value in ("None", ""):
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise UserError(place, f"{name!r} must be a price, not {str(value)[:40]!r}")
    return None if number == -1 else number


def _text(value: Any, name: str, place: str, joint: str) -> str:
    """Text, or paragraphs of it; empty where the listing has none."""
    parts = value if isinstance(value, list) else [value]
    if not all(part is None or isinstance(part, str) for part in parts):
        raise UserError(place, f"{name!r} must be a string or a list of strings")
    return joint.join(filter(None, (part.strip() for part in parts if part)))
