"""`show`: one session's conversation, method beside method, turn by turn."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.errors import UserError, nearest
from harness.record import SessionRecord, TurnRecord
from harness.store import read_manifest, read_sessions


def show_session(folder: Path, session_id: str, seed: int | None) -> None:
    """Print the session side by side. Raises UserError when the run does not hold it."""
    manifest = read_manifest(folder)
    records = list(read_sessions(folder))
    mine = [r for r in records if r["session_id"] == session_id and seed in (None, r["seed"])]
    if not mine:
        ids = sorted({r["session_id"] for r in records})
        raise UserError(
            "--session", f"{folder} has no session {session_id!r}; {nearest(session_id, ids)}"
        )
    first_seed = min(r["seed"] for r in mine)
    order = [m["id"] for m in manifest["spec"]["methods"]]
    shown = sorted(
        (r for r in mine if r["seed"] == first_seed), key=lambda r: order.index(r["method"])
    )
    Console(emoji=False).print(_table(shown))


def _table(records: list[SessionRecord]) -> Table:
    title = f"{records[0]['task']}/{records[0]['session_id']}, seed {records[0]['seed']}"
    table = Table(title=escape(title), show_lines=True)
    table.add_column("turn", justify="right")
    table.add_column("user", ratio=1)
    for record in records:
        note = "" if record["outcome"] == "scored" else f"\n{record['outcome']}: {record['reason']}"
        table.add_column(escape(record["method"] + note), ratio=1)
    longest = max(records, key=lambda r: len(r["turns"]))
    for index, turn in enumerate(longest["turns"]):
        cells = [_reply(r["turns"][index]) if index < len(r["turns"]) else "" for r in records]
        table.add_row(str(turn["turn_index"]), escape(turn["user"]), *cells)
    return table


def _reply(turn: TurnRecord) -> str:
    timing, tokens = turn["timing"], turn["tokens"]
    events = ", ".join(e["kind"] for e in turn["events"])
    facts = (
        f"{turn['served_by']}, TTFT {timing['ttft_s']:.2f} s, {timing['e2e_s']:.2f} s, "
        f"{tokens['prompt']} + {tokens['output']} tokens" + (f", {events}" if events else "")
    )
    return f"[bold]{escape(facts)}[/]\n{escape(turn['reply'])}"
