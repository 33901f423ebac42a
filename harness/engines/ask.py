"""Asking an engine in messages, whether it takes tokens or text."""

from __future__ import annotations

from collections.abc import Sequence

from harness.engines.base import NOBODY, Engine, Sampling, Scope, TextEngine
from harness.engines.chat import encode_bare, encode_chat
from harness.errors import UserError
from harness.method import Adapter, Completion, Message, PromptStyle


async def ask(
    engine: Engine,
    messages: Sequence[Message],
    sampling: Sampling,
    adapter: Adapter | None = None,
    scope: Scope = NOBODY,
    style: PromptStyle = "chat",
) -> Completion:
    """The engine's answer to `messages`. Raises what `encode` and the engine raise."""
    if isinstance(engine, TextEngine) and style == "chat":
        return await engine.chat(messages, sampling, adapter, scope)
    return await engine.generate(encode(engine, messages, style), sampling, adapter, scope)


def encode(engine: Engine, messages: Sequence[Message], style: PromptStyle = "chat") -> list[int]:
    """The prompt ids of `messages`. Raises UserError for an engine whose tokenizer is not known."""
    if engine.tokenizer is None:
        raise UserError(
            f"model {engine.facts.model}",
            "its tokens must be counted here, and its tokenizer is not known; "
            "name one in the pair file: tokenizer = '...'",
        )
    apply = encode_bare if style == "bare" else encode_chat
    return apply(engine.tokenizer, messages)
