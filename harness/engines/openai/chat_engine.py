"""The engine that sends messages: the server turns them into tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from harness.engines.base import NOBODY, Sampling, Scope
from harness.engines.openai.remote import RemoteEngine, Server
from harness.engines.openai.stream import Wanted
from harness.errors import UserError
from harness.method import Adapter, Completion, Message
from harness.session import Role


class ChatEngine(RemoteEngine):
    """Implements `harness.engines.base.TextEngine` and `AdapterHost` by chat completions."""

    def __init__(
        self, server: Server, role: Role, tokenizer: Any, template_args: Mapping[str, Any]
    ) -> None:
        super().__init__(server, role, tokenizer)
        self._template_args = dict(template_args)

    async def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        """The reply to `messages`, under the server's chat template.

        Raises ContextOverflow; ServerRefused and NoAnswer where no try brings a reply; UserError
        for a scope whose prefix cache must stay off where the server cannot be told so.
        """
        plain = [{"role": m["role"], "content": m["content"]} for m in messages]
        body: dict[str, Any] = {
            "messages": plain,
            self.options.max_tokens_key: sampling.max_new_tokens,
        }
        if self._template_args:
            body["chat_template_kwargs"] = self._template_args
        if self.options.token_ids:
            body["return_token_ids"] = True
        wanted = Wanted("chat", sampling.max_new_tokens)
        return await self._complete(body, wanted, sampling, adapter, scope, _text_hash(plain))

    async def generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        """Not possible: raises UserError."""
        raise UserError(
            f"model {self.facts.model}",
            f"a prompt in token ids is sent to a server that is sent messages; set "
            f'{self.role}.options.send = "ids" and {self.role}.tokenizer if it takes ids, as '
            "vLLM does",
        )


def _text_hash(messages: Sequence[Mapping[str, str]]) -> str:
    """ "text-" and 16 hex digits: the head of SHA-256 over the messages as canonical JSON."""
    text = json.dumps(messages, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return f"text-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
