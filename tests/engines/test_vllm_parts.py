"""Parts of the vLLM engine that need no vLLM: its log, its memory, its loop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import BaseModel, Field, ValidationError

from harness.engines.vllm import calls
from harness.engines.vllm.kv_meter import KvMeter
from harness.engines.vllm.log import EngineLog
from harness.engines.vllm.loop import LoopThread
from harness.errors import BenchError, UserError

# The log. Lines as vLLM's processes wrote them.

WORKER_FAILED = """\
VllmWorker-0 WARNING | libtcmalloc is not found in LD_PRELOAD.
VllmWorker-0 ERROR | WorkerProc failed to start.
Traceback (most recent call last):
  File "weight_utils.py", line 1, in load
    raise SafetensorError()
safetensors._safetensors_rust.SafetensorError: Error while deserializing header
EngineCore ERROR | EngineCore failed to start.
Traceback (most recent call last):
Exception: WorkerProc initialization failed due to an exception in a background process. \
See stack trace for root cause.
"""
PASSED_ON = """\
Process EngineCore:
Traceback (most recent call last):
RuntimeError: Worker failed with error 'Available memory on node 0 (8/10 GiB) is less than \
requested', please check the stack trace above for the root cause
"""
DIED = """\
EngineCore ERROR | Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down.
EngineCore ERROR | Dumping input data for V1 LLM engine
RuntimeError: cancelled
vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace \
(above) for the root cause.
"""


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (WORKER_FAILED, "Error while deserializing header"),
        (PASSED_ON, "Available memory on node 0 (8/10 GiB) is less than requested"),
        (DIED, "Worker proc VllmWorker-0 died unexpectedly (exit code: -9), shutting down."),
        ("MainProcess INFO | nothing went wrong\n", "see root cause above"),
        (None, "see root cause above"),
    ],
    ids=["worker", "passed-on", "died", "silent", "none"],
)
def test_the_cause_is_the_first_that_refers_to_no_other(
    tmp_path: Path, log: str | None, cause: str
) -> None:
    found = EngineLog(tmp_path)
    if log is not None:
        found.path.write_text(log, "utf-8")
    assert found.cause(RuntimeError("see root cause above\nand more")) == cause


def test_the_cause_of_a_wrong_setting_is_what_is_wrong_with_it(tmp_path: Path) -> None:
    class Setting(BaseModel):
        value: int = Field(ge=1)

    with pytest.raises(ValidationError) as raised:
        Setting(value=0)
    assert EngineLog(tmp_path).cause(raised.value) == "Input should be greater than or equal to 1"


def test_a_log_is_kept_where_the_message_says(tmp_path: Path) -> None:
    log = EngineLog(tmp_path)
    assert log.kept() == ""
    log.path.write_text("what happened", "utf-8")
    clause = log.kept()
    copy = Path(clause.removeprefix(" (vLLM's log: ").removesuffix(")"))
    assert copy.read_text("utf-8") == "what happened"
    assert copy.parent != tmp_path
    copy.unlink()


def test_children_write_to_the_file_and_this_process_to_the_terminal(tmp_path: Path) -> None:
    """In a process of its own, whose descriptor 2 nobody else has replaced."""
    program = f"""
import os, subprocess, sys
from pathlib import Path
from harness.engines.vllm.log import EngineLog

log = EngineLog(Path({str(tmp_path)!r}))
print("before", file=sys.stderr)
with log.capture():
    os.write(2, b"raw\\n")
    subprocess.run(["sh", "-c", "echo child >&2"])
    print("within", file=sys.stderr)
print("after", file=sys.stderr)
os.write(2, b"raw after\\n")
"""
    env = {k: v for k, v in os.environ.items() if not k.startswith("VLLM_")}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=root, env=env
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.split("\n") == ["before", "within", "after", "raw after", ""]
    assert (tmp_path / "vllm.log").read_text("utf-8") == "raw\nchild\n"


def test_who_asks_for_vllm_s_log_gets_it_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "DEBUG")
    log = EngineLog(tmp_path)
    assert log.environment() == {}
    with log.capture():
        os.write(2, b"shown\n")
    assert capfd.readouterr().err == "shown\n"
    assert not log.path.exists()


def test_the_log_s_settings_are_python_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from logging.config import dictConfig

    for name in ("VLLM_LOGGING_LEVEL", "VLLM_LOGGING_CONFIG_PATH"):
        monkeypatch.delenv(name, raising=False)
    log = EngineLog(tmp_path)
    (path,) = log.environment().values()
    config = json.loads(Path(path).read_text("utf-8"))
    config["loggers"]["vllm_in_a_test"] = config["loggers"].pop("vllm")
    dictConfig(config)
    logger = logging.getLogger("vllm_in_a_test")
    logger.error("it broke")
    assert log.cause(RuntimeError()) == "it broke"
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


# Memory.


def meter(blocks: int = 101, size: int = 32, tokens: int | None = None) -> KvMeter:
    """100 usable blocks of 32 tokens of 10 bytes."""
    config = SimpleNamespace(
        num_gpu_blocks=blocks,
        block_size=size,
        kv_cache_size_tokens=blocks * size if tokens is None else tokens,
    )
    made = KvMeter(bytes_per_token=10).attach(SimpleNamespace(cache_config=config))
    made.log_engine_initialized()
    return made


def step(running: int, usage: float) -> SimpleNamespace:
    return SimpleNamespace(num_running_reqs=running, kv_cache_usage=usage)


def test_blocks_in_use_are_shared_by_those_that_run() -> None:
    found = meter()
    assert found.share is None
    for running, usage, share in ((1, 0.03, 3 * 320), (4, 0.29, 29 * 320 // 4), (0, 0.0, None)):
        found.record(step(running, usage), None, mm_cache_stats=None, engine_idx=0)
        assert found.share == share
    found.record(None, None)
    assert found.share is None


def test_where_blocks_differ_nothing_is_measured() -> None:
    found = meter(tokens=5000)
    found.record(step(1, 0.5), None)
    assert found.share is None


# Calls that nobody answers.


def test_a_call_of_a_dead_engine_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "_LOOK_EVERY_S", 0.01)
    llm = SimpleNamespace(errored=False, dead_error=BenchError("the engine is dead"))

    async def dies() -> None:
        waiting = asyncio.create_task(calls.utility(llm, asyncio.sleep(60)))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        llm.errored = True
        await waiting

    with pytest.raises(BenchError, match="the engine is dead"):
        asyncio.run(dies())


def test_a_call_of_a_living_engine_gives_its_answer() -> None:
    async def number() -> int:
        await asyncio.sleep(0)
        return 7

    assert asyncio.run(calls.utility(SimpleNamespace(errored=False), number())) == 7


# The loop.


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    made = LoopThread("test-loop")
    yield made
    made.close()


def test_work_is_done_in_the_loop_s_own_thread(loop: LoopThread) -> None:
    async def where() -> str:
        return threading.current_thread().name

    assert loop.call(where()) == "test-loop"
    assert asyncio.run(loop.run(where())) == "test-loop"
    assert asyncio.run(loop.run(where())) == "test-loop"


def test_what_work_raises_reaches_the_caller(loop: LoopThread) -> None:
    async def fail() -> None:
        raise UserError("place", "problem")

    with pytest.raises(UserError, match="place: problem"):
        loop.call(fail())
    with pytest.raises(UserError, match="place: problem"):
        asyncio.run(loop.run(fail()))


def test_cancelling_the_caller_cancels_the_work(loop: LoopThread) -> None:
    ended = threading.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    async def cancel() -> None:
        task = asyncio.create_task(loop.run(work()))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    assert ended.wait(10)


def test_closing_cancels_what_still_runs() -> None:
    made = LoopThread("closing")

    async def caller() -> None:
        task = asyncio.create_task(made.run(asyncio.sleep(60)))
        await asyncio.sleep(0.05)
        await asyncio.to_thread(made.close)
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(caller())
    assert not any(thread.name == "closing" for thread in threading.enumerate())
