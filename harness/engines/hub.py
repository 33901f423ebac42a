"""The model hub: whether it may be asked, what the local cache holds, and its noise."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import UserError

_SWITCHES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def go_offline() -> None:
    """Forbid hub access for the rest of this process and its children."""
    for name in _SWITCHES:
        os.environ[name] = "1"
    # The hub client reads the variable once, when it is imported.
    if "huggingface_hub.constants" in sys.modules:
        sys.modules["huggingface_hub.constants"].HF_HUB_OFFLINE = True  # type: ignore[attr-defined]


def is_offline(offline: bool) -> bool:
    """Whether the hub is out of bounds: asked for, or set in the environment."""
    yes = {"1", "true", "yes", "on"}
    return offline or any(os.environ.get(name, "").lower() in yes for name in _SWITCHES)


def locate_on_hub(repo: str, revision: str, *, offline: bool) -> Path | str:
    """What to load a hub model from: its id, or offline the folder in the local hub cache.

    Raises UserError when offline and the model is not in that cache.
    """
    if not is_offline(offline):
        return repo
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, revision=revision, local_files_only=True))
    except HFValidationError as error:
        problem = "is no model id; give org/name, a folder (./name), or embedded:F"
        raise UserError(repo, problem) from error
    except LocalEntryNotFoundError as error:
        raise UserError(
            repo,
            f"revision {revision!r} is not in the local hub cache and the network is off; run once "
            f"online, or `hf download {repo} --revision {revision}`, or give a folder",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' own loading bars off the terminal, which the harness draws on."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
