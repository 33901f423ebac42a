"""Detection, delay and false rollbacks of hand-made sessions, worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from harness.record import Manifest, ScoreRecord, SessionRecord
from harness.report.planted_drift import planted_drift
from harness.report.read import RunData
from harness.report.summary import build_summary
from harness.report.tables import build_tables

TASK = "talks"
SHIFT = 4
SWITCHED, CHECK, ALARM, BACK = (
    ("switched", {"to": "G"}),
    ("drift_check", {"alarm": False, "failed": False}),
    ("drift_check", {"alarm": True, "failed": True}),
    ("rolled_back", {"to": "F"}),
)
Events = dict[int, list[tuple[str, dict[str, Any]]]]


def session(
    name: str,
    served: str,
    events: Events | None = None,
    *,
    shift: int | None = SHIFT,
    method: str = "watcher",
    seed: int = 0,
    outcome: str = "scored",
    metadata: dict[str, Any] | None = None,
) -> SessionRecord:
    """A session whose turn i was answered by the i-th letter of `served`."""
    turns = [
        {
            "turn_index": index,
            "served_by": role,
            "events": [
                {"kind": kind, "at_s": 0.0, "data": data}
                for kind, data in (events or {}).get(index, [])
            ],
        }
        for index, role in enumerate(served, start=1)
    ]
    record = {
        "method": method,
        "task": TASK,
        "session_id": name,
        "seed": seed,
        "outcome": outcome,
        "turns": turns,
        "worker": None,
        "metadata": {"shift_turn": shift} if metadata is None else metadata,
    }
    return cast(SessionRecord, record)


def score(record: SessionRecord, *values: float | None) -> list[ScoreRecord]:
    return [
        ScoreRecord(
            method=record["method"],
            task=record["task"],
            session_id=record["session_id"],
            seed=record["seed"],
            turn_index=index,
            scorer="closeness",
            outcome="unscored" if value is None else "scored",
            value=value,
            reason=None,
        )
        for index, value in enumerate(values, start=1)
    ]


def run_of(*sessions: SessionRecord, scores: list[ScoreRecord] | None = None) -> RunData:
    methods = list(dict.fromkeys(s["method"] for s in sessions))
    spec = {
        "methods": [{"id": name} for name in methods],
        "tasks": [{"name": TASK}],
        "reference": None,
        "pair": {role: {"engine": "transformers"} for role in ("F", "G")},
    }
    manifest = cast(Manifest, {"spec": spec})
    return RunData(manifest, sessions, tuple(scores or ()), {TASK: ("closeness",)})


def entry(*sessions: SessionRecord, scores: list[ScoreRecord] | None = None) -> dict[str, Any]:
    (found,) = planted_drift(run_of(*sessions, scores=scores))
    return found


def watched(last: int, *, since: int = 3, **at: list[tuple[str, dict[str, Any]]]) -> Events:
    """A switch at turn `since` and a check at every turn up to `last`; `t5=[...]` replaces one."""
    events: Events = {turn: [CHECK] for turn in range(since, last + 1)}
    events |= {int(key[1:]): list(found) for key, found in at.items()}
    events[since] = [SWITCHED, *events[since]]
    return events


def test_detection_and_delay() -> None:
    found = entry(
        session("at-once", "FFGFFF", watched(3, t4=[ALARM, BACK])),
        session("late", "FFGGGF", watched(4, t5=[ALARM, BACK])),
        session("missed", "FFGGGG", watched(6)),
    )
    assert (found["task"], found["method"]) == (TASK, "watcher")
    assert (found["spliced"], found["controls"]) == (3, 0)
    assert (found["switched_before_shift"], found["detectable"], found["detected"]) == (3, 3, 2)
    assert found["detection_rate"] == pytest.approx(2 / 3)
    assert found["delay_turns"] == pytest.approx(0.5)  # 0 and 1 turns


def test_a_method_that_only_records_is_judged_by_its_first_alarm_after_the_shift() -> None:
    events = watched(4, t5=[ALARM], t6=[ALARM], t7=[ALARM])
    found = entry(session("a", "FFGGGGG", events))
    assert (found["detected"], found["delay_turns"]) == (1, 1.0)


def test_a_session_on_f_at_the_shift_has_nothing_to_detect() -> None:
    found = entry(
        session("never", "FFFFFF"),
        session("at-the-shift", "FFFGGF", watched(4, since=4, t5=[ALARM, BACK])),
        session("after-it", "FFFFGF", watched(5, since=5, t6=[ALARM, BACK])),
    )
    assert found["spliced"] == 3
    assert (found["switched_before_shift"], found["detectable"], found["detected"]) == (0, 0, 0)
    assert found["detection_rate"] is None and found["delay_turns"] is None


def test_an_alarm_before_the_shift_is_no_detection() -> None:
    found = entry(
        session("recorded", "FFGGGG", watched(6, t3=[ALARM], t4=[ALARM], t5=[ALARM])),
        session("rolled-back", "FGFFFF", watched(2, since=2, t3=[ALARM, BACK])),
        session("after-its-reply", "FFGFFF", watched(3, t3=[ALARM, BACK])),
    )
    assert found["alarmed_before_shift"] == 3
    assert found["switched_before_shift"] == 2
    assert (found["detectable"], found["detected"]) == (0, 0)
    assert found["detection_rate"] is None


def test_a_second_stay_with_g_counts_anew() -> None:
    events: Events = {
        2: [SWITCHED, CHECK],
        3: [ALARM, BACK],
        5: [SWITCHED, CHECK],
        6: [CHECK],
        7: [ALARM, BACK],
    }
    found = entry(session("twice", "FGFFGGF", events, shift=6))
    assert found["alarmed_before_shift"] == 1
    assert (found["detectable"], found["detected"], found["delay_turns"]) == (1, 1, 1.0)


def test_false_rollbacks_are_those_of_controls_on_g() -> None:
    found = entry(
        session("calm", "FFGGGG", watched(6), shift=None),
        session("false", "FFGGFF", watched(4, t5=[ALARM, BACK]), shift=None),
        session("false-record", "FFGGGG", watched(6, t4=[ALARM]), shift=None),
        session("calm-too", "FFGGGG", watched(6), shift=None),
        session("on-f", "FFFFFF", shift=None),
    )
    assert (found["spliced"], found["controls"], found["controls_switched"]) == (0, 5, 4)
    assert found["false_rollbacks"] == 2
    assert found["false_rollback_rate"] == 0.5
    assert found["detection_rate"] is None


def test_a_method_without_a_monitor_has_no_rates() -> None:
    switch: Events = {3: [SWITCHED]}
    found = entry(session("a", "FFGGGG", switch), session("b", "FFGGGG", switch, shift=None))
    assert found["switched_before_shift"] == 1
    assert (found["detectable"], found["controls_switched"]) == (0, 0)
    assert found["detection_rate"] is None and found["false_rollback_rate"] is None


def test_scores_are_those_from_the_shift_on() -> None:
    one, two = session("one", "FFGGG"), session("two", "FFGGG")
    calm = {"shift_turn": None, "compare_from": 5}
    control = session("control", "FFGGG", metadata=calm)
    whole = session("whole", "FFGGG", shift=None)
    scores = [
        *score(one, 0.0, 0.0, 0.0, 0.6, 0.8),
        *score(two, 0.0, 0.0, 0.0, None, 0.4),
        *score(control, 0.0, 0.0, 0.0, 0.0, 0.9),
        *score(whole, 0.7, 0.7, 0.7, 0.7, 0.7),
    ]
    found = entry(one, two, control, whole, scores=scores)
    after = found["after_shift"]["closeness"]
    assert after["mean"] == pytest.approx(0.6)  # of 0.6, 0.8 and 0.4
    assert (after["n"], after["clusters"]) == (3, 2)
    assert 0.4 <= after["low"] <= 0.6 <= after["high"] <= 0.7
    controls = found["control_scores"]["closeness"]
    assert controls["mean"] == pytest.approx((0.9 + 5 * 0.7) / 6)
    assert (controls["n"], controls["clusters"]) == (6, 2)


def test_nothing_to_average_is_unknown() -> None:
    found = entry(session("a", "FFGGG"))
    for name in ("after_shift", "control_scores"):
        assert found[name]["closeness"] == {
            "mean": None, "n": 0, "low": None, "high": None, "clusters": 0,
        }  # fmt: skip


def test_who_takes_part() -> None:
    plain = session("plain", "FFGG", metadata={"topic": "moving"})
    failed = session("failed", "FF", outcome="error")
    cut = session("cut", "FFG")  # a limit on turns ended it before its shift
    assert planted_drift(run_of(plain, failed, cut)) == []
    found = entry(plain, failed, cut, session("whole", "FFGG"))
    assert (found["spliced"], found["controls"]) == (1, 0)


def test_methods_are_told_apart_and_seeds_count_twice() -> None:
    events = watched(4, t5=[ALARM, BACK])
    entries = planted_drift(
        run_of(
            session("a", "FFGGGF", events),
            session("a", "FFGGGG", watched(6), seed=1),
            session("a", "FFFFFF", method="still"),
        )
    )
    assert [e["method"] for e in entries] == ["watcher", "still"]
    assert [(e["spliced"], e["detected"]) for e in entries] == [(2, 1), (1, 0)]
    assert entries[0]["detection_rate"] == 0.5


# The table, on whole records.


def summary_of(entries: list[dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    from harness.report.read import read_run
    from tests.report.synthetic import build_run
    from tests.report.synthetic import score as score_run

    folder = build_run(tmp_path / "run")
    score_run(folder)
    summary = build_summary(read_run(folder))
    assert summary["planted_drift"] == []
    return summary | {"planted_drift": entries, "scorers": ["closeness"], "reference": "watcher"}


def test_the_table_stands_only_where_sessions_shift(tmp_path: Path) -> None:
    one = session("one", "FFGGGF", watched(4, t5=[ALARM, BACK]))
    calm = session("calm", "FFGGGG", watched(6), shift=None)
    scores = score(one, 0.0, 0.0, 0.0, 0.5, 0.7, 0.9)
    summary = summary_of([entry(one, calm, scores=scores)], tmp_path)
    none = {t.name for t in build_tables(summary | {"planted_drift": []})}
    tables = {t.name: t for t in build_tables(summary)}
    assert tables.keys() - none == {"planted_drift"}
    table = tables["planted_drift"]
    shown = dict(zip((c.key for c in table.columns), table.cells()[0], strict=True))
    assert shown["method"] == "watcher (reference)"
    assert (shown["spliced"], shown["detectable"], shown["detected"]) == ("1", "1", "1")
    assert (shown["detection_rate"], shown["delay_turns"]) == ("100.0", "1.00")
    assert shown["false_rollback_rate"] == "0.0"
    assert shown["closeness_after"] == "0.700"
    assert shown["closeness_control"] == "–"


def test_every_name_is_documented() -> None:
    pages = Path(__file__).parents[2] / "docs"
    names = set(entry(session("a", "FFGGG")))
    text = (pages / "summary.md").read_text("utf-8")
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    defined = (pages / "metrics.md").read_text("utf-8")
    counts = names - {"task", "method", "spliced", "controls"}
    assert [name for name in sorted(counts) if f"`{name}`" not in defined] == []
