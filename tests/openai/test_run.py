"""A whole run with F behind a server that fails now and then, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.engines.openai import self_check
from harness.engines.openai.self_check import ClientTooSlow
from harness.store import read_manifest, read_sessions
from tests.openai.backend import Ability
from tests.openai.conftest import QUICK
from tests.openai.fault_proxy import Fault

KEY = "sk-proj-Zq8vW3rT6yU1iO4pA7sD0fG2hJ5kL9xC"
FAST = ("-t", "maths", "--max-new-tokens", "4", "--set", "warmup=false", "--out", "run")


def pair_file(folder: Path, address: str, **options: Any) -> Path:
    """F is the server's, G and the encoder are the embedded ones."""
    given = {"base_url": address, "cache_salt": True, "api_key_env": "BENCH_KEY", **QUICK}
    table = ", ".join(f"{k} = {json.dumps(v)}" for k, v in {**given, **options}.items())
    path = folder / "served.toml"
    path.write_text(
        f'[F]\nid = "words"\nengine = "openai"\noptions = {{ {table} }}\n'
        '[G]\nid = "embedded:G"\n[encoder]\nid = "embedded:encoder"\n',
        "utf-8",
    )
    return path


@pytest.fixture
def run(
    tmp_path: Path, bench: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.setenv("BENCH_KEY", KEY)

    def call(address: str, *words: str, **options: Any) -> Result:
        pair = pair_file(tmp_path, address, **options)
        return bench("run", "smoke", "--set", f"pair={pair}", *FAST, *words)

    return call


def every_second_turn(label: str, attempt: int) -> Fault | None:
    """Those of the run's turns that are of odd length fail once."""
    return Fault("http", status=503) if attempt == 1 and len(label) % 2 else None


def test_a_run_with_f_behind_a_server(tmp_path: Path, serve, run: Callable[..., Result]) -> None:
    address, proxy = serve(Ability(key=KEY, gap_s=0.002), every_second_turn)
    done = run(address)
    assert done.exit_code == 0, done.output
    folder = tmp_path / "run"
    client = read_manifest(folder)["client"]
    assert client is not None
    assert client["passed"] is True
    assert client["streams"] == 64
    records = {r["method"]: r for r in read_sessions(folder)}
    assert {m: r["outcome"] for m, r in records.items()} == dict.fromkeys(
        ("original", "original-cached", "surrogate"), "scored"
    )
    by_f = [t for m in ("original", "original-cached") for t in records[m]["turns"]]
    retried = [bool(c["failures"]) for t in by_f for c in t["calls"]]
    assert sum(retried) == sum(p.fault is not None for p in proxy.log) > 0
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    result = next(
        r for r in summary["results"] if (r["method"], r["task"]) == ("original", "maths")
    )
    counts = result["metrics"]["ttft_s"]["outcomes"]
    assert counts["unscored"] == sum(
        bool(c["failures"]) for t in records["original"]["turns"] for c in t["calls"]
    )
    assert [t["tokens"]["cached"] for t in records["original"]["turns"]] == [0, 0, 0]
    written = [p for p in folder.rglob("*") if p.is_file()]
    assert len(written) > 20
    assert [p.name for p in written if KEY.encode() in p.read_bytes()] == []
    assert KEY not in done.output + done.stderr


def test_a_client_that_cannot_measure_ends_the_run_before_it_begins(
    tmp_path: Path, serve, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise ClientTooSlow("this machine's client cannot measure")

    monkeypatch.setattr(self_check, "check_client", refuse)
    address, _ = serve(Ability(key=KEY))
    done = run(address)
    assert done.exit_code == 3
    assert "error: this machine's client cannot measure" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_cache_that_cannot_be_turned_off_is_not_called_off(
    tmp_path: Path, serve, run: Callable[..., Result]
) -> None:
    address, backend = serve(Ability(key=KEY))
    done = run(address, "-m", "original", cache_salt=False)
    assert done.exit_code == 2
    assert 'prefix_cache = "on"' in done.stderr
    assert backend.asked == []
    cached = ("-m", "original:prefix_cache=on", "--out", "cached")
    assert run(address, *cached, cache_salt=False).exit_code == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"api_key_env": "NOT_SET"}, "NOT_SET"),
        ({"base_url": "http://127.0.0.1:9/v1"}, "F.options.base_url"),
    ],
    ids=["no-key", "nobody-there"],
)
def test_what_the_user_has_to_mend_is_one_line(
    serve, run: Callable[..., Result], changes: dict[str, str], expected: str
) -> None:
    address, _ = serve(Ability(key=KEY))
    done = run(changes.pop("base_url", address), "-m", "original", **changes)
    assert done.exit_code == 2
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error:")]
    assert expected in line
