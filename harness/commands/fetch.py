"""`fetch`: a pair's models or a dataset's files made ready on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness import registry
from harness.commands.tasks_open import task_class
from harness.dataset import Dataset
from harness.engines.embedded.fetch import SCHEME, fetch_one
from harness.engines.load import SERVERS, resolve_model
from harness.engines.pairs import ModelSpec, load_pair, pair_names, trainer_of, training_copy
from harness.errors import UserError, nearest
from harness.session import Role


def fetch_by_name(name: str, *, as_json: bool) -> str:
    """Get ready what `name` names: a pair, by name or file, or a task that reads published files.

    Returns what is ready and where, as text or JSON. Raises UserError for an unknown name, and for
    what cannot be had.
    """
    tasks = [entry.name for entry in registry.tasks().entries()]
    is_file = "/" in name or name.endswith(".toml")
    if ".py:" in name or (name in tasks and name not in pair_names()):
        return fetch_dataset(name, as_json=as_json)
    if is_file or name in pair_names():
        return fetch_pair(name, as_json=as_json)
    known = nearest(name, {*pair_names(), *tasks})
    raise UserError("fetch", f"no pair and no task is named {name!r}; {known}")


def fetch_pair(name: str, *, as_json: bool) -> str:
    """Build or download the models of a pair; returns their folders as text or JSON.

    Raises UserError for an unknown pair or a model that cannot be had.
    """
    pair = load_pair(name)
    models = {**_parts("F", pair.F), **_parts("G", pair.G)}
    models["encoder"] = (pair.encoder.id, pair.encoder.revision)
    folders = {name: str(_ready(*model)) for name, model in models.items()}
    if as_json:
        return json.dumps(folders)
    width = max(map(len, folders)) + 2
    return "\n".join(f"{name:<{width}}{folder}" for name, folder in folders.items())


def _parts(role: Role, spec: ModelSpec) -> dict[str, tuple[str, str]]:
    """What this machine needs of a model, by the name records give it: id and revision.

    Of a model behind a server that is only its tokenizer, and the copy that is adapted here.
    """
    parts: dict[str, tuple[str, str]] = {}
    if spec.engine not in SERVERS:
        parts[role] = (spec.id, spec.revision)
    elif spec.tokenizer is not None:
        parts[f"{role}-tokenizer"] = (spec.tokenizer, spec.revision)
    training = training_copy(spec)
    if training is not None and (training.id, training.revision) not in parts.values():
        parts[trainer_of(role)] = (training.id, training.revision)
    return parts


def fetch_dataset(name: str, *, as_json: bool) -> str:
    """Download the files of a task; returns their places and checksums as text or JSON.

    Raises UserError for a task that reads nothing published by file, and for a file that cannot be
    had or is not what it was.
    """
    from harness.data.fetch import fetch

    cls = task_class(name)
    if not issubclass(cls, Dataset):
        raise UserError(name, "has nothing to fetch: its sessions come with it or from your file")
    files = fetch(cls.cache_name(), cls.remote, progress=sys.stderr.isatty())
    if as_json:
        rows = [{"path": str(f.path), "sha256": f.sha256, "pinned": f.pinned} for f in files]
        return json.dumps({"files": rows}, ensure_ascii=False)
    notes = {True: "checksum pinned", False: "checksum taken at the first download"}
    return "\n".join(f"{f.path}\n  sha256 {f.sha256}, {notes[f.pinned]}" for f in files)


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
