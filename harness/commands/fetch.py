"""`fetch`: a pair's models made ready on this machine."""

from __future__ import annotations

import json
from pathlib import Path

from harness.engines.embedded.fetch import SCHEME, fetch_one
from harness.engines.load import resolve_model
from harness.engines.pairs import load_pair
from harness.errors import UserError


def fetch_pair(name: str, *, as_json: bool) -> str:
    """Build or download the models of a pair; returns their folders as text or JSON.

    Raises UserError for an unknown pair or a model that cannot be had.
    """
    pair = load_pair(name)
    folders = {}
    for role, spec in (("F", pair.F), ("G", pair.G), ("encoder", pair.encoder)):
        folders[role] = str(_ready(spec.id, spec.revision))
    if as_json:
        return json.dumps(folders)
    return "\n".join(f"{role:<8}{folder}" for role, folder in folders.items())


def _ready(model_id: str, revision: str) -> Path | str:
    """The model's folder: embedded models have every checksum verified, others are downloaded."""
    if model_id.startswith(SCHEME):
        return fetch_one(model_id.removeprefix(SCHEME), verify=True)
    source = resolve_model(model_id, offline=False, revision=revision)
    return source if isinstance(source, Path) else _download(source, revision)


def _download(repo: str, revision: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return snapshot_download(
            repo,
            revision=revision,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
        )
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(repo, f"cannot be downloaded: {reason}") from None
