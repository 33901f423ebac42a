"""The user's cache folder: built models, fetched data, scores."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "SOMA_BENCH_CACHE"


def cache_root() -> Path:
    """The user's cache folder for this project; the variable SOMA_BENCH_CACHE overrides it."""
    override = os.environ.get(VARIABLE)
    if override:
        return Path(override).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_dir("soma-bench"))
