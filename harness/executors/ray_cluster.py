"""Connecting to a Ray cluster, or starting one on this machine, and dividing it among workers."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harness.engines.load import options_class
from harness.engines.pairs import PairSpec
from harness.errors import UserError
from harness.measure.machine import available_cores
from harness.spec import RunSpec

ADDRESS = "RAY_ADDRESS"
STORE_BYTES = 256 << 20
"""Shared memory of a cluster of ours: text, and the adapters that methods keep, pass through it."""

_NO_CARD = ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
"""Ray warns where this is not set: what workers without a card see of cards is to change."""

_QUIET = MappingProxyType({"log_to_driver": False, "logging_level": logging.ERROR})
_PATH_ROOM = 20
"""Ray keeps sockets some 80 characters below its temporary folder, and paths of sockets have 107
at most; a longer one is replaced by /tmp."""


@dataclass(frozen=True)
class Share:
    """What each of `workers` workers gets. `cpus`, `gpus`: of one machine."""

    workers: int
    cpus: int
    gpus: int


@dataclass(frozen=True)
class Cluster:
    """`nodes`: the resources of each living machine. `scratch`: its folder, where it is ours."""

    nodes: tuple[Mapping[str, float], ...]
    scratch: str | None


def check(spec: RunSpec) -> None:
    """Raise UserError for a run that Ray cannot serve here."""
    try:
        import ray  # noqa: F401
    except ImportError:
        raise UserError("--executor ray", "Ray is not installed: pip install '.[ray]'") from None
    if spec.arrival_rate is not None:
        raise UserError(
            "--executor ray",
            "sessions that arrive at a rate need one machine's clock; use --executor local, or "
            "give concurrency instead of arrival_rate (it is then that of each worker)",
        )
    if os.environ.get(ADDRESS, "").startswith("ray://"):
        raise UserError(
            ADDRESS, "is that of a Ray Client; start the command on a machine of the cluster"
        )


@contextmanager
def connected() -> Iterator[Cluster]:
    """The cluster that RAY_ADDRESS names; without one, one of this machine that ends with it.

    Raises UserError where no cluster is at that address.
    """
    address = os.environ.get(ADDRESS, "")
    cluster = _joined(address) if address and address != "local" else _started()
    # Ray prints what its daemons report to standard output, where only results belong; whatever
    # matters of it comes as an exception too.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), cluster as found:
        yield found


@contextmanager
def _joined(address: str) -> Iterator[Cluster]:
    import ray

    os.environ.setdefault(*_NO_CARD)
    try:
        if address != "auto":
            _reach(address)  # Ray itself would try for minutes
        ray.init(address=address, **_QUIET)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(ADDRESS, f"no Ray cluster to be used at {address!r}: {told}") from error
    try:
        yield Cluster(_nodes(), None)
    finally:
        ray.shutdown()  # leaves the cluster, which was there before and stays


def _reach(address: str) -> None:
    """Raise OSError or ValueError unless something listens at `host:port`."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        raise ValueError("it is neither host:port nor 'auto'")
    socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def _started() -> Iterator[Cluster]:
    import ray

    os.environ.setdefault(*_NO_CARD)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # Ray listens on the network, and whoever may talk to it can run code here: it asks for a
    # password, which its processes get from this one's environment. Left to itself it keeps one in
    # the user's home. Ray reads it once per process.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    parent = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    where = parent if len(parent) <= _PATH_ROOM else "/tmp"
    with tempfile.TemporaryDirectory("", "ray-", where, ignore_cleanup_errors=True) as scratch:
        ray.init(
            address="local",
            num_cpus=available_cores(),
            include_dashboard=False,
            object_store_memory=STORE_BYTES,
            _temp_dir=scratch,
            **_QUIET,
        )
        try:
            yield Cluster(_nodes(), scratch)
        finally:
            ray.shutdown()


def _nodes() -> tuple[Mapping[str, float], ...]:
    import ray

    return tuple(node["Resources"] for node in ray.nodes() if node["Alive"])


def cards_of(pair: PairSpec) -> int:
    """How many cards one worker needs, where there are cards: F and G share them."""
    options = [options_class(m.engine)(**m.options) for m in (pair.F, pair.G)]
    return max(getattr(o, "tensor_parallel_size", 1) for o in options)


def shared_out(nodes: Sequence[Mapping[str, float]], cards: int, workers: int | None) -> Share:
    """Divide machines among `workers` workers; None: as many as there is room for.

    With cards in the cluster, each gets `cards` of one machine, and that part of its cores; in a
    cluster without, two cores, or what there is. Raises UserError where there is no room.
    """
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    if any(gpus):
        places = [have // cards for have in gpus]
        room = sum(places)
        needed = f"workers of {cards} card{'s' if cards > 1 else ''}"
        cpus = min(
            (int(n.get("CPU", 0)) // p for n, p in zip(nodes, places, strict=True) if p), default=0
        )
        return Share(_fitting(workers or room, room, needed), cpus, cards)
    cores = [int(node.get("CPU", 0)) for node in nodes]
    wanted = workers or max(1, sum(have // 2 for have in cores))
    _fitting(wanted, sum(cores), "workers of one core")
    each = max(k for k in range(1, max(cores) + 1) if sum(c // k for c in cores) >= wanted)
    return Share(wanted, each, 0)


def _fitting(workers: int, room: int, needed: str) -> int:
    if not 0 < workers <= room:
        raise UserError("--workers", f"the cluster has room for {room} {needed}, not for {workers}")
    return workers


def actor_options(share: Share, concurrency: int) -> dict[str, Any]:
    """How Ray starts a worker. It is not restarted by Ray: what it was serving is not Ray's."""
    return {
        "num_cpus": share.cpus,
        "num_gpus": share.gpus,
        "max_concurrency": concurrency + 1,
        "max_restarts": 0,
        "max_task_retries": 0,
        "scheduling_strategy": "SPREAD",
    }
