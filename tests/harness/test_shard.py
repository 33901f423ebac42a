"""Shards of a run: parts that together are the whole, and none of which is taken for another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from harness.errors import UserError
from harness.plan import Plan, make_plan
from harness.profile import Overrides, load_spec
from harness.shard import Shard, manifest_of_shard, parse_shard, plan_of_shard
from harness.store import Store, read_manifest


@pytest.fixture
def plan() -> Plan:
    return make_plan(*load_spec("demo", Overrides(limit=5)))


@pytest.mark.parametrize("text", ["1/1", "2/3", "3/3", "07/10"])
def test_a_shard_is_read(text: str) -> None:
    index, count = (int(part) for part in text.split("/"))
    assert parse_shard(text) == Shard(index=index, count=count)


@pytest.mark.parametrize(
    "text", ["", "1", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1 / 2", "1/2\n", "1.0/2", "²/3"]
)
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--shard"):
        parse_shard(text)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_shards_are_the_whole_and_share_nothing(plan: Plan, count: int) -> None:
    parts = [plan_of_shard(plan, Shard(index=i + 1, count=count)) for i in range(count)]
    for task, whole in plan.sessions.items():
        found = [s.id for part in parts for s in part.sessions[task]]
        assert sorted(found) == sorted(s.id for s in whole)
        sizes = [len(part.sessions[task]) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    for part in parts:
        served = {u.key for b in part.blocks() for u in b.units}
        for task in part.sessions:
            per_method = {
                frozenset(k.session_id for k in served if (k.method, k.task) == (m, task))
                for m in plan.methods
            }
            assert len(per_method) == 1


def test_a_manifest_says_which_part_of_what(plan: Plan) -> None:
    whole = dict(plan.manifest())
    shard = Shard(index=2, count=3)
    part = dict(manifest_of_shard(plan, shard))
    assert part["shard"] == {"index": 2, "count": 3}
    assert part["whole"] == {n: whole[n] for n in ("sessions", "sessions_hash", "task_hashes")}
    assert part["spec_hash"] == whole["spec_hash"]
    assert part["sessions_hash"] != whole["sessions_hash"]
    assert part["dropped"] == whole["dropped"]
    assert part["sessions"] == {
        task: [s.id for s in group][1::3] for task, group in plan.sessions.items()
    }


def test_a_shard_without_sessions_is_refused(plan: Plan) -> None:
    with pytest.raises(UserError, match="holds no session; the run has 5 shards at most"):
        plan_of_shard(plan, Shard(index=6, count=6))


@pytest.mark.parametrize("other", ["2/3", "1/2", None])
def test_a_folder_of_one_shard_takes_no_other(
    plan: Plan, tmp_path: Path, other: str | None
) -> None:
    run = tmp_path / "run"
    with Store(run, manifest_of_shard(plan, parse_shard("1/3"))):
        pass
    with Store(run, manifest_of_shard(plan, parse_shard("1/3"))):
        pass
    manifest = plan.manifest() if other is None else manifest_of_shard(plan, parse_shard(other))
    with pytest.raises(UserError, match=r"holds another run .*shard"), Store(run, manifest):
        pass


def test_two_shards_of_the_same_sessions_are_told_apart(tmp_path: Path) -> None:
    plan = make_plan(*load_spec("demo", Overrides(limit=1)))
    with Store(tmp_path / "run", manifest_of_shard(plan, parse_shard("1/2"))):
        pass
    other = manifest_of_shard(plan, parse_shard("1/3"))
    assert other["sessions_hash"] == read_manifest(tmp_path / "run")["sessions_hash"]
    with pytest.raises(UserError, match=r"shard\.count: 2 there, 3 here"):
        Store(tmp_path / "run", other).__enter__()


@pytest.mark.parametrize("shard", ["0/2", "9/9"])
def test_the_command_line_refuses_in_one_line(bench: Callable[..., Result], shard: str) -> None:
    result = bench("run", "smoke", "--out", "run", "--shard", shard)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: --shard: ")
    assert result.stderr.count("\n") == 1
    assert not Path("run").exists()
