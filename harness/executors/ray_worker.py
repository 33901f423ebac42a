"""A worker: one set of engines in a process of its own, which Ray starts, on whatever machine."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path

from harness import registry
from harness.engines.hub import go_offline
from harness.errors import BenchError, UserError
from harness.executors.kept_files import take_kept
from harness.executors.wire import Code, Job, Orders
from harness.measure.machine import code_version, machine_class, packages
from harness.plan import Unit, build_method
from harness.serving import EngineSet
from harness.unit_server import UnitServer
from harness.window import Window


class Worker:
    """Serves units one at a time or several at once. Called by Ray, from one event loop.

    It writes nothing but its own temporary folder: finished units are the caller's to store.
    """

    def __init__(self, orders: str) -> None:
        self._orders = Orders.model_validate_json(orders)
        self._scratch = tempfile.TemporaryDirectory(
            prefix="soma-bench-", dir=self._orders.scratch, ignore_cleanup_errors=True
        )
        self._window: Window | None = None

    async def load(self) -> dict[str, str]:
        """Load the engines; returns this machine's class, or what the user has to mend.

        A UserError is returned as its `place` and `problem`, since exceptions lose their type and
        one line on their way.
        """
        orders = self._orders
        try:
            if orders.offline:
                go_offline()
            _enter(orders)
            _check_code(orders)
            from harness.load_engines import load_engines, measure_own_client

            spec = orders.spec
            self._methods = {m.id: build_method(m, f"worker {orders.index}") for m in spec.methods}
            await asyncio.to_thread(measure_own_client, spec.pair)
            self._engines: EngineSet = load_engines(spec, offline=orders.offline)
        except UserError as error:
            return {"place": error.place, "problem": error.problem}
        except BenchError as error:
            return {"place": f"worker {orders.index}", "problem": str(error)}
        self._server = UnitServer(spec, self._engines, orders.warm_turns, Path(self._scratch.name))
        self._machine = machine_class(orders.cores)
        return {"machine_class": self._machine}

    async def warm_up(self) -> None:
        from harness.runner import warm_up

        await warm_up(self._engines)

    async def begin(self) -> None:
        """Begin a block: nothing of the one before is left, and a new window is open."""
        await self._engines.reset()
        self._window = Window.begin(self._orders.index, self._machine)

    async def serve(self, job: str) -> tuple[str, str | None, dict[str, bytes]]:
        """Serve a unit: its record as a line of JSON, its traceback if it failed, what it kept."""
        if self._window is None:
            raise RuntimeError("no block has begun")
        given = Job.model_validate_json(job)
        unit = Unit(given.key, self._methods[given.key.method], given.session)
        record, trace = await self._server.serve(unit, self._window, stored=given.stored)
        # In a thread: other sessions' tokens must not wait for a file.
        kept = await asyncio.to_thread(take_kept, Path(self._scratch.name), given.key)
        return json.dumps(record, ensure_ascii=False), trace, kept

    async def close(self) -> None:
        await self._engines.close()
        self._scratch.cleanup()


def own_code() -> Code:
    """What this process runs. Whether files were changed since the commit is left out: a run that
    writes below the repository changes that itself.
    """
    import harness

    version = code_version()
    return Code(
        harness_version=harness.__version__,
        code_version=None if version is None else version.removesuffix("-dirty"),
        packages=packages(),
    )


def _enter(orders: Orders) -> None:
    """Go where the run was started, so that relative paths mean what they mean there."""
    folder = Path(orders.folder)
    if folder.is_dir():
        os.chdir(folder)
    for name, wanted in orders.sources.items():
        place = f"worker {orders.index} on {os.uname().nodename}"
        path = Path(name.rsplit(":", 1)[0])
        if not path.is_absolute():
            path = folder / path
        if not path.is_file():
            problem = f"has no {path}; your own files must lie at the same path on every machine"
            raise UserError(place, problem)
        if registry.source_hash(name) != wanted:
            raise UserError(place, f"has another {path} than the run was started with")


def _check_code(orders: Orders) -> None:
    mine = own_code().model_dump()
    theirs = orders.code.model_dump()
    if mine != theirs:
        from harness.spec import differences

        found = "; ".join(f"{k}: {a!r} there, {b!r} here" for k, a, b in differences(mine, theirs))
        place = f"worker {orders.index} on {os.uname().nodename}"
        raise UserError(place, f"runs other code ({found}); install the same on every machine")
