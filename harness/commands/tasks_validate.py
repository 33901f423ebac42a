"""`tasks validate`: every problem of a file of the user's own, then what could be read of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

import click

from harness.commands.plain_text import plain
from harness.data.faults import DoubledId, Fault
from harness.data.layout import Layout, Shape, shape_of
from harness.data.own_file import AUTO, WARM_TURNS, form_named, no_session, read_entries
from harness.errors import UserError
from harness.session import Session
from harness.task import Drop
from harness.task_stats import SWITCH_ROOM, TaskStats, measure, median

MAX_SHOWN = 100
"""Problems, and notes, that are printed; the others are only counted."""

LONG_TURN = 100_000
"""Characters of a turn that is a file pasted by mistake rather than something said."""

_LAYOUTS = MappingProxyType(
    {
        Layout.LINES: "one per line",
        Layout.ARRAY: "in one JSON array",
        Layout.MEMBERS: "in one JSON object",
        Layout.WHOLE: "one, over several lines",
        Layout.ROWS: "the rows of a parquet table",
    }
)


def validate_file(path: Path, form: str = AUTO) -> int:
    """Print every problem as `file:line: field: problem`, then a summary; 0 for none, else 1.

    What is left out of a session and what looks odd is a note and no problem. Raises UserError for
    a path that is no file, and for an unknown form.
    """
    path, wanted = path.expanduser(), form_named(form)
    if not path.is_file():
        raise UserError(path, "is a folder; name a file" if path.is_dir() else "no such file")
    check = _Check(path)
    try:
        shape = shape_of(path, wanted)
    except UserError as error:
        check.stopped_by(error)
        check.close()
        return 1
    stats = measure(check.items(shape), warm_turns=WARM_TURNS, count_tokens=None, place=str(path))
    if not stats.sessions and not check.problems.count:
        check.problems.add(str(path), "", no_session(stats.dropped))
    check.close()
    _print_summary(shape, stats, check)
    return 1 if check.problems.count else 0


class _Check:
    """Reads a file to its end and prints what is wrong with it as that comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stopped = False
        self.problems, self.notes = _Lines("problem", ""), _Lines("note", "note: ")
        self.doubled_ids = 0

    def items(self, shape: Shape) -> Iterator[Session | Drop]:
        """What a task would read of the file."""
        try:
            for place, item in read_entries(self._path, "", shape):
                if isinstance(item, Fault):
                    self.doubled_ids += isinstance(item, DoubledId)
                    self.problems.add(place, item.field, item.problem)
                    continue
                if isinstance(item, Drop):
                    self.notes.add(place, item.reason, item.detail)
                else:
                    for field, oddity in _oddities(item):
                        self.notes.add(place, field, oddity)
                yield item
        except UserError as error:
            self.stopped_by(error)

    def stopped_by(self, error: UserError) -> None:
        self.problems.add(error.place, "", error.problem)
        self._stopped = True

    def close(self) -> None:
        self.problems.close()
        self.notes.close()
        if self._stopped:
            click.echo("Reading stopped there: what follows was not checked.")


class _Lines:
    """Printed lines of one kind: the first ones are printed, all are counted."""

    def __init__(self, kind: str, prefix: str) -> None:
        self._kind, self._prefix = kind, prefix
        self.count = 0

    def add(self, place: str, field: str, text: str) -> None:
        self.count += 1
        if self.count <= MAX_SHOWN:
            line = ": ".join(part for part in (place, field, text) if part)
            click.echo(self._prefix + " ".join(plain(line).split("\n")))

    def close(self) -> None:
        if self.count > MAX_SHOWN:
            click.echo(f"... and {self.count - MAX_SHOWN:,} more {self._kind}s")


def _oddities(session: Session) -> Iterator[tuple[str, str]]:
    """Field and text of what is allowed in a session and often a mistake."""
    for number, turn in enumerate(session.turns, start=1):
        if len(turn) > LONG_TURN:
            yield f"{session.id}: turn {number}", f"has {len(turn):,} characters"
    for number, (one, other) in enumerate(pairwise(session.turns), start=1):
        if one == other:
            yield f"{session.id}: turn {number + 1}", f"is the same as turn {number}"


def _print_summary(shape: Shape, stats: TaskStats, check: _Check) -> None:
    least = WARM_TURNS + SWITCH_ROOM
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in stats.dropped.items())
    languages = ", ".join(f"{name} {count:,}" for name, count in stats.languages.items())
    rows = {
        "form": f"{shape.form}, {_LAYOUTS[shape.layout]}",
        "sessions": f"{stats.sessions:,}",
        "user turns": f"{stats.user_turns:,}",
        "turns per session": _spread(stats.lengths),
        "system prompts": f"{stats.with_system:,} of {stats.sessions:,} sessions",
        "references": f"{stats.with_reference:,} of {stats.user_turns:,} turns",
        "gold answers": f"{stats.with_gold:,} of {stats.user_turns:,} turns",
        "languages": languages or "none",
        "doubled ids": f"{check.doubled_ids:,}",
        "left out": dropped or "nothing",
        "never switch": f"{stats.never_switchable:,} of {stats.sessions:,} sessions have fewer "
        f"than {least} user turns ({WARM_TURNS} warm ones and {SWITCH_ROOM})",
        "problems": f"{check.problems.count:,}",
        "notes": f"{check.notes.count:,}",
    }
    width = max(map(len, rows))
    click.echo()
    for name, text in rows.items():
        click.echo(f"{name:<{width}}  {plain(text)}")


def _spread(lengths: dict[int, int]) -> str:
    middle = median(lengths)
    if middle is None:
        return "none"
    return f"{min(lengths)} least, {middle:g} median, {max(lengths)} most"
