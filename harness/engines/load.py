"""From a pair's declarations to loaded models. Engines are named here and imported when needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError, nearest
from harness.session import Role

if TYPE_CHECKING:
    from pydantic import BaseModel

    from harness.engines.base import Engine, LocalEngine
    from harness.engines.encoder import SentenceEncoder
    from harness.engines.pairs import EncoderSpec, ModelSpec


ENGINES = ("transformers", "vllm", "openai")
"""Each is a package here, whose `load.py` has `load` (with `load_engine`'s parameters) and whose
`options.py` has `Options` and imports nothing heavy."""

SERVERS = ("openai",)
"""Those that ask another process: no weights of theirs are needed on this machine."""


def options_class(engine: str) -> type[BaseModel]:
    """The class that a model's `options` are validated with; unknown keys are refused by it."""
    cls: type[BaseModel] = importlib.import_module(f"harness.engines.{engine}.options").Options
    return cls


def load_engine(
    spec: ModelSpec, role: Role, *, offline: bool, batch_size: int, prefix_cache: bool = False
) -> Engine:
    """Load one model. `batch_size` bounds how many waiting requests it takes at a time.

    `prefix_cache`: whether any request will ask for it. Raises UserError for an unknown engine or
    a model that cannot be had.
    """
    if spec.engine not in ENGINES:
        raise UserError(f"{role}.engine = {spec.engine!r}", nearest(spec.engine, ENGINES))
    load: Callable[..., Engine] = importlib.import_module(
        f"harness.engines.{spec.engine}.load"
    ).load
    return load(spec, role, offline=offline, batch_size=batch_size, prefix_cache=prefix_cache)


def load_trainer(spec: ModelSpec, role: Role, *, offline: bool) -> LocalEngine | None:
    """The copy of a served model whose weights are adapted; None where `spec` asks for none."""
    from harness.engines.pairs import training_copy

    copy = training_copy(spec)
    if copy is None:
        return None
    from harness.engines.transformers.load import load

    return load(copy, role, offline=offline, batch_size=1)


def load_encoder(spec: EncoderSpec, *, offline: bool) -> SentenceEncoder:
    """Load the pair's sentence encoder. Raises UserError when it cannot be had."""
    from harness.engines.encoder import SentenceEncoder

    source = resolve_model(spec.id, offline=offline, revision=spec.revision)
    return SentenceEncoder.load(source, spec, offline=offline)


def resolve_model(spec_id: str, offline: bool, revision: str = "main") -> Path | str:
    """Where to load a model from: a folder, or a hub id when the hub may be asked.

    Embedded models are built on first use. Raises UserError.
    """
    from harness.engines.embedded.fetch import SCHEME, fetch_one
    from harness.engines.hub import locate_on_hub
    from harness.engines.pairs import is_folder_id

    if spec_id.startswith(SCHEME):
        return fetch_one(spec_id.removeprefix(SCHEME))
    if is_folder_id(spec_id):
        folder = Path(spec_id).expanduser()
        if not (folder / "config.json").is_file():
            raise UserError(folder, "holds no model (no config.json); give a model's folder")
        return folder
    return locate_on_hub(spec_id, revision, offline=offline)
