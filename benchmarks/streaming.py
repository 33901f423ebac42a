"""Reading a large ShareGPT file through the task: MB/s on one core, and the peak resident memory.

Writes a seeded file of split conversations twice over: once with most parts next to each other, and
once with all first parts before all others, the order in which most must be held back. Each is read
in a process of its own; MB are of 2^20 bytes. The last line is JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import click

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MB = 2**20
LETTERS = "etaoinshrdlucmfwypvbgk"
OTHER_SCRIPTS = (
    "人工智能可以帮助我们整理资料并写出更清楚的文章",
    "Каждое утро мы проверяем отчёты и сразу исправляем ошибки",
    "café, naïve, Straße, “quotes” and an em—dash",
    "مرحبا بالعالم هذا نص قصير للاختبار",
    "👩‍💻 ship it 🚀🚀 done ✅",
)
MARKUP = (
    '<div class="markdown prose"><p>{}</p><pre><code class="hljs">x = "\\n"</code></pre></div>',
    '```python\nfor row in table:\n\tprint(f"{{row}}\\t{}")\n```',
    "| a | b |\n|---|---|\n| {} | C:\\temp\\new |",
)
PART_CHARACTERS = 8000
"""A part ends before it grows longer than this, as some 2,000 tokens do."""


@dataclass
class Planted:
    """What a reader has to find. `records` is the number in the file, `split` of conversations."""

    records: int = 0
    split: int = 0
    sessions: int = 0
    turns: int = 0
    drops: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Chat:
    """One conversation in its parts; `turns` are those that a reader can still put together."""

    parts: list[dict[str, Any]]
    turns: int
    drops: Counter[str]


@click.command()
@click.option("--megabytes", default=1024, show_default=True, help="Size of each file.")
@click.option("--seed", default=0, show_default=True, help="Of the files' content.")
@click.option("--read", "file", type=click.Path(path_type=Path), hidden=True)
def main(megabytes: int, seed: int, file: Path | None) -> None:
    """Time reading, and measure its memory."""
    if file is not None:
        print(json.dumps(read(file)))
        return
    result: dict[str, Any] = {"megabytes": megabytes, "seed": seed}
    for order, waiting in (("mostly_adjacent", 500), ("far_apart", None)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "chats.json"
            planted = write(path, megabytes * MB, seed, waiting)
            command = [sys.executable, __file__, "--read", str(path)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(done.stdout)
            found["megabytes_per_second"] = path.stat().st_size / MB / found["seconds"]
        print(
            f"{order}: {planted.records:,} records, {planted.split:,} split conversations; "
            f"{found['sessions']:,} sessions and {found['turns']:,} turns at "
            f"{found['megabytes_per_second']:.1f} MB/s, peak {found['peak_rss_bytes'] / MB:,.0f} MB"
        )
        result[order] = {**found, "planted": vars(planted)}
    print(json.dumps(result))


def read(path: Path) -> dict[str, Any]:
    """Every session and drop of the file, on one core."""
    from harness.session import Session
    from tasks.sharegpt import Sharegpt

    for library in ("numpy", "pyarrow"):
        importlib.import_module(library)
    imported = peak_rss()

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sessions = turns = 0
    drops: Counter[str] = Counter()
    start = time.perf_counter()
    for item in Sharegpt(path=path).items():
        if isinstance(item, Session):
            sessions += 1
            turns += len(item.turns)
        else:
            drops[item.reason] += 1
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "peak_rss_bytes": peak_rss(),
        "imports_rss_bytes": imported,
        "sessions": sessions,
        "turns": turns,
        "drops": drops,
    }


def peak_rss() -> int:
    """The peak of this process. On Linux `ru_maxrss` may be that of the process that started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (s for s in status.read_text("ascii").splitlines() if s.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write(path: Path, size: int, seed: int, waiting: int | None) -> Planted:
    """Write at least `size` bytes of conversations.

    `waiting`: how many split conversations at most lack their later parts; None: no bound, and
    none has them before all conversations have begun.
    """
    phrases = _phrases(seed)
    planted = Planted()
    late: list[int] = []
    with path.open("w", encoding="utf-8") as file:
        file.write("[")
        rng, total, number = random.Random(f"order {seed}"), 0, 0
        while total < size:
            chat = _chat(number, seed, phrases)
            _plant(planted, chat)
            postponed = len(chat.parts) > 1 and (waiting is None or rng.random() < 0.15)
            texts = [_text(part, number) for part in chat.parts]
            total += sum(len(text.encode()) for text in texts)
            _append(file, texts[:1] if postponed else texts, planted)
            if postponed:
                late.append(number)
            if waiting is not None and len(late) > waiting:
                _append(file, _rest(late.pop(rng.randrange(len(late))), seed, phrases), planted)
            number += 1
        for other in reversed(late):
            _append(file, _rest(other, seed, phrases), planted)
        file.write("\n]\n")
    return planted


def _plant(planted: Planted, chat: Chat) -> None:
    planted.split += len(chat.parts) > 1
    planted.sessions += 1
    planted.turns += chat.turns
    planted.drops += chat.drops


def _append(file: IO[str], texts: list[str], planted: Planted) -> None:
    for text in texts:
        file.write(",\n  " if planted.records else "\n  ")
        file.write(text)
        planted.records += 1


def _rest(number: int, seed: int, phrases: list[str]) -> list[str]:
    return [_text(part, number) for part in _chat(number, seed, phrases).parts[1:]]


def _text(part: dict[str, Any], number: int) -> str:
    """Every other conversation is written with escapes for what is not ASCII."""
    return json.dumps(part, indent=2, ensure_ascii=number % 2 == 0).replace("\n", "\n  ")


def _chat(number: int, seed: int, phrases: list[str]) -> Chat:
    """Conversation `number`, the same whenever it is asked for."""
    rng = random.Random(f"{seed} {number}")
    turns = 1 + min(int(rng.expovariate(0.25)), 60)
    messages = []
    for turn in range(turns):
        asked = f"({number}.{turn}) " + _said(rng, phrases, 3)
        messages += [_message("human", asked), _message("gpt", _said(rng, phrases, 30))]
    drops: Counter[str] = Counter()
    if rng.random() < 0.02:
        messages[-1]["value"] = ""
        drops["empty_message"] += 1
    overlap = rng.randrange(2)  # of one message, or none
    starts = _starts(messages[: len(messages) - overlap])
    ends = [start + overlap for start in starts[1:]] + [len(messages)]
    parts = [
        {"id": f"c{number:x}_{start}", "conversations": messages[start:end]}
        for start, end in zip(starts, ends, strict=True)
    ]
    fault = rng.random()
    if len(parts) > 2 and fault < 0.02:
        del parts[1]
        drops = Counter({"missing_part": len(parts) - 1})
        turns = (ends[0] + 1) // 2
    elif fault < 0.04:
        # The whole again under another id, or a part again under its own.
        alone = len(parts) == 1
        parts.append({**parts[-1], "id": f"d{number:x}_0"} if alone else parts[-1])
        drops["duplicate_session" if alone else "duplicate_part"] += 1
    return Chat(parts, turns, drops)


def _message(role: str, text: str) -> dict[str, str]:
    return {"from": role, "value": text}


def _starts(messages: list[dict[str, str]]) -> list[int]:
    """Where parts begin: anywhere, so that many a part begins with the model's message."""
    starts, held = [0], 0
    for index, message in enumerate(messages):
        if held and held + len(message["value"]) > PART_CHARACTERS:
            starts.append(index)
            held = 0
        held += len(message["value"])
    return starts


def _said(rng: random.Random, phrases: list[str], most: int) -> str:
    return "\n\n".join(rng.choices(phrases, k=rng.randint(1, most)))


def _phrases(seed: int) -> list[str]:
    """Sentences of invented words, with markup, escapes and other scripts among them."""
    rng = random.Random(f"phrases {seed}")
    words = ["".join(rng.choices(LETTERS, k=rng.randint(2, 9))) for _ in range(5000)]
    phrases = []
    for _ in range(4000):
        text = " ".join(rng.choices(words, k=rng.randint(5, 25))).capitalize() + "."
        if rng.random() < 0.1:
            text = rng.choice(MARKUP).format(text)
        elif rng.random() < 0.15:
            text = f'{text} "{rng.choice(OTHER_SCRIPTS)}"'
        phrases.append(text)
    return phrases


if __name__ == "__main__":
    main()
