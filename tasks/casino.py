"""CaSiNo: two campers share out food, water and firewood; the model is one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from harness.data.dialogue import EMPTY_MESSAGE, Line, exchanges, to_session
from harness.data.json_values import Located, read_values
from harness.dataset import Dataset, RemoteFile, text_of
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard

DUPLICATE_ID = "duplicate_id"
UNCLEAR_DEAL = "unclear_deal"
UNKNOWN_ROLE = "unknown_role"

AGENTS = ("mturk_agent_1", "mturk_agent_2")
ISSUES = ("Food", "Water", "Firewood")
LEVELS = ("High", "Medium", "Low")

SUBMIT, ACCEPT = "Submit-Deal", "Accept-Deal"
PROPOSAL = "I propose this deal: I take {mine}; you take {yours}."
ANSWERS: Mapping[str, str] = MappingProxyType(
    {
        ACCEPT: "I accept the deal.",
        "Reject-Deal": "I reject the deal.",
        "Walk-Away": "I walk away from the negotiation.",
    }
)

SYSTEM = """\
You are camping, and so is your neighbor. Besides the basics there are 3 packages of food, 3 of \
water and 3 of firewood, and you two agree who takes how many of each. You want as many points as \
you can get, and a neighbor who likes you.
- {High} matters most to you, 5 points a package. Your reason: {high_reason}
- {Medium} comes next, 4 points a package. Your reason: {medium_reason}
- {Low} matters least, 3 points a package. Your reason: {low_reason}
Without a deal, both of you get 5 points in all. Only you know these values and reasons. Write one \
to three sentences at a time. To settle it, one of you writes "I propose this deal: I take A food, \
B water and C firewood; you take D food, E water and F firewood." with numbers for the letters, \
and the other one "I accept the deal." or "I reject the deal." You may also write "I walk away \
from the negotiation.\""""

_COMMIT = "2f6ed4a6a55110152a7699fbaa8150d6036314be"
_REPOSITORY = "kushalchawla/CaSiNo"


def _remote(split: str, sha256: str) -> RemoteFile:
    name = f"casino_{split}.json"
    base = f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/data/split"
    return RemoteFile(name, f"{base}/{name}", sha256)


Shares = Mapping[str, Mapping[str, int]]
"""Packages by agent and issue."""


@dataclass(frozen=True)
class _Part:
    """What one camper wants: `priorities` from level to issue, the reasons, the points made."""

    priorities: Mapping[str, str]
    reasons: Mapping[str, str]
    points: int


@dataclass(frozen=True)
class _Talk:
    """What is said, by agent, with deals written out; the deal that was accepted."""

    said: tuple[tuple[str, str], ...]
    deal: Shares | None


class Casino(Dataset):
    """Negotiations of two campers; the other one's published lines are references.

    `model_side`: whom the model plays. "second" is whoever answers first, so that the user begins;
    "mturk_agent_1" and "mturk_agent_2" are the two as the file names them, and what the model's
    one says first then stands in the system prompt.

    The system prompt holds the model's own priorities and reasons, never the other side's. Deals
    proposed, accepted, rejected and walking away are written out as sentences. `metadata` has
    `model_agent`, `deal_reached`, and by side ("model", "user") `priorities`, `points` and `deal`
    (packages by issue; null without a deal). Age, gender, education and personality are not kept.
    """

    model_side: Literal["second", "mturk_agent_1", "mturk_agent_2"] = "second"

    card: ClassVar[TaskCard] = TaskCard(
        title="CaSiNo, campsite negotiations",
        license="CC-BY-4.0",
        language="en",
        origin=f"https://github.com/{_REPOSITORY}",
        citation="Chawla et al., CaSiNo: A Corpus of Campsite Negotiation Dialogues for Automatic "
        "Negotiation Systems, NAACL 2021",
        sessions=1030,
        user_turns=None,
        default_warm_turns=3,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = ("casino*.json",)
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        _remote("train", "6b953d153fc8c78f27e911c1439b93b9b3519357e3ba825091b2e567845ba3a7"),
        _remote("valid", "91f2d1f09accedf98667ac081fd5083752738390734e991601b036643da077e0"),
        _remote("test", "bf6da2d7c105396300d85a65819c04d99304ac9abb8a590ba342fd0c86b4dd12"),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """Sessions and drops; a dialogue that an earlier file had (`casino.json`) is left out."""
        seen: set[int] = set()
        for path in files:
            for found in read_values(path):
                number = _number(found)
                if number in seen:
                    yield Drop(DUPLICATE_ID, found.place, f"casino-{number}")
                    continue
                seen.add(number)
                yield from self._items(found, number)

    def _items(self, found: Located, number: int) -> Iterator[Session | Drop]:
        """The session of a dialogue, after its empty messages; or why it is none."""
        id = f"casino-{number}"
        parts, talk = _parts(found), _talk(found, id)
        if isinstance(talk, Drop):
            yield talk
            return
        model = self._model(talk)
        sides = {"model": model, "user": _other(model)}
        session = to_session(
            exchanges(Line("model" if a == model else "user", text) for a, text in talk.said),
            id=id,
            task="casino",
            place=found.place,
            reference_kind="human",
            system=_system(parts[model]),
            license=self.card.license,
            source={"file": found.path.name, "record": number},
            metadata={
                "model_agent": model,
                "deal_reached": talk.deal is not None,
                "priorities": {side: dict(parts[a].priorities) for side, a in sides.items()},
                "points": {side: parts[a].points for side, a in sides.items()},
                "deal": talk.deal and {side: dict(talk.deal[a]) for side, a in sides.items()},
            },
        )
        if isinstance(session, Session):
            for count, (_, text) in enumerate(talk.said, start=1):
                if not text.strip():
                    yield Drop(EMPTY_MESSAGE, found.place, f"{id}: message {count}")
        yield session

    def _model(self, talk: _Talk) -> str:
        """The agent that the model plays."""
        if self.model_side != "second":
            return self.model_side
        return _other(next((agent for agent, text in talk.said if text.strip()), AGENTS[0]))


def _talk(found: Located, id: str) -> _Talk | Drop:
    said: list[tuple[str, str]] = []
    proposed: Shares | None = None
    deal: Shares | None = None
    for place, message in _messages(found):
        agent, text = text_of(message, "id", place), text_of(message, "text", place)
        if agent not in AGENTS:
            return Drop(UNKNOWN_ROLE, found.place, f"{id}: {agent[:60]!r}")
        if text == SUBMIT:
            proposed = _proposal(message, agent, place)
            if proposed is None:
                return Drop(UNCLEAR_DEAL, found.place, id)
            text = _proposal_text(proposed, agent)
        elif text == ACCEPT:
            deal = proposed
        said.append((agent, ANSWERS.get(text, text)))
    return _Talk(tuple(said), deal)


def _other(agent: str) -> str:
    return AGENTS[1 - AGENTS.index(agent)]


def _number(found: Located) -> int:
    if not isinstance(found.value, dict):
        raise UserError(
            found.place, f"a dialogue must be an object, not {type(found.value).__name__}"
        )
    number = found.value.get("dialogue_id")
    if type(number) is not int:
        raise UserError(
            found.place, f"'dialogue_id' must be a whole number, not {type(number).__name__}"
        )
    return number


def _messages(found: Located) -> Iterator[tuple[str, Any]]:
    """The messages with their places."""
    logs = found.value.get("chat_logs")
    if not isinstance(logs, list):
        raise UserError(
            found.place, f"'chat_logs' must be a list of messages, not {type(logs).__name__}"
        )
    for count, message in enumerate(logs, start=1):
        yield f"{found.place}: message {count}", message


def _parts(found: Located) -> dict[str, _Part]:
    everybody = _object(found.value, "participant_info", found.place)
    parts = {}
    for agent in AGENTS:
        place = f"{found.place}: {agent}"
        one = _object(everybody, agent, found.place)
        issues, why = (_object(one, key, place) for key in ("value2issue", "value2reason"))
        priorities = {level: text_of(issues, level, place) for level in LEVELS}
        if sorted(priorities.values()) != sorted(ISSUES):
            raise UserError(place, f"'value2issue' must rank {', '.join(ISSUES)}, each once")
        points = _object(one, "outcomes", place).get("points_scored")
        if type(points) is not int:
            raise UserError(
                place, f"'points_scored' must be a whole number, not {type(points).__name__}"
            )
        reasons = {level: text_of(why, level, place).strip() for level in LEVELS}
        parts[agent] = _Part(priorities, reasons, points)
    return parts


def _object(record: Mapping[str, Any], key: str, place: str) -> dict[str, Any]:
    value = record.get(key)
    if not isinstance(value, dict):
        raise UserError(place, f"{key!r} must be an object, not {type(value).__name__}")
    return value


def _proposal(message: Any, agent: str, place: str) -> Shares | None:
    """What `agent` proposes, who is its "you"; None where a share is no number of packages."""
    data = _object(message, "task_data", place)
    shares: dict[str, Mapping[str, int]] = {}
    for owner, key in ((agent, "issue2youget"), (_other(agent), "issue2theyget")):
        published = _object(data, key, place)
        counts = {issue: text_of(published, issue, place).strip() for issue in ISSUES}
        if not all(re.fullmatch("[0-3]", count) for count in counts.values()):
            return None
        shares[owner] = {issue: int(count) for issue, count in counts.items()}
    return shares


def _proposal_text(shares: Shares, agent: str) -> str:
    mine, yours = (
        "{Food} food, {Water} water and {Firewood} firewood".format(**shares[a])
        for a in (agent, _other(agent))
    )
    return PROPOSAL.format(mine=mine, yours=yours)


def _system(part: _Part) -> str:
    reasons = {f"{level.lower()}_reason": reason for level, reason in part.reasons.items()}
    return SYSTEM.format(**part.priorities, **reasons)
