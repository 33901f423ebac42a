"""The models of a run, loaded together, and the client that measures those of a server."""

from __future__ import annotations

from typing import Any

from harness.engines.load import SERVERS, load_encoder, load_engine, load_trainer
from harness.engines.pairs import ModelSpec, PairSpec
from harness.serving import EngineSet
from harness.session import Role
from harness.spec import RunSpec


def load_engines(spec: RunSpec, *, offline: bool) -> EngineSet:
    """Load what the run's pair names. Raises UserError for what cannot be had."""
    pair = spec.pair
    cached = any(spec.caches(method) for method in spec.methods)
    models: dict[Role, ModelSpec] = {"F": pair.F, "G": pair.G}
    engines = {
        role: load_engine(
            model, role, offline=offline, batch_size=spec.batch_size, prefix_cache=cached
        )
        for role, model in models.items()
    }
    trainers = {
        role: trainer
        for role, model in models.items()
        if (trainer := load_trainer(model, role, offline=offline)) is not None
    }
    return EngineSet(
        pair,
        engines["F"],
        engines["G"],
        load_encoder(pair.encoder, offline=offline),
        adapt_concurrency=spec.adapt_concurrency,
        trainers=trainers,
    )


def measure_own_client(pair: PairSpec) -> dict[str, Any] | None:
    """How far this process's client is from the truth, as JSON values; None: it asks no server.

    Raises ClientTooSlow (a BenchError) where it is too far to report a server's times. Starts an
    event loop, so none may be running in this thread.
    """
    if not any(model.engine in SERVERS for model in (pair.F, pair.G)):
        return None
    from harness.engines.openai.self_check import check_client

    return check_client().record()
