"""The tables of `tasks stats`: what a task's data are like."""

from __future__ import annotations

from harness.report.table import Column, Table, Value
from harness.task import TaskCard
from harness.task_stats import SWITCH_ROOM, TaskStats, median

_COUNT, _MEAN, _NUMBER = ",d", ",.1f", ",.10g"


def task_tables(stats: TaskStats, card: TaskCard, note: str = "") -> list[Table]:
    """Overview, turns, languages, and drops where there are any. `note`: about the tokens."""
    tables = [_overview(stats, card), turns_table(stats, note), _languages(stats)]
    return tables + ([_dropped(stats)] if stats.dropped else [])


def turns_table(stats: TaskStats, note: str = "", limit: int | None = None) -> Table:
    """One row per turn index, the first `limit` of them."""
    shown = stats.by_turn[:limit]
    rest = len(stats.by_turn) - len(shown)
    notes = [note] if note else []
    if rest:
        notes.append(f"{rest} later turn indices, up to {stats.by_turn[-1].index}, are not shown")
    has_tokens = any(turn.tokens is not None for turn in stats.by_turn)
    tokens = (Column("tokens", "Tokens", "mean", _MEAN),) if has_tokens else ()
    rows: list[dict[str, Value]] = []
    for turn in shown:
        row: dict[str, Value] = {
            "turn": turn.index,
            "sessions": turn.sessions,
            "share": 100 * turn.sessions / stats.sessions,
            "ending": turn.ending,
            "characters": turn.characters,
        }
        rows.append(row | ({"tokens": turn.tokens} if has_tokens else {}))
    return Table(
        name="turns",
        title="User turns by turn index",
        caption="Sessions that reach a turn and that end with it; the mean length of such a turn.",
        columns=(
            Column("turn", "Turn", "", _COUNT),
            Column("sessions", "Sessions", "", _COUNT),
            Column("share", "Share", "%", _MEAN),
            Column("ending", "End here", "", _COUNT),
            *tokens,
            Column("characters", "Characters", "mean", _MEAN),
        ),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _overview(stats: TaskStats, card: TaskCard) -> Table:
    lengths = stats.lengths
    mean = stats.user_turns / stats.sessions if stats.sessions else None
    share = stats.never_switchable_share
    values: dict[str, tuple[Value, Value]] = {
        "sessions": (stats.sessions, card.sessions),
        "user turns": (stats.user_turns, card.user_turns),
        "turns per session, mean": (_round(mean), None),
        "turns per session, least": (min(lengths, default=None), None),
        "turns per session, median": (_round(median(lengths)), None),
        "turns per session, most": (max(lengths, default=None), None),
        "default warm turns (W)": (stats.warm_turns, None),
        "never switchable": (stats.never_switchable, None),
        "never switchable (%)": (_round(None if share is None else 100 * share), None),
        "sessions with a system prompt": (stats.with_system, None),
        "turns with a reference": (stats.with_reference, None),
        "turns with a gold answer": (stats.with_gold, None),
        "left out": (sum(stats.dropped.values()), None),
    }
    return Table(
        name="overview",
        title="Sessions and turns",
        caption=(
            "Expected: what the task's card says of the whole published set. Never switchable: "
            f"sessions of fewer than W + {SWITCH_ROOM} = {stats.warm_turns + SWITCH_ROOM} user "
            "turns, which cannot show a switch. Left out: what the table of drops counts."
        ),
        columns=(
            Column("what", "What"),
            Column("value", "Here", "", _NUMBER),
            Column("expected", "Expected", "", _NUMBER),
        ),
        rows=tuple(
            {"what": what, "value": value, "expected": expected}
            for what, (value, expected) in values.items()
        ),
    )


def _languages(stats: TaskStats) -> Table:
    return Table(
        name="languages",
        title="Languages",
        caption="By the language code of each session.",
        columns=(
            Column("language", "Language"),
            Column("sessions", "Sessions", "", _COUNT),
            Column("share", "Share", "%", _MEAN),
        ),
        rows=tuple(
            {"language": code, "sessions": count, "share": 100 * count / stats.sessions}
            for code, count in stats.languages.items()
        ),
    )


def _dropped(stats: TaskStats) -> Table:
    return Table(
        name="dropped",
        title="Left out",
        caption="What of the source became no part of a session, by reason.",
        columns=(Column("reason", "Reason"), Column("count", "Count", "", _COUNT)),
        rows=tuple({"reason": reason, "count": n} for reason, n in stats.dropped.items()),
    )


def _round(value: float | None) -> float | None:
    """Two decimals: the column shows whole numbers without any."""
    return None if value is None else round(value, 2)
