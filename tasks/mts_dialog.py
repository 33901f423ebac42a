"""MTS-Dialog: short English visits at the doctor's, written from clinical notes."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

from harness.data.dialogue import EMPTY_MESSAGE, Line, exchanges, to_session
from harness.data.json_values import Located
from harness.data.records import read_csv
from harness.dataset import Dataset, RemoteFile
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop, TaskCard

Role = Literal["doctor", "patient", "other"]
"""Other: a guest, or a second doctor or patient."""

DUPLICATE_ID = "duplicate_id"
NO_MODEL_TURN = "no_model_turn"
NO_SPEAKER = "no_speaker"

DOCTOR = (
    "You are the doctor in a visit. The patient speaks with you, and at times a relative or a "
    "colleague, whose name then stands before the words. Say only what the doctor says next, in "
    "one to three sentences."
)
PATIENT = (
    "You are the patient in a visit. The doctor speaks with you, and at times a relative or "
    "somebody of the staff, whose name then stands before the words. Say only what the patient "
    "says next, in one or two sentences. What is so about you, as the doctor will note it "
    "after the visit:\n{note}"
)

_COLUMNS = ("ID", "section_header", "section_text", "dialogue")
_PREFIX = "MTS-Dialog-"
_NAMES: Mapping[str, Role] = MappingProxyType(
    {
        "doctor": "doctor",
        "patient": "patient",
        "guest_family": "other",
        "guest_clinician": "other",
    }
)
_NUMBER = re.compile(r"_[0-9]+$")

_LABEL = re.compile(
    # A name that begins a line, in any spelling; elsewhere only the four names as they should be.
    r"(?:^[^\S\n]*(?P<first>[A-Za-z]+(?:_[A-Za-z0-9]+)*)"
    r"|(?<=\s)(?P<later>(?:Doctor|Patient|Guest_family|Guest_clinician)(?:_[0-9]+)?))[^\S\n]*:",
    re.MULTILINE,
)
_SIMILAR = 0.82
"""So alike are a misspelt name and the right one ("docotr" and "doctor": 0.83)."""

_COMMIT = "3ff0801933608d6f570468c13125125fb5cabdea"
_REPOSITORY = "abachaa/MTS-Dialog"


def _remote(name: str, sha256: str | None) -> RemoteFile:
    base = f"https://raw.githubusercontent.com/{_REPOSITORY}/{_COMMIT}/Main-Dataset"
    return RemoteFile(f"{_PREFIX}{name}.csv", f"{base}/{_PREFIX}{name}.csv", sha256)


class _Said(NamedTuple):
    """A message: who says it, under which name, and what."""

    role: Role
    name: str
    text: str


class MtsDialog(Dataset):
    """Visits at the doctor's; what one side says in a row becomes one message.

    `model_side`: whom the model plays, "doctor" (who mostly asks) or "patient". Everybody else is
    the user; whoever is neither doctor nor patient, or a second one of them, keeps the name before
    the words. The doctor's part has an instruction of this project's own and knows nothing of the
    patient; the patient's part is also told the note of the visit, since nobody could answer
    without it. `metadata` has `section`, the part of the note that the visit is about.
    """

    model_side: Literal["doctor", "patient"] = "doctor"

    card: ClassVar[TaskCard] = TaskCard(
        title="MTS-Dialog, doctor-patient conversations",
        license="CC-BY-4.0",
        language="en",
        origin=f"https://github.com/{_REPOSITORY}",
        citation="Ben Abacha et al., An Empirical Study of Clinical Note Generation from "
        "Doctor-Patient Encounters, EACL 2023",
        sessions=1701,
        user_turns=None,
        default_warm_turns=2,
        reference_kind="human",
    )
    scorers: ClassVar[tuple[str, ...]] = ("similarity", "rouge_l", "repetition")
    patterns: ClassVar[tuple[str, ...]] = (
        f"{_PREFIX}TrainingSet.csv",
        f"{_PREFIX}ValidationSet.csv",
        f"{_PREFIX}TestSet-*.csv",
    )
    remote: ClassVar[tuple[RemoteFile, ...]] = (
        _remote("TrainingSet", "65a28681dd59fc159681ea026e44610f2af7bc64a0e7f892d763eb03d9f503dc"),
        _remote(
            "ValidationSet", "227206520c4534381c0d7fba6d3f09319a9af5a6d9603a93c0341af1198e3958"
        ),
        _remote(
            "TestSet-1-MEDIQA-Chat-2023",
            "b4d38dd2c99b2e9860099abcf653f1e0f3e9b69f9fcc45be2a2699b37a4d2f37",
        ),
        _remote("TestSet-2-MEDIQA-Sum-2023", None),
    )

    def read(self, files: Sequence[Path]) -> Iterator[Session | Drop]:
        """Sessions and drops; numbers begin anew in each file, so an id has the file's name."""
        seen: set[str] = set()
        for path in files:
            part = path.name.split(".")[0].removeprefix(_PREFIX)
            for row in read_csv(path, _COLUMNS):
                number = row.value["ID"].strip()
                if not number:
                    raise UserError(row.place, "'ID' is empty; every dialogue needs one")
                id = f"mts_dialog-{part}-{number}"
                if id in seen:
                    yield Drop(DUPLICATE_ID, row.place, id)
                    continue
                seen.add(id)
                yield from self._items(row, id, number)

    def _items(self, row: Located, id: str, number: str) -> Iterator[Session | Drop]:
        """The session of a row, after what was left out of it; or why it is none."""
        before, messages = _messages(row.value["dialogue"])
        lines = [self._line(message) for message in messages]
        system = DOCTOR
        if self.model_side == "patient":
            system = PATIENT.format(note=row.value["section_text"].strip())
        found = to_session(
            exchanges(lines),
            id=id,
            task="mts_dialog",
            place=row.place,
            reference_kind="human",
            system=system,
            license=self.card.license,
            source={"file": row.path.name, "record": number},
            metadata={"section": row.value["section_header"].strip()},
        )
        if isinstance(found, Session) and not _model_speaks(lines):
            found = Drop(NO_MODEL_TURN, row.place, id)
        if isinstance(found, Session):
            if before:
                yield Drop(NO_SPEAKER, row.place, f"{id}: {before[:60]!r}")
            for count, line in enumerate(lines, start=1):
                if not line.text:
                    yield Drop(EMPTY_MESSAGE, row.place, f"{id}: message {count}")
        yield found

    def _line(self, said: _Said) -> Line:
        if said.role == self.model_side:
            return Line("model", said.text)
        named = said.role == "other" and said.text
        return Line("user", f"{said.name}: {said.text}" if named else said.text)


def _messages(dialogue: str) -> tuple[str, list[_Said]]:
    """What stands before the first name, and the messages; a line without a name goes on."""
    starts = [
        (match, name, role)
        for match in _LABEL.finditer(dialogue)
        if (role := _role(name := match["first"] or match["later"]))
    ]
    if not starts:
        return dialogue.strip(), []
    ends = [match.start() for match, _, _ in starts[1:]] + [len(dialogue)]
    messages = [
        _Said(role, name, _tidy(dialogue[match.end() : end]))
        for (match, name, role), end in zip(starts, ends, strict=True)
    ]
    return dialogue[: starts[0][0].start()].strip(), messages


def _role(name: str) -> Role | None:
    """Whose name it is, misspelt or not; None for a word that is nobody's name."""
    plain = _NUMBER.sub("", name.lower())
    if plain.startswith("guest"):
        return "other"
    close = next(iter(difflib.get_close_matches(plain, _NAMES, 1, _SIMILAR)), None)
    if close is None:
        return None
    # Doctor_1 is the doctor, Doctor_2 a second one.
    first = name.lower() == plain or name.endswith("_1")
    return _NAMES[close] if first else "other"


def _tidy(text: str) -> str:
    """Without the irregular blanks at the ends of lines."""
    return "\n".join(line.strip() for line in text.strip().split("\n"))


def _model_speaks(lines: Sequence[Line]) -> bool:
    return any(line.speaker == "model" and line.text for line in lines)
