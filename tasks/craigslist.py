"""CraigslistBargain: the model sells (or buys) a listed item, with a private target price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from harness.data.dialogue import EMPTY_MESSAGE, Line, exchanges, to_session
from harness.data.json_values import Located
from harness.data.records import read_records
from harness.dataset import Dataset
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._cast import DUPLICATE_ID
from tasks._craigslist_columns import from_columns
from tasks._craigslist_deal import Deal, Role, Side, money
from tasks._craigslist_events import from_events

LICENSE = "MIT"


class Craigslist(Dataset):
    """Two people bargain about a listing; one of them is the model.

    `model_side`: the side that the model takes, "seller" or "buyer". Its system prompt has the
    listing and its own private target, never the other side's. `metadata` has `model_side`,
    `category`, `list_price`, `seller_target`, `buyer_target`, and what came of it: `deal` (None
    where the data do not say) and `price`.
    """

    model_side: Role = "seller"

    card: ClassVar[TaskCard] = TaskCard(
        title="CraigslistBargain",
        license=LICENSE,
        language="en",
        origin="https://stanfordnlp.github.io/cocoa (CodaLab bundles of parsed.json)",
        citation=(
            "He et al., Decoupling Strategy and Generation in Negotiation Dialogues, EMNLP 2018, "
            "arXiv:1808.09637"
        ),
        sessions=6682,  # published dialogues; those in which the other side is silent drop out
        user_turns=None,
        default_warm_turns=3,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = ("*.json", "*.jsonl", "*.parquet")

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """A dialogue whose id came before is dropped: splits of different releases may overlap."""
        seen: set[str] = set()
        for path in files:
            for number, found in enumerate(read_records(path), start=1):
                deal = _deal(found, number)
                if deal.id in seen:
                    yield Drop(DUPLICATE_ID, deal.place, deal.id)
                    continue
                seen.add(deal.id)
                yield from self._items(deal)

    def _items(self, deal: Deal) -> Iterator[Session | Drop]:
        yield from deal.drops
        found = exchanges(
            Line("model" if role == self.model_side else "user", text) for role, text in deal.said
        )
        yield from [Drop(EMPTY_MESSAGE, deal.place, deal.id)] * found.empty
        side = deal.sides[self.model_side]
        yield to_session(
            found,
            id=deal.id,
            task="craigslist",
            place=deal.place,
            reference_kind="human",
            system=_prompt(side),
            license=LICENSE,
            source=deal.source,
            metadata={
                "model_side": side.role,
                "category": side.category,
                "list_price": side.price,
                "seller_target": deal.sides["seller"].target,
                "buyer_target": deal.sides["buyer"].target,
                "deal": deal.agreed,
                "price": deal.price,
            },
        )


def _deal(found: Located, number: int) -> Deal:
    """A record in whichever of the published forms it is."""
    record = found.value
    if isinstance(record, dict) and "scenario" in record:
        return from_events(found)
    if isinstance(record, dict) and "agent_turn" in record:
        return from_columns(found, number)
    raise UserError(
        found.place,
        "is no negotiation: it has neither a 'scenario' (the authors' JSON) nor an 'agent_turn' "
        "(the hub's columns)",
    )


def _prompt(side: Side) -> str:
    """What the model's side knows: the listing as it sees it, its target, how acts are written."""
    selling = side.role == "seller"
    other = "buyer" if selling else "seller"
    listing = (
        f"Title: {side.title}" if side.title else "",
        f"Category: {side.category}" if side.category else "",
        f"Listing price: {money(side.price)}" if side.price is not None else "",
        f"Description:\n{side.description}" if side.description else "",
    )
    limit = f" Your limit is {money(side.bottom_line)}." if side.bottom_line is not None else ""
    parts = (
        f"You are the {side.role} of an item in a classified listing and chat with the {other}. "
        f"Bargain for a price as {'high' if selling else 'low'} as you can get.",
        "\n".join(filter(None, listing)),
        f"Your private target is {money(side.target)}.{limit} The {other} does not know it.",
        'To make an offer, write "I offer $..."; to answer one, "I accept the offer." or '
        '"I reject the offer."; to leave without a deal, "I quit the negotiation."',
    )
    return "\n\n".join(filter(None, parts))
