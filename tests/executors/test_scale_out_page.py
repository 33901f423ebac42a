"""The job script and the `merge` command of docs/scale-out.md, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

from harness.report.tables import QUALITY_TABLES

ROOT = Path(__file__).parents[2]
WORDS = (
    *("-t", "maths", "-m", "original", "-m", "surrogate", "--limit", "3"),
    *("--max-new-tokens", "4", "--set", "warmup=false", "--offline"),
)


def blocks() -> list[str]:
    page = (ROOT / "docs" / "scale-out.md").read_text("utf-8")
    command = f"{sys.executable} {ROOT / 'run_bench.py'}"
    found = re.findall(r"```bash\n(.*?)```", page, flags=re.S)
    return [block.replace("python run_bench.py", command) for block in found]


def tables(run: Path) -> dict[str, bytes]:
    files = [p for name in QUALITY_TABLES for p in (run / "tables").glob(f"{name}.*")]
    return {p.name: p.read_bytes() for p in files}


def test_shards_of_a_job_array_merge_into_the_run_in_one_piece(
    tmp_path: Path, bench: Callable[..., Result]
) -> None:
    merge, script = blocks()
    (tmp_path / "shards.sh").write_text(script)
    jobs = []
    for index in ("1", "2"):
        own = {"SLURM_ARRAY_TASK_ID": index, "SLURM_ARRAY_TASK_COUNT": "2"}
        command = ["bash", "shards.sh", "smoke", "part", *WORDS]
        jobs.append(subprocess.Popen(command, cwd=tmp_path, env={**os.environ, **own}))
    plain = bench("run", "smoke", *WORDS, "--out", "plain")
    assert plain.exit_code == 0, plain.output
    assert [job.wait(timeout=300) for job in jobs] == [0, 0]
    assert not (tmp_path / "part-1" / "summary.json").exists()

    subprocess.run(["bash", "-ec", merge], cwd=tmp_path, check=True, timeout=300)
    assert tables(tmp_path / "whole") == tables(tmp_path / "plain")
    assert len(tables(tmp_path / "plain")) == 3 * len(QUALITY_TABLES)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "sessions.jsonl").open()]
    keys = [(r["method"], r["task"], r["session_id"], r["seed"]) for r in lines]
    assert len(keys) == 6
    assert keys == sorted(keys)

    resumed = bench("run", "smoke", *WORDS, "--out", "whole")
    assert resumed.exit_code == 0, resumed.output
    assert "all 6 sessions were finished before" in resumed.stderr
