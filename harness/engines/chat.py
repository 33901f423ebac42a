"""From messages to prompt ids: the one place where a chat template is applied."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import BenchError
from harness.method import Message

_ARGS = "chat_template_args"


class ChatTemplateError(BenchError):
    """The model's chat template is missing, or refuses these messages."""


class DoubleBos(BenchError):
    """The prompt would start with two beginning-of-sequence tokens."""


def bind_template_args(tokenizer: Any, args: Mapping[str, Any]) -> None:
    """Give `tokenizer` the pair's template arguments (e.g. enable_thinking = false).

    They travel with the tokenizer, so that no caller of `encode_chat` can forget them.
    """
    setattr(tokenizer, _ARGS, dict(args))


def template_args(tokenizer: Any) -> dict[str, Any]:
    """The arguments bound by `bind_template_args`; empty where none were."""
    return dict(getattr(tokenizer, _ARGS, {}))


def encode_chat(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Prompt ids of `messages`, ending where the model's next reply begins.

    Equal to `tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)`
    with the pair's template arguments. Where the template refuses a system message, the system
    text is put before the first user message, a blank line between them.

    Raises ChatTemplateError when the template is missing or refuses the messages, and DoubleBos
    when the ids begin with two beginning-of-sequence tokens. Later ones are left alone: some
    templates (Llama 2, ChatML) repeat that token at every turn on purpose.
    """
    chat = [{"role": m["role"], "content": m["content"]} for m in messages]
    try:
        ids = _apply(tokenizer, chat)
    except ChatTemplateError:
        folded = _fold_system(chat)
        if folded is None:
            raise
        ids = _apply(tokenizer, folded)
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise DoubleBos(f"the prompt begins with two {tokenizer.bos_token!r} tokens")
    return ids


def encode_bare(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Prompt ids of `messages` as plain lines "User: ..." and "Assistant: ...", without a template.

    For replicating experiments that were run so. Nothing tells a model where its turn ends, so its
    reply may run on into turns that it invents.
    """
    names = {"system": "System", "user": "User", "assistant": "Assistant"}
    lines = [f"{names[m['role']]}: {m['content']}" for m in messages]
    return [int(i) for i in tokenizer("\n".join([*lines, "Assistant:"]))["input_ids"]]


def encode_reply(tokenizer: Any, text: str, *, ended: bool) -> list[int]:
    """Ids of a reply as the model itself would have generated it.

    `ended`: whether the end-of-turn token follows.
    """
    ids = [int(i) for i in tokenizer(text, add_special_tokens=False)["input_ids"]]
    end = tokenizer.eos_token_id
    return [*ids, int(end)] if ended and end is not None else ids


def _fold_system(chat: Sequence[Mapping[str, str]]) -> list[dict[str, str]] | None:
    """`chat` with its leading system text in the first user message; None if that cannot be."""
    if len(chat) < 2 or chat[0]["role"] != "system" or chat[1]["role"] != "user":
        return None
    content = f"{chat[0]['content']}\n\n{chat[1]['content']}"
    return [{"role": "user", "content": content}, *(dict(m) for m in chat[2:])]


def prompt_hash(ids: Sequence[int]) -> str:
    """16 hex digits: the head of SHA-256 over the ids in decimal, joined by commas."""
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()[:16]


def _apply(tokenizer: Any, chat: list[dict[str, str]]) -> list[int]:
    from jinja2.exceptions import TemplateError

    if not tokenizer.chat_template:
        raise ChatTemplateError("the tokenizer has no chat template; use an instruct model")
    try:
        ids = tokenizer.apply_chat_template(
            chat,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            **template_args(tokenizer),
        )
    except TemplateError as error:
        raise ChatTemplateError(f"the chat template refuses the messages: {error}") from error
    return [int(i) for i in ids]
