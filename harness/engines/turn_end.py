"""Where a reply begins to show, and where it ends: the same for every engine that sees tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def turn_end_ids(config: Any, generation_config: Any, tokenizer: Any) -> frozenset[int]:
    """Ids that end a reply: every end-of-sequence id declared, and every other special token.

    `generation_config`: the model's, None where it has none.
    """
    declared = (
        getattr(generation_config, "eos_token_id", None),
        config.get_text_config().eos_token_id,
        tokenizer.eos_token_id,
    )
    ids: set[int] = set(tokenizer.all_special_ids)
    for value in declared:
        if value is not None:
            ids.update(value if isinstance(value, Sequence) else [value])
    ids.update(i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return frozenset(ids)


def has_content(tokenizer: Any, output: Sequence[int]) -> bool:
    """Whether the reply so far shows anything; half a character does not."""
    text = tokenizer.decode(output, skip_special_tokens=True)
    return bool(text.replace("\N{REPLACEMENT CHARACTER}", "").strip())


def reply_text(tokenizer: Any, shown: Sequence[int]) -> str:
    """The text of a reply's ids, those that the user sees."""
    text: str = tokenizer.decode(
        shown, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return text
