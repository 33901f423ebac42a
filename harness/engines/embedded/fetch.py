"""The embedded models by name: built on first use, found again afterwards."""

from __future__ import annotations

from pathlib import Path

from harness.engines.embedded.build import (
    ADAPTER,
    ADAPTER_CONFIG,
    CARD,
    build_original,
    build_surrogate,
)
from harness.engines.embedded.cache import Artifact, ensure, place
from harness.engines.embedded.locate import encoder_folder, original_gguf
from harness.errors import UserError, nearest
from harness.user_cache import cache_root

SCHEME = "embedded:"
NAMES = ("F", "G", "encoder")
SURROGATE = Path(__file__).parent / "surrogate"


def fetch_embedded(
    *, root: Path | None = None, surrogate: Path = SURROGATE, verify: bool = False
) -> dict[str, Path]:
    """Folders of "F", "G" and "encoder", built where missing.

    `root` defaults to the user's cache. `surrogate` holds the healing adapter and its card.
    `verify` checks every checksum first and builds again what is damaged. Raises UserError.
    """
    return {n: fetch_one(n, root=root, surrogate=surrogate, verify=verify) for n in NAMES}


def fetch_one(
    name: str, *, root: Path | None = None, surrogate: Path = SURROGATE, verify: bool = False
) -> Path:
    """One of them; G builds F first only when G itself is missing. Raises UserError."""
    if name == "encoder":
        return encoder_folder()
    root = (root or cache_root()) / "embedded"
    if name == "F":
        return ensure(_original(), root, verify=verify)
    if name == "G":
        return ensure(_surrogate(root, surrogate), root, verify=verify)
    raise UserError(SCHEME + name, f"no such embedded model; {nearest(name, NAMES)}")


def _original() -> Artifact:
    gguf = original_gguf()
    return Artifact(
        name="F", recipe=1, inputs={"gguf": gguf}, build=lambda out: build_original(gguf, out)
    )


def _surrogate(root: Path, surrogate: Path) -> Artifact:
    inputs = {name: surrogate / name for name in (ADAPTER, ADAPTER_CONFIG, CARD)}
    missing = [path for path in inputs.values() if not path.is_file()]
    if missing:
        raise UserError(missing[0], "the healing adapter is missing; reinstall the project")
    original = _original()
    return Artifact(
        name="G",
        recipe=1,
        inputs={**original.inputs, **inputs},
        build=lambda out: build_surrogate(place(original, root), surrogate, out),
        needs=original,
    )
