"""Runs that go wrong: a failing session is recorded, the run goes on, the exit code says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from harness.plan import make_plan
from harness.profile import Overrides, load_spec

METHOD = '''"""Fails on the second turn of every session of maths."""
from harness.method import Method, Reply


class Fragile(Method):
    """Fragile."""

    how: str = "raise"

    async def open(self, session, engines):
        return Conversation(session, engines, self.how)


class Conversation:
    def __init__(self, session, engines, how):
        self.session, self.engines, self.how, self.turn = session, engines, how, 0

    async def reply(self, text):
        self.turn += 1
        if self.session.task == "maths" and self.turn == 2:
            if self.how == "memory":
                import torch

                torch.empty(10**15)
            raise RuntimeError("broken on purpose")
        prompt = [{"role": "user", "content": text}]
        return Reply(await self.engines.G.generate(prompt, max_new_tokens=4))

    async def close(self):
        pass
'''


def run_fragile(bench: Callable[..., Result], *words: str, how: str = "raise") -> Result:
    Path("fragile.py").write_text(METHOD)
    method = f"fragile.py:Fragile:how={how}"
    tasks = ("-t", "maths", "-t", "planning")
    fast = ("--set", "warmup=false", "--offline", "--out", "run")
    return bench("run", "smoke", "-m", method, *tasks, *fast, *words)


def records() -> list[dict[str, Any]]:
    lines = Path("run/sessions.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("how", ["raise", "memory"])
def test_a_failing_session_is_an_error_record_and_the_run_goes_on(
    bench: Callable[..., Result], how: str
) -> None:
    result = run_fragile(bench, how=how)
    assert result.exit_code == 1, result.output
    outcome = {r["task"]: r["outcome"] for r in records()}
    assert outcome == {"maths": "error", "planning": "scored"}
    failed = next(r for r in records() if r["outcome"] == "error")
    assert "broken on purpose" in failed["reason"] or "memory" in failed["reason"]
    assert "\n" not in failed["reason"]
    (trace,) = Path("run/errors").iterdir()
    assert "fragile.py" in trace.read_text()
    summary = json.loads(Path("run/summary.json").read_text())
    assert summary["sessions"]["error"] == 1

    again = run_fragile(bench, how=how)
    assert again.exit_code == 1
    assert len(records()) == 2
    retried = run_fragile(bench, "--retry-errors", how=how)
    assert retried.exit_code == 1
    assert len(records()) == 2


def test_too_many_errors_end_the_run(bench: Callable[..., Result]) -> None:
    result = run_fragile(bench, "--max-errors", "0")
    assert result.exit_code == 3
    assert "--max-errors allows 0" in result.stderr
    assert "Traceback" not in result.output


def test_every_unit_is_planned_once_and_the_order_is_drawn_by_seed() -> None:
    spec, place = load_spec("demo", Overrides(limit=1))
    plan = make_plan(spec, place)
    blocks = list(plan.blocks())
    keys = [u.key for b in blocks for u in b.units]
    assert len(keys) == len(set(keys)) == len(spec.methods) * len(spec.tasks)
    assert [b.method for b in plan.blocks()] == [b.method for b in blocks]
    orders = {tuple(b.method for b in blocks if b.task == task.name) for task in spec.tasks}
    assert len(orders) > 1
