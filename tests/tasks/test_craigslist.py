"""CraigslistBargain in its three forms: who is told what, how acts are said, what is left out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks.craigslist import Craigslist

FIXTURES = Path(__file__).parents[1] / "fixtures" / "craigslist"


def read(path: Path, **arguments: Any) -> tuple[dict[str, Session], Counter[str]]:
    items = list(Craigslist(path=path, **arguments).items())
    sessions = [item for item in items if isinstance(item, Session)]
    return (
        {session.id.removeprefix("craigslist-"): session for session in sessions},
        Counter(item.reason for item in items if isinstance(item, Drop)),
    )


@pytest.fixture
def native() -> dict[str, Any]:
    """The first negotiation of the fixture, to be spoilt."""
    return json.loads((FIXTURES / "native.json").read_text("utf-8"))[0]


def test_the_other_side_speaks_first_and_messages_in_a_row_are_one() -> None:
    sessions, _ = read(FIXTURES / "native.json")
    lamp = sessions["C_lamp"]
    assert lamp.turns == (
        "Hello, is the lamp still there?",
        "I am. Would you take 60?",
        "Fine.\nI offer $75.",
    )
    assert lamp.references == (
        "It is.\nAre you near the station?",
        "75 and it is yours.",
        "I accept the offer.",
    )
    assert lamp.reference_kind == "human"
    assert lamp.source == {"file": "native.json", "record": "C_lamp"}


def test_the_models_side_speaks_first() -> None:
    bike = read(FIXTURES / "native.json")[0]["C_bike"]
    assert bike.system is not None
    assert bike.system.endswith(
        "You opened the conversation with these words:\nGood morning!\nAre you here for the bike?"
    )
    assert bike.turns == (
        "Yes. What is the least you take?",
        "I reject the offer.",
        "I quit the negotiation.",
    )
    assert bike.references == ("I offer $1,299.50. I bring it to you.", "Then no.", None)


def test_the_buyers_side() -> None:
    bike = read(FIXTURES / "native.json", model_side="buyer")[0]["C_bike"]
    assert bike.turns == (
        "Good morning!\nAre you here for the bike?",
        "I offer $1,299.50. I bring it to you.",
        "Then no.",
    )
    assert bike.references == (
        "Yes. What is the least you take?",
        "I reject the offer.",
        "I quit the negotiation.",
    )


@pytest.mark.parametrize(
    ("side", "told", "hidden"),
    [("seller", ("$1,450", "$1,200"), "1,049"), ("buyer", ("$1,049.50",), "1,450")],
)
def test_only_the_own_target_and_limit_are_told(
    side: str, told: tuple[str, ...], hidden: str
) -> None:
    bike = read(FIXTURES / "native.json", model_side=side)[0]["C_bike"]
    assert bike.system is not None
    for figure in (*told, "$1,500"):
        assert figure in bike.system
    assert hidden not in bike.system
    if side == "buyer":
        assert "limit" not in bike.system and "1,200" not in bike.system
    assert bike.metadata["seller_target"] == 1450 and bike.metadata["buyer_target"] == 1049.5
    assert bike.opening().metadata == {}


def test_each_side_sees_its_own_listing() -> None:
    """The buyer's description is often cut short in the data."""
    seen = {
        side: read(FIXTURES / "native.json", model_side=side)[0]["C_lamp"].system
        for side in ("seller", "buyer")
    }
    for system in seen.values():
        assert system is not None
        assert "Brass desk lamp" in system and "Category: furniture" in system
        assert "Works well." in system and ".jpg" not in system
    assert "Small dent" in str(seen["seller"]) and "Small dent" not in str(seen["buyer"])


def test_what_came_of_it() -> None:
    """An offer that was turned down stands in the outcome and is no deal."""
    sessions, _ = read(FIXTURES / "native.json")
    facts = {name: (s.metadata["deal"], s.metadata["price"]) for name, s in sessions.items()}
    assert facts == {"C_lamp": (True, 75.0), "C_bike": (False, None), "C_odd": (None, None)}
    assert sessions["C_lamp"].metadata["category"] == "furniture"
    assert sessions["C_lamp"].metadata["list_price"] == 90


def test_what_is_left_out_is_counted() -> None:
    sessions, drops = read(FIXTURES / "native.json")
    assert list(sessions) == ["C_lamp", "C_bike", "C_odd"]
    assert drops == {
        "empty_message": 1,  # the buyer's, of C_bike
        "no_user_turn": 2,  # C_silent, C_alone
        "duplicate_id": 1,
        "other_event": 2,  # join, typing
        "unknown_speaker": 1,
    }


def test_a_listing_may_lack_price_and_description() -> None:
    odd = read(FIXTURES / "native.json")[0]["C_odd"]
    assert odd.turns == ("Five for the box?",) and odd.references == ("I make an offer.",)
    assert odd.system is not None
    assert "Listing price" not in odd.system and "Description" not in odd.system
    assert odd.metadata["list_price"] is None


def test_the_parsed_form_gives_the_same_sessions() -> None:
    native, _ = read(FIXTURES / "native.json")
    parsed, drops = read(FIXTURES / "parsed.json")
    assert drops == {"empty_message": 1}
    for name, session in parsed.items():
        assert session.turns == native[name].turns
        assert session.references == native[name].references
        assert session.system == native[name].system


@pytest.mark.parametrize("side", ["seller", "buyer"])
def test_the_hubs_columns_give_the_same_dialogues(side: str) -> None:
    native, _ = read(FIXTURES / "native.json", model_side=side)
    hub, _ = read(FIXTURES / "hub.jsonl", model_side=side)
    lamp = hub["hub-00001"]
    assert (lamp.turns, lamp.references) == (native["C_lamp"].turns, native["C_lamp"].references)
    for key in ("deal", "price", "seller_target", "buyer_target", "list_price", "category"):
        assert lamp.metadata[key] == native["C_lamp"].metadata[key]
    bike, told = hub["hub-00002"], native["C_bike"]
    # The terms of an offer are not in the columns.
    terms = " I bring it to you."
    assert bike.turns == tuple(turn.removesuffix(terms) for turn in told.turns)
    assert (bike.metadata["deal"], bike.metadata["price"]) == (False, None)
    assert bike.system is not None
    assert ("Your limit is $1,200" in bike.system) == (side == "seller")
    assert "None" not in bike.system


def test_acts_that_the_hubs_columns_lost_are_counted() -> None:
    """Without names of acts, as in the hub's test split, turns without text say nothing."""
    hub, drops = read(FIXTURES / "hub.jsonl")
    assert drops == {"empty_message": 1, "lost_act": 2, "unknown_speaker": 1}
    lamp = hub["hub-00003"]
    assert lamp.turns[-1] == "Fine."
    assert lamp.metadata["deal"] is None and lamp.metadata["price"] is None
    assert lamp.metadata["list_price"] is None and lamp.system is not None
    assert "Listing price" not in lamp.system and "-1" not in lamp.system


def test_parquet_rows_in_columns_of_records(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [json.loads(line) for line in (FIXTURES / "hub.jsonl").read_text("utf-8").splitlines()]
    for row in rows:
        for key in ("agent_info", "dialogue_acts", "items"):
            names = list(row[key])
            row[key] = [
                dict(zip(names, v, strict=True)) for v in zip(*row[key].values(), strict=True)
            ]
    path = tmp_path / "hub.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    expected, drops = read(FIXTURES / "hub.jsonl")
    found, found_drops = read(path)
    assert found_drops == drops
    assert [s.turns for s in found.values()] == [s.turns for s in expected.values()]


def test_an_id_is_taken_once_over_all_files(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes((FIXTURES / "parsed.json").read_bytes())
    sessions, drops = read(tmp_path)
    assert len(sessions) == 2 and drops["duplicate_id"] == 2
    assert {s.source["file"] for s in sessions.values()} == {"a.json"}


def _spoil(record: dict[str, Any], *keys: Any, value: Any = None) -> None:
    for key in keys[:-1]:
        record = record[key]
    if value is None:
        del record[keys[-1]]
    else:
        record[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("uuid",), None, "'uuid' must be a string"),
        (("scenario",), [], "'scenario' must be an object, not list"),
        (("scenario", "kbs"), None, "no list 'kbs'"),
        (("scenario", "kbs", 1), None, "has 1 sides"),
        (("scenario", "kbs", 0, "personal"), None, "'personal' must be an object"),
        (("scenario", "kbs", 0, "personal", "Role"), "broker", "not 'broker'"),
        (("scenario", "kbs", 0, "personal", "Role"), "seller", "both sides are the seller"),
        (("scenario", "kbs", 0, "personal", "Target"), None, "the buyer has no 'Target'"),
        (("scenario", "kbs", 0, "personal", "Target"), "cheap", "'Target' must be a price"),
        (("scenario", "kbs", 0, "personal", "Target"), True, "'Target' must be a price"),
        (("scenario", "kbs", 1, "item", "Description"), 3, "'Description' must be a string"),
        (("events",), {"0": "hi"}, "'events' must be a list, not dict"),
        (("events", 2, "action"), None, r"\(event 3\): 'action' must be a string"),
        (("events", 2, "data"), 7, r"\(event 3\): 'data' must be a string, not int"),
        (("events", 6, "data"), "75", r"\(event 7\): 'data' must be an object, not str"),
        (("events", 2, "agent"), 2, r"\(event 3\): 'agent' must be 0 or 1, not 2"),
        (("events", 2, "agent"), "0", r"\(event 3\): 'agent' must be 0 or 1, not '0'"),
        (("outcome",), "deal", "'outcome' must be an object or null"),
        (("scenario",), None, "neither a 'scenario'"),
    ],
)
def test_what_is_not_of_the_schema(
    native: dict[str, Any], tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    good = json.dumps({**native, "uuid": "C_other"})
    _spoil(native, *keys, value=value)
    path = tmp_path / "bad.json"
    path.write_text(f"[\n{good},\n{json.dumps(native)}\n]\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.place.startswith(f"{path}:3")


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("utterance",), None, "'utterance' must be a list of str"),
        (("utterance", 0), None, "has 8 of 'agent_turn', 7 of 'utterance' and 8 of"),
        (("agent_turn", 0), "0", "'agent_turn' must be a list of int"),
        (("agent_turn", 0), True, "'agent_turn' must be a list of int"),
        (("dialogue_acts",), "none", "'dialogue_acts' must be an object of lists"),
        (("dialogue_acts", "price", 0), None, "the lists of 'dialogue_acts' must be equally long"),
        (("items",), None, "'items' must be an object of lists"),
        (("agent_info", "Target"), None, "the buyer has no 'Target'"),
    ],
)
def test_columns_that_are_not_of_the_schema(
    tmp_path: Path, keys: tuple[Any, ...], value: Any, message: str
) -> None:
    first = (FIXTURES / "hub.jsonl").read_text("utf-8").splitlines()[0]
    record = json.loads(first)
    _spoil(record, *keys, value=value)
    path = tmp_path / "hub.jsonl"
    path.write_text(f"{first}\n{json.dumps(record)}\n", encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.place == f"{path}:2"


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_text((FIXTURES / "native.json").read_text("utf-8")[:3000], encoding="utf-8")
    with pytest.raises(UserError, match="it was cut off"):
        read(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(UserError, match="empty"):
        read(path)
    path.write_text('["hello"]', encoding="utf-8")
    with pytest.raises(UserError, match="no negotiation"):
        read(path)


# Counted without the loader: for each dialogue the runs of one `agent` in its events (kbs[0] is
# the buyer in all of them), with itertools.groupby over json.load; a user turn is a run of the
# other side. Deals are the dialogues with outcome.reward 1. No event has blank data but the
# accepts, rejects and quits, and no uuid comes twice.
@pytest.mark.parametrize(
    ("name", "side", "sessions", "turns", "deals", "switchable"),
    [
        ("dialograph_test.head.json", "seller", 108, 411, 72, 44),
        ("dialograph_test.head.json", "buyer", 108, 413, 72, 47),
        ("dialogstudio_original_examples.json", "seller", 5, 19, 3, 2),
        ("dialogstudio_original_examples.json", "buyer", 5, 18, 3, 1),
    ],
)
def test_the_real_samples(
    real_sample, name: str, side: str, sessions: int, turns: int, deals: int, switchable: int
) -> None:
    found, drops = read(real_sample(f"craigslist/{name}"), model_side=side)
    assert not drops
    assert len(found) == sessions
    assert sum(len(s.turns) for s in found.values()) == turns
    assert sum(s.metadata["deal"] for s in found.values()) == deals
    warm = Craigslist.card.default_warm_turns
    assert sum(len(s.turns) >= warm + 2 for s in found.values()) == switchable
    for session in found.values():
        told = f"Your private target is ${session.metadata[f'{side}_target']:,.0f}."
        assert str(session.system).count("private target") == str(session.system).count(told) == 1
