"""From a pair's declarations to loaded models. Engines are named here and imported when needed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness.errors import UserError, nearest
from harness.session import Role

if TYPE_CHECKING:
    from harness.engines.base import Engine
    from harness.engines.encoder import SentenceEncoder
    from harness.engines.pairs import EncoderSpec, ModelSpec

ENGINES = MappingProxyType({"transformers": "harness.engines.transformers.load:load"})
"""Engine name to `module:function`; the function has `load_engine`'s parameters."""


def load_engine(spec: ModelSpec, role: Role, *, offline: bool, batch_size: int) -> Engine:
    """Load one model. `batch_size` bounds how many waiting requests it takes at a time.

    Raises UserError for an unknown engine or a model that cannot be had.
    """
    if spec.engine not in ENGINES:
        raise UserError(f"{role}.engine = {spec.engine!r}", nearest(spec.engine, ENGINES))
    module, name = ENGINES[spec.engine].split(":")
    load: Callable[..., Engine] = getattr(importlib.import_module(module), name)
    return load(spec, role, offline=offline, batch_size=batch_size)


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
