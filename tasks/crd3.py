"""CRD3: a live Dungeons & Dragons game; the model is the game master, the players the user."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from harness.data.dialogue import EMPTY_MESSAGE, exchanges, to_session
from harness.dataset import Dataset, RemoteFile
from harness.session import Session
from harness.task import Drop, TaskCard
from tasks._cast import CHARACTER_ABSENT, UNKNOWN_SPEAKER, as_lines, reply_rule
from tasks._crd3_episode import Episode, Turn, read_episode

LICENSE = "CC-BY-SA-4.0"
REVISION = "7fd4515eea411f0f9c5d0a03a8b6b8b2da464e81"
DUPLICATE_EPISODE = "duplicate_episode"
NO_REPLY = "no_reply"
EVERYONE = "ALL"
"""What the transcripts write where all speak at once."""


class Crd3(Dataset):
    """Episodes of Critical Role in sessions of some replies of one speaker.

    `speaker`: whose words are the model's; "MATT" is the game master. `session_turns`: replies to
    a session; an episode has hundreds. `recap`: how many summaries of what went before stand in
    the system prompt; 0 for none. `metadata` has `plays`, `episode` and the numbers of the
    session's first and last turn, `first_turn` and `last_turn`.
    """

    speaker: str = Field(default="MATT", min_length=1)
    session_turns: int = Field(default=12, ge=1)
    recap: int = Field(default=3, ge=0)

    card: ClassVar[TaskCard] = TaskCard(
        title="CRD3: Critical Role Dungeons & Dragons",
        license=LICENSE,
        language="en",
        origin="https://github.com/RevanthRameshkumar/CRD3, data/aligned data/c=2",
        citation=(
            "Rameshkumar and Bailey, Storytelling with Dialogue: A Critical Role Dungeons and "
            "Dragons Dataset, ACL 2020; transcripts and summaries of Critical Role's community"
        ),
        sessions=None,
        user_turns=None,
        default_warm_turns=8,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    # The other files of an episode have the same turns, cut along other summaries.
    patterns: ClassVar[tuple[str, ...]] = ("*_2_0.json",)
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        RemoteFile(
            "C1E001_2_0.json",
            f"https://raw.githubusercontent.com/RevanthRameshkumar/CRD3/{REVISION}/"
            "data/aligned%20data/c=2/C1E001_2_0.json",
            None,
        ),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        seen: set[str] = set()
        for path in files:
            found = re.search(r"C\d+E\d+", path.name)
            name = found[0] if found else path.name.split(".")[0]
            if name in seen:
                yield Drop(DUPLICATE_EPISODE, str(path), name)
                continue
            seen.add(name)
            yield from self._sessions(name, read_episode(path), path)

    def _sessions(self, name: str, episode: Episode, path: Path) -> Iterator[Session | Drop]:
        for stretch in episode.stretches():
            spoken = []
            for turn in stretch:
                if not turn.text:
                    yield Drop(EMPTY_MESSAGE, turn.place, f"{name}: turn {turn.number}")
                elif not turn.names:
                    yield Drop(UNKNOWN_SPEAKER, turn.place, f"{name}: turn {turn.number}")
                else:
                    spoken.append(turn)
            for part in cut(spoken, self.speaker, self.session_turns):
                yield self._session(name, episode, part, path)

    def _session(self, name: str, episode: Episode, part: list[Turn], path: Path) -> Session | Drop:
        first, last = part[0], part[-1]
        id = f"crd3-{name}-{first.number:05d}"
        if all(turn.names != (self.speaker,) for turn in part):
            behind = any(turn.names == (self.speaker,) for turn in episode.turns)
            return Drop(NO_REPLY if behind else CHARACTER_ABSENT, first.place, id)
        return to_session(
            exchanges(as_lines(part, self.speaker)),
            id=id,
            task="crd3",
            place=first.place,
            reference_kind="human",
            system=self._prompt(part, episode.summaries_before(first.number)),
            license=LICENSE,
            source={"file": path.name, "record": f"turns {first.number} to {last.number}"},
            metadata={
                "plays": self.speaker,
                "episode": name,
                "first_turn": first.number,
                "last_turn": last.number,
            },
        )

    def _prompt(self, part: Sequence[Turn], before: Sequence[str]) -> str:
        role = " You are the game master: you tell the story." if self.speaker == "MATT" else ""
        table = dict.fromkeys(name for turn in part for name in turn.names)
        others = ", ".join(name for name in table if name not in (self.speaker, EVERYONE))
        recap = " ".join(before[-self.recap :]) if self.recap else ""
        parts = (
            f"You speak as {self.speaker} in a live game of Dungeons & Dragons.{role}",
            f"At the table with you: {others}." if others else "",
            f"What happened before: {recap}" if recap else "",
            reply_rule(self.speaker),
        )
        return "\n\n".join(filter(None, parts))


def cut(turns: Sequence[Turn], speaker: str, replies: int) -> Iterator[list[Turn]]:
    """Stretches of `replies` replies of `speaker`; a new one begins where others speak again.

    Words of the speaker before anyone else's are no reply: they open the first stretch. The last
    one is shorter, and may hold what others say behind the last reply.
    """
    part: list[Turn] = []
    count = 0
    for turn in turns:
        own = turn.names == (speaker,)
        after_own = bool(part) and part[-1].names == (speaker,)
        if own and part and not after_own:
            count += 1
        elif not own and after_own and count == replies:
            yield part
            part, count = [], 0
        part.append(turn)
    if part:
        yield part
