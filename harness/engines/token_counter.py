"""Counting tokens with a model's own tokenizer, without loading the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.engines.load import SERVERS, resolve_model
from harness.engines.pairs import ModelSpec
from harness.errors import UserError

_TOKENIZER = "tokenizer.json"


def load_counter(spec: ModelSpec) -> Callable[[Sequence[str]], list[int]]:
    """A function from texts to their token counts: no chat template, no special tokens.

    Asks no network: embedded models are built on first use, others must have been fetched. Raises
    UserError when the tokenizer cannot be had.
    """
    if spec.engine in SERVERS and spec.tokenizer is None:
        raise UserError(
            spec.id, "is behind a server and its tokenizer is not known; add tokenizer = '...'"
        )
    source = spec.tokenizer or spec.id
    folder = Path(resolve_model(source, offline=True, revision=spec.revision))
    # The file alone loads in a blink; the library that reads every kind takes seconds to import.
    return _fast(folder) if (folder / _TOKENIZER).is_file() else _any(folder, spec)


def _fast(folder: Path) -> Callable[[Sequence[str]], list[int]]:
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    except Exception as error:  # the library raises plain Exception for a file it cannot read
        raise UserError(folder / _TOKENIZER, f"is no tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        found = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in found]

    return count


def _any(folder: Path, spec: ModelSpec) -> Callable[[Sequence[str]], list[int]]:
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise UserError(spec.id, f"its tokenizer cannot be loaded: {reason}") from None

    def count(texts: Sequence[str]) -> list[int]:
        found = tokenizer(list(texts), add_special_tokens=False, truncation=False, verbose=False)
        return [len(ids) for ids in found["input_ids"]]

    return count
