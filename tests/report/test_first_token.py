"""TTFT in its parts, beside what engines measure themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.report.reading import edit, result, rows_of, set_spec, summary_of
from tests.report.synthetic import SHIFT, build_run


def measured(record: dict[str, Any]) -> None:
    """F's engine measures: it sees a request 4 ms late and its last token 6 ms before we do."""
    for turn in record["turns"]:
        call = turn["calls"][0]
        if call["role"] == "F":
            timing, start = turn["timing"], call["start_s"]
            call["engine"] = {
                "queue_s": 0.015,
                "ttft_s": timing["ttft_s"] - start - 0.004,
                "e2e_s": timing["e2e_s"] - start - 0.010,
            }


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = build_run(tmp_path_factory.mktemp("parts") / "run", methods=("big", "small", SHIFT))
    return summary_of(edit(folder, measured))


def test_the_parts_add_up(summary: dict[str, Any]) -> None:
    """`shift` in `chat`: two of twelve turns wait 2 s; four are at half the pace of F."""
    for task, method in (("chat", "big"), ("chat", SHIFT), ("all", "small")):
        mean = {k: m["mean"] for k, m in result(summary, task, method)["metrics"].items()}
        assert mean["before_call_s"] + mean["call_ttft_s"] == pytest.approx(mean["ttft_s"])
        assert mean["queue_s"] + mean["prefill_s"] == pytest.approx(mean["call_ttft_s"])
    mean = {k: m["mean"] for k, m in result(summary, "chat", SHIFT)["metrics"].items()}
    assert mean["before_call_s"] == pytest.approx((2 * 2.0 + 8 * 0.01 + 4 * 0.005) / 12)
    assert mean["queue_s"] == pytest.approx((8 * 0.02 + 4 * 0.01) / 12)


def test_the_engine_s_own_times(summary: dict[str, Any]) -> None:
    metrics = result(summary, "chat", "big")["metrics"]
    assert metrics["engine_queue_s"]["mean"] == pytest.approx(0.015)
    assert metrics["engine_ttft_s"]["mean"] == pytest.approx(0.44 - 0.004)
    assert metrics["engine_e2e_s"]["mean"] == pytest.approx(0.64 - 0.010)
    assert metrics["over_engine_ttft_s"]["mean"] == pytest.approx(0.004)
    assert metrics["over_engine_e2e_s"]["mean"] == pytest.approx(0.010)
    # G's engine measures nothing; of `shift` only F's eight turns are compared.
    assert result(summary, "chat", "small")["metrics"]["engine_ttft_s"]["mean"] is None
    assert result(summary, "chat", SHIFT)["metrics"]["over_engine_ttft_s"]["n"] == 8


def test_the_table(summary: dict[str, Any], tmp_path: Path) -> None:
    rows = {(row["task"], row["method"]): row for row in rows_of(summary, "first_token")}
    big = rows["chat", "big (reference)"]
    assert big["queue_s"] == "0.020"
    assert big["prefill_s"].startswith("0.420 [")
    assert big["engine_queue_s"] == "0.015"
    assert big["over_engine_ttft_s"] == "+0.0040"
    assert rows["chat", "small"]["engine_ttft_s"] == "–"
    plain = rows_of(summary_of(build_run(tmp_path / "run")), "first_token")
    assert "engine_ttft_s" not in plain[0]


def test_a_server_s_queue_is_unknown_and_not_zero(tmp_path: Path) -> None:
    pair = {"name": "toy", "F": {"engine": "openai"}, "G": {"engine": "vllm"}, "encoder": {}}
    folder = build_run(tmp_path / "run", methods=("big", "small", SHIFT))
    summary = summary_of(set_spec(folder, pair=pair))
    big = result(summary, "chat", "big")["metrics"]
    assert big["call_ttft_s"]["mean"] == pytest.approx(0.44)
    for name in ("queue_s", "prefill_s"):
        assert (big[name]["mean"], big[name]["outcomes"]["unscored"]) == (None, 12)
        assert result(summary, "chat", "small")["metrics"][name]["n"] == 8
        assert result(summary, "chat", SHIFT)["metrics"][name]["n"] == 4


def test_the_last_reply_by_who_served_counts(tmp_path: Path) -> None:
    """A first try by G and a call for something else lie before F's own."""

    def tried(record: dict[str, Any]) -> None:
        for turn in record["turns"]:
            (call,) = turn["calls"]
            others = [("G", "reply"), ("F", "summary"), ("F", "reply")]
            turn["calls"] = [
                call | {"role": role, "purpose": purpose, "start_s": 0.0, "queue_s": 9.0}
                for role, purpose in others
            ] + [call]
            turn["calls"] += [call | {"purpose": "probe", "queue_s": 9.0}]

    summary = summary_of(edit(build_run(tmp_path / "run", methods=("big",)), tried))
    metrics = result(summary, "chat", "big")["metrics"]
    assert metrics["queue_s"]["mean"] == pytest.approx(0.02)
    assert metrics["before_call_s"]["mean"] == pytest.approx(0.01)


def test_a_turn_without_such_a_call_is_unscored(tmp_path: Path) -> None:
    def silent(record: dict[str, Any]) -> None:
        record["turns"][0]["calls"] = []

    metrics = result(
        summary_of(edit(build_run(tmp_path / "run", methods=("big",)), silent)), "chat", "big"
    )["metrics"]
    assert (metrics["queue_s"]["n"], metrics["queue_s"]["outcomes"]["unscored"]) == (9, 3)
    assert metrics["ttft_s"]["n"] == 12
