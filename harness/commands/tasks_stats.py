"""`tasks stats`: what a task's data are like, as tables, a figure or one JSON object."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from harness.commands.tasks_open import open_task
from harness.data.files import hashes_of
from harness.engines.pairs import load_pair
from harness.engines.token_counter import load_counter
from harness.errors import UserError
from harness.report.render_console import to_console
from harness.report.render_csv import to_csv
from harness.report.render_html import to_html
from harness.report.render_markdown import to_markdown
from harness.report.table import Table
from harness.report.tables_task import task_tables, turns_table
from harness.session import Session
from harness.store import write_text_atomically
from harness.task import Drop, Task
from harness.task_stats import CountTokens, TaskStats, measure, median

_CONSOLE_TURNS = 20
_STEP = 100  # sessions between two moves of the bar
_RENDERERS: Mapping[str, Callable[[Table], str]] = MappingProxyType(
    {"csv": to_csv, "md": to_markdown}
)
_FIGURE = "turn_lengths"
_STYLE = (
    "body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 2rem auto; } "
    "th, td { padding: .2rem .7rem; } .number { text-align: right; } .text { text-align: left; } "
    "img { max-width: 100%; }"
)


@dataclass(frozen=True)
class Counter:
    """How tokens are counted, or why they are not. `tokenizer`: whose it is."""

    count: CountTokens | None
    tokenizer: str | None
    note: str


def show_stats(
    name: str,
    path: Path | None,
    args: Sequence[str],
    *,
    pair: str,
    out: Path | None,
    as_json: bool,
    tokens: bool | None,
) -> None:
    """Read a whole task once and say what it is like.

    `tokens` None: counted for people, not for JSON. Raises UserError for wrong arguments or data.
    """
    console = Console(stderr=True, emoji=False)
    counter = _counter(pair) if (not as_json if tokens is None else tokens) else _no_counter()
    task = open_task(name, path, args)
    with _shown(task, console) as items:
        stats = measure(
            items,
            warm_turns=task.card.default_warm_turns,
            count_tokens=counter.count,
            place=f"task {name}",
        )
    if out is not None:
        written = _write(stats, task, name, counter, out)
        console.print(
            f"wrote {len(written)} files to {out}", markup=False, highlight=False, soft_wrap=True
        )
    if as_json:
        print(json.dumps(_as_json(stats, task, counter), ensure_ascii=False))
    else:
        _print(stats, task, counter)


def _counter(pair: str) -> Counter:
    """The tokenizer of the pair's F; where it is not here, what to do for it."""
    spec = load_pair(pair).F
    try:
        count = load_counter(spec)
    except UserError as error:
        return Counter(None, None, f"No tokens: {error}; `fetch {pair}` gets the model.")
    whose = f"F of pair {pair} ({spec.id})"
    return Counter(count, whose, f"Tokens by the tokenizer of {whose}, without chat template.")


def _no_counter() -> Counter:
    return Counter(None, None, "Tokens were not counted; --tokens counts them.")


@contextmanager
def _shown(task: Task, console: Console) -> Iterator[Iterator[Session | Drop]]:
    """The items of a task, with a bar on a terminal."""
    progress = Progress(
        TextColumn("reading"),
        BarColumn(bar_width=30),
        TextColumn("{task.completed:,} sessions"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )
    with progress:
        bar = progress.add_task("", total=task.card.sessions)

        def items() -> Iterator[Session | Drop]:
            for number, item in enumerate(task.items()):
                if number % _STEP == 0:
                    progress.update(bar, completed=number)
                yield item

        yield items()


def _print(stats: TaskStats, task: Task, counter: Counter) -> None:
    console = Console(emoji=False)
    overview, _, *others = task_tables(stats, task.card, counter.note)
    for table in (overview, turns_table(stats, counter.note, _CONSOLE_TURNS), *others):
        console.print(to_console(table))
        console.print()
    hashed = f"SHA-256 of the sessions: {stats.sha256}"
    console.print(hashed, markup=False, highlight=False, soft_wrap=True)


def _write(stats: TaskStats, task: Task, name: str, counter: Counter, folder: Path) -> list[Path]:
    """The tables as files, and the figure as PNG and PDF. Raises UserError for a bad folder."""
    from harness.report.figures.style import save, styled
    from harness.report.figures.turn_lengths import draw_turn_lengths

    tables = task_tables(stats, task.card, counter.note)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with styled():
            written = save(draw_turn_lengths(stats, f"{task.card.title} ({name})"), folder, _FIGURE)
        for table in tables:
            for suffix, render in _RENDERERS.items():
                written.append(folder / f"{table.name}.{suffix}")
                write_text_atomically(written[-1], render(table))
        written.append(folder / "stats.html")
        write_text_atomically(written[-1], _page(name, tables))
        return written
    except OSError as error:
        raise UserError(folder, f"cannot be written: {error.strerror or error}") from None


def _page(name: str, tables: list[Table]) -> str:
    """All tables and the figure, which lies beside the page."""
    title = escape(f"Task {name}")
    first, *others = map(to_html, tables)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{first}"
        f'<p><img alt="turn lengths" src="{_FIGURE}.png"></p>\n{"".join(others)}</body>\n</html>\n'
    )


def _as_json(stats: TaskStats, task: Task, counter: Counter) -> dict[str, Any]:
    lengths = stats.lengths
    return {
        "sessions": stats.sessions,
        "user_turns": stats.user_turns,
        "expected": {"sessions": task.card.sessions, "user_turns": task.card.user_turns},
        "dropped": stats.dropped,
        "sha256": stats.sha256,
        "files": hashes_of(task.files()),
        "turns_per_session": {
            "mean": stats.user_turns / stats.sessions if stats.sessions else None,
            "min": min(lengths, default=None),
            "median": median(lengths),
            "max": max(lengths, default=None),
            "sessions_by_turns": {str(turns): count for turns, count in lengths.items()},
        },
        "default_warm_turns": stats.warm_turns,
        "never_switchable": stats.never_switchable,
        "never_switchable_share": stats.never_switchable_share,
        "languages": stats.languages,
        "with_system": stats.with_system,
        "with_reference": stats.with_reference,
        "with_gold": stats.with_gold,
        "tokenizer": counter.tokenizer,
        "tokens_by_turn": [
            {
                "turn": turn.index,
                "sessions": turn.sessions,
                "tokens": turn.tokens,
                "characters": turn.characters,
            }
            for turn in stats.by_turn
        ],
    }
