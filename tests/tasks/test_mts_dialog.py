"""MTS-Dialog: who speaks, which side the model plays, and what is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from tasks.mts_dialog import DOCTOR, MtsDialog

FIXTURES = Path(__file__).parents[1] / "fixtures" / "mts_dialog"
FILE = FIXTURES / "MTS-Dialog-ValidationSet.csv"
REAL = "extra_mts_dialog/MTS-Dialog-ValidationSet.csv"


def load(
    path: Path, model_side: Literal["doctor", "patient"] = "doctor"
) -> tuple[dict[str, Session], list[Drop]]:
    """Sessions by the number in their file, and drops."""
    items = list(MtsDialog(path=path, model_side=model_side).items())
    sessions = [item for item in items if isinstance(item, Session)]
    return (
        {str(session.source["record"]): session for session in sessions},
        [item for item in items if isinstance(item, Drop)],
    )


def told(drops: list[Drop]) -> list[tuple[str, int]]:
    """Reason and line of each drop."""
    return [(drop.reason, int(drop.place.rpartition(":")[2])) for drop in drops]


def test_the_model_is_the_doctor_and_has_opened_the_conversation() -> None:
    session = load(FILE)[0]["0"]
    assert session.id == "mts_dialog-ValidationSet-0"
    assert session.turns == (
        "I fell off the porch on Sunday.\nIt popped.",
        "The left. Yes, with peas.",
    )
    assert session.references == ("Which side?\nAnd did you ice it?", None)
    assert session.system is not None
    assert session.system.startswith(DOCTOR)
    assert session.system.endswith("with these words:\nWhat happened to your ankle?")
    assert "Sprained" not in session.system, "the doctor is told nothing of the note"
    assert session.metadata == {"section": "GENHX"}
    assert session.source == {"file": FILE.name, "record": "0"}
    assert (session.reference_kind, session.license) == ("human", "CC-BY-4.0")


def test_the_model_is_the_patient_and_knows_the_note() -> None:
    session = load(FILE, "patient")[0]["0"]
    assert session.turns == (
        "What happened to your ankle?",
        "Which side?\nAnd did you ice it?",
    )
    assert session.references == (
        "I fell off the porch on Sunday.\nIt popped.",
        "The left. Yes, with peas.",
    )
    assert session.system is not None
    assert session.system.endswith('\nSprained left ankle on Sunday, "popped".\nUses ice.')


def test_speakers_in_the_middle_of_a_line() -> None:
    session = load(FILE)[0]["1"]
    assert session.turns == ("No.", "No.")
    assert session.references == ("Any fever?", None)


def test_guests_and_second_doctors_are_users_who_keep_their_names() -> None:
    session = load(FILE)[0]["2"]
    assert session.turns == (
        "Guest_family: He stays with me.",
        "Gest_family: Since May.\nI like it there.\nDoctor_2: Good afternoon.",
    )
    assert session.references == ("Since when?", "My colleague will look at his ear.")
    as_patient = load(FILE, "patient")[0]["2"]
    assert as_patient.turns == (
        "Guest_family: He stays with me.\nSince when?\nGest_family: Since May.",
        "Doctor_2: Good afternoon.\nMy colleague will look at his ear.",
    )
    assert as_patient.references == ("I like it there.", None)


def test_a_colon_makes_no_speaker() -> None:
    session = load(FILE)[0]["5"]
    assert session.turns == ("No.",)
    assert session.system is not None
    assert session.system.endswith(
        "words:\nWhat do you take?\nAllergies: none, I see. One thing: smoke?\nNote: she nods"
    )


def test_all_that_is_left_out_is_told_with_its_line() -> None:
    sessions, drops = load(FILE)
    assert list(sessions) == ["0", "1", "2", "5"]
    assert told(drops) == [
        ("no_user_turn", 17),
        ("no_model_turn", 18),
        ("no_speaker", 20),
        ("empty_message", 20),
        ("duplicate_id", 26),
        ("no_user_turn", 28),
    ]
    assert drops[2].detail == "mts_dialog-ValidationSet-5: 'Thanks for waiting.'"
    assert drops[3].detail == "mts_dialog-ValidationSet-5: message 2"


def test_numbers_begin_anew_in_each_file(tmp_path: Path) -> None:
    for name in ("TrainingSet", "TestSet-1-MEDIQA-Chat-2023", "Augmented-TrainingSet-1"):
        (tmp_path / f"MTS-Dialog-{name}.csv").write_bytes(FILE.read_bytes())
    sessions = list(MtsDialog(path=tmp_path).sessions())
    assert [s.id for s in sessions[::4]] == [
        "mts_dialog-TestSet-1-MEDIQA-Chat-2023-0",
        "mts_dialog-TrainingSet-0",
    ]


def test_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / FILE.name
    path.write_bytes(FILE.read_bytes().replace(b"\n", b"\r\n"))
    assert load(path)[0] == load(FILE)[0]


HEAD = "ID,section_header,section_text,dialogue\n"


@pytest.mark.parametrize(
    ("content", "place", "problem"),
    [
        ("", "", "the file is empty"),
        ("ID,section_header,section_text\n0,CC,Burn.\n", ":1", "has no column 'dialogue'"),
        (HEAD + "0,CC,Burn.\n", ":2", "has 3 cells for 4 columns"),
        (HEAD + '0,CC,Burn.,"Doctor: Hi.\nPatient: Hel', ":3", "not valid CSV"),
        (HEAD + " ,CC,Burn.,Doctor: Hi.\n", ":2", "'ID' is empty"),
    ],
)
def test_one_error_names_the_place(tmp_path: Path, content: str, place: str, problem: str) -> None:
    path = tmp_path / "data.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(UserError) as error:
        load(path)
    assert error.value.place == f"{path}{place}"
    assert problem in error.value.problem


def test_a_side_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="'doctor' or 'patient'"):
        MtsDialog(path=FILE, model_side="nurse")  # type: ignore[arg-type]


def test_the_real_validation_set(real_sample) -> None:
    """Counted with perl and awk over the raw file: rows, and runs of labels but "Doctor:"."""
    sessions, drops = load(real_sample(REAL))
    assert (len(sessions), sum(len(s.turns) for s in sessions.values())) == (100, 392)
    assert drops == []


def test_the_real_validation_set_with_the_patient(real_sample) -> None:
    """Counted likewise: 11 rows have no "Patient:"; in the others runs of labels but that."""
    sessions, drops = load(real_sample(REAL), "patient")
    assert (len(sessions), sum(len(s.turns) for s in sessions.values())) == (89, 375)
    assert Counter(drop.reason for drop in drops) == {"no_model_turn": 11}


def test_the_real_messages_are_all_there(real_sample) -> None:
    """Counted likewise: 415 labels "Doctor:", of which some are in the middle of a line."""
    sessions = load(real_sample(REAL))[0].values()
    said = [reply or "" for s in sessions for reply in s.references or ()]
    said += [s.system.split("words:\n")[1] for s in sessions if s.system and "words:\n" in s.system]
    assert sum(text.count("\n") + 1 for text in said if text) == 415
