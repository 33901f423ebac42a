"""What a prefix cache spared: turns by group, and the reference that has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from harness.report.figures.prefix_cache import draw_prefix_cache
from harness.report.read import read_run
from harness.report.tables import build_tables
from tests.report.reading import edit, result, rows_of, set_spec, summary_of
from tests.report.synthetic import CACHED, MIB, SHIFT, build_run

METHODS = ("big", CACHED, "small", SHIFT)


def cache_of_shift(record: dict[str, Any]) -> None:
    """Under `shift` the turns before were cached for the model that answered the last one.

    F keeps turn 1 of c3 while G answers turns 2 and 3, and finds its 100 tokens again in turn 4.
    """
    if record["method"] == SHIFT:
        turns = record["turns"]
        for at, turn in enumerate(turns):
            same = at > 0 and turn["served_by"] == turns[at - 1]["served_by"]
            back = record["session_id"] == "c3" and at == 3
            turn["tokens"]["cached"] = 100 * at if same else 100 if back else 0


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_run(tmp_path_factory.mktemp("cache") / "run", methods=METHODS)
    return edit(folder, cache_of_shift)


@pytest.fixture(scope="module")
def summary(run: Path) -> dict[str, Any]:
    return summary_of(run)


def test_which_methods_have_it(summary: dict[str, Any]) -> None:
    assert summary["prefix_cache"] == "mixed"
    found = {m: result(summary, "all", m)["prefix_cache"] for m in METHODS}
    assert found == {"big": "off", CACHED: "on", "small": "off", SHIFT: "off"}


@pytest.mark.parametrize(
    ("group", "turns", "share", "ttft", "prefill"),
    [
        # 100 (i - 1) of the 100 i tokens of turn i; TTFT is 0.1 (1 + n) at every turn.
        ("all", 12, 600 / 1000, 0.3, 0.27),
        ("first", 3, 0.0, 0.3, 0.27),
        ("later", 9, 600 / 900, 0.3, 0.27),
    ],
)
def test_a_method_that_never_switches(
    summary: dict[str, Any], group: str, turns: int, share: float, ttft: float, prefill: float
) -> None:
    groups = result(summary, "chat", CACHED)["turn_groups"]
    assert set(groups) == {"all", "first", "later"}
    found = groups[group]
    assert found["turns"] == turns
    assert found["cached_share"]["mean"] == pytest.approx(share)
    assert found["ttft_s"]["mean"] == pytest.approx(ttft)
    assert found["prefill_s"]["mean"] == pytest.approx(prefill)


@pytest.mark.parametrize(
    ("group", "turns", "prompt", "cached", "ttft", "prefill"),
    [
        ("first", 3, 100, 0, 0.3, 0.27),
        # Turn 2 of c1, turns 2 to 4 of c2: F.
        ("later", 4, 1100 / 4, 700 / 4, (0.3 + 0.4 + 0.5 + 0.6) / 4, (1.8 - 4 * 0.03) / 4),
        # Turn 3 of c1 and 2 of c3 under G, with 2 s of adaptation before it; turn 4 of c3 under F.
        ("switch", 3, 900 / 3, 100 / 3, (2.2 + 2.25 + 0.7) / 3, (0.185 + 0.235 + 0.67) / 3),
        # Turn 4 of c1 and 3 of c3 under G.
        ("after_switch", 2, 700 / 2, 500 / 2, (0.25 + 0.3) / 2, (0.235 + 0.285) / 2),
    ],
)
def test_the_first_turn_after_a_switch_is_apart(
    summary: dict[str, Any],
    group: str,
    turns: int,
    prompt: float,
    cached: float,
    ttft: float,
    prefill: float,
) -> None:
    found = result(summary, "chat", SHIFT)["turn_groups"][group]
    assert found["turns"] == turns
    assert found["prompt_tokens"]["mean"] == pytest.approx(prompt)
    assert found["cached_tokens"]["mean"] == pytest.approx(cached)
    assert found["cached_share"]["mean"] == pytest.approx(cached / prompt)
    assert found["ttft_s"]["mean"] == pytest.approx(ttft)
    assert found["prefill_s"]["mean"] == pytest.approx(prefill)


def test_the_table(summary: dict[str, Any]) -> None:
    rows = {(row["method"], row["group"]): row for row in rows_of(summary, "prefix_cache")}
    own = rows[CACHED, "all"]
    assert (own["cache"], own["turns"], own["prompt_tokens"]) == ("on", "24", "250.0")
    assert own["cached_tokens"] == "150.0"
    assert own["cached_share"] == "60.0"
    assert own["kv_kept"] == "0.78"  # twice 400 tokens of 1 KiB
    assert rows[CACHED, "later"]["kv_kept"] == "–"
    assert rows["big (reference)", "all"]["cached_share"] == "0.0"
    assert rows[SHIFT, "first after a switch"]["turns"] == "3"
    assert (CACHED, "first after a switch") not in rows
    memory = {(r["task"], r["method"]): r for r in rows_of(summary, "memory")}
    assert memory["all", CACHED]["kv_kept"] == "0.78"
    assert memory["all", "small"]["kv_kept"] == "–"
    kept = result(summary, "chat", CACHED)["metrics"]["kv_kept_bytes"]
    assert kept["max"] == 2 * 400 * 1024 == 0.78125 * MIB


@pytest.mark.parametrize(
    ("methods", "prefix_cache", "cached", "shown", "column"),
    [
        (("big", "small"), "off", 0, False, False),
        (("big", "small"), "off", 50, True, False),  # a server that caches of itself
        (("big", "small"), "on", 0, True, False),
        (("big", CACHED), "off", 0, True, True),
        (("big", CACHED), "on", 0, True, False),
    ],
)
def test_when_it_is_shown(
    tmp_path: Path,
    methods: tuple[str, ...],
    prefix_cache: str,
    cached: int,
    shown: bool,
    column: bool,
) -> None:
    def hit(record: dict[str, Any]) -> None:
        for turn in record["turns"]:
            turn["tokens"]["cached"] = cached

    folder = edit(build_run(tmp_path / "run", methods=methods), hit)
    summary = summary_of(set_spec(folder, prefix_cache=prefix_cache))
    tables = {table.name: table for table in build_tables(summary)}
    assert ("prefix_cache" in tables) is shown
    assert ("cache" in {c.key for c in tables["main"].columns}) is column
    said = {"mixed": "by method"}.get(summary["prefix_cache"], summary["prefix_cache"])
    assert f"prefix cache {said}," in tables["latency"].caption


def test_the_main_table_names_the_cache(summary: dict[str, Any]) -> None:
    found = {row["method"]: row["cache"] for row in rows_of(summary, "main")}
    assert found == {"big (reference)": "off", CACHED: "on", "small": "off", SHIFT: "off"}


# Against the reference with the cache on.


def test_against_the_cached_reference(summary: dict[str, Any]) -> None:
    """A session of `big-cached` takes 1.24 + 0.4 n s: 1.64, 2.04 and 2.44 s in `chat`.

    `small` served c1 and c2 in 1.12 and 1.32 s; `big` took 2.24, 2.64 and 3.04 s, as long as
    `big-cached` in turn 1 and longer in every other.
    """
    assert summary["cached_reference"] == CACHED
    small = result(summary, "chat", "small")["against_cached"]
    assert small["session_s"]["relative"]["mean"] == pytest.approx(2.44 / 3.68 - 1)
    assert small["session_s"]["dropped_sessions"] == 1
    assert small["break_even"]["turn"] == 1
    big = result(summary, "chat", "big")["against_cached"]
    assert big["session_s"]["relative"]["mean"] == pytest.approx(7.92 / 6.12 - 1)
    assert (big["break_even"]["turn"], big["break_even"]["sessions"]) == (None, 3)
    assert result(summary, "chat", CACHED)["against_cached"] is None
    # Two seconds of adaptation are saved against neither.
    assert result(summary, "chat", SHIFT)["against_cached"]["break_even"]["turn"] is None


def test_its_columns(summary: dict[str, Any]) -> None:
    main = {row["method"]: row for row in rows_of(summary, "main")}
    assert main["small"]["break_even_cached"] == "1"
    assert main["big (reference)"]["break_even_cached"] == "not reached"
    assert main[CACHED]["break_even_cached"] == "–"
    # Over both tasks: c1, c2, a1, a2, a3 of `small` are 1.12, 1.32, 1.12, 1.32, 1.52 s.
    assert main["small"]["session_change_cached"].startswith(f"{100 * (6.4 / 9.8 - 1):.1f}")
    (adapted,) = [r for r in rows_of(summary, "adaptation") if r["task"] == "chat"]
    assert adapted["break_even_cached"] == "not reached"
    assert adapted["session_change_cached"].startswith("+")
    notes = next(table.notes for table in build_tables(summary) if table.name == "main")
    assert f"Cached: against {CACHED}, the reference with the prefix cache on." in notes


def change_method(folder: Path, method: str, **changes: Any) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    methods = [m | (changes if m["id"] == method else {}) for m in manifest["spec"]["methods"]]
    return set_spec(folder, methods=methods)


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        (CACHED, {"args": {"last_turns": 2}}),
        (CACHED, {"name": "brief"}),
        (CACHED, {"prefix_cache": "off"}),
        ("big", {"prefix_cache": "on"}),
    ],
    ids=["other arguments", "another method", "no cache", "the reference has it"],
)
def test_only_the_reference_s_twin_is_one(
    tmp_path: Path, method: str, changes: dict[str, Any]
) -> None:
    folder = build_run(tmp_path / "run", methods=("big", CACHED))
    summary = summary_of(change_method(folder, method, **changes))
    assert summary["cached_reference"] is None
    assert {r["against_cached"] for r in summary["results"]} == {None}
    assert "break_even_cached" not in rows_of(summary, "main")[0]


def test_the_run_s_own_setting_makes_a_twin(tmp_path: Path) -> None:
    folder = build_run(tmp_path / "run", methods=("big", CACHED))
    folder = change_method(folder, CACHED, prefix_cache=None)
    folder = change_method(folder, "big", prefix_cache="off")
    assert summary_of(set_spec(folder, prefix_cache="on"))["cached_reference"] == CACHED


def test_the_figure(run: Path, summary: dict[str, Any]) -> None:
    shares, prefills = draw_prefix_cache(read_run(run), summary).axes
    for axes in (shares, prefills):
        names = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
        assert names == ["first", "later", "first after a switch", "second after a switch"]
    points: dict[str, list[float]] = {}
    for bars in cast("list[Any]", shares.containers):
        drawn = points.setdefault(str(bars.get_label()), [])
        drawn += [float(y) for y in bars.lines[0].get_ydata()]
    assert points[f"{CACHED}, cache on"] == pytest.approx([0.0, 100 * 600 / 900])
    # All tasks: `arith` never switches and adds turns 2, 3 and 4 of three sessions to the later.
    later = 100 * (700 + 3 * 600) / (1100 + 3 * 900)
    assert points[SHIFT] == pytest.approx([0.0, later, 100 / 9, 500 / 7])
