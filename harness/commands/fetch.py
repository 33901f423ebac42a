"""`fetch`: a pair's models made ready on this machine."""

from __future__ import annotations

import json
from pathlib import Path

from harness.engines.load import resolve_model
from harness.engines.pairs import load_pair


def fetch_pair(name: str, *, as_json: bool) -> str:
    """Build or download the models of a pair; returns their folders as text or JSON.

    Raises UserError for an unknown pair or a model that cannot be had.
    """
    pair = load_pair(name)
    folders = {}
    for role, spec in (("F", pair.F), ("G", pair.G), ("encoder", pair.encoder)):
        source = resolve_model(spec.id, offline=False, revision=spec.revision)
        folders[role] = str(
            source if isinstance(source, Path) else _download(source, spec.revision)
        )
    if as_json:
        return json.dumps(folders)
    return "\n".join(f"{role:<8}{folder}" for role, folder in folders.items())


def _download(repo: str, revision: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    from harness.errors import UserError

    try:
        return snapshot_download(
            repo,
            revision=revision,
            allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"],
        )
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(repo, f"cannot be downloaded: {reason}") from None
