"""The engine that sends prompt ids, as the in-process engines get them."""

from __future__ import annotations

from typing import Any

from harness.engines.base import NOBODY, Sampling, Scope
from harness.engines.openai.remote import RemoteEngine, Server
from harness.engines.openai.stream import Wanted
from harness.errors import ContextOverflow
from harness.method import Adapter, Completion
from harness.session import Role


class IdsEngine(RemoteEngine):
    """Implements `harness.engines.base.Engine` and `AdapterHost` by completions of prompt ids.

    As in this process, any special token ends the turn: a reply can show no turn that the model
    invented.
    """

    def __init__(self, server: Server, role: Role, tokenizer: Any) -> None:
        super().__init__(server, role, tokenizer)
        self._stop_ids = special_ids(tokenizer)

    async def generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        """The reply to a prompt of `prompt_ids`.

        Raises ContextOverflow, before anything is sent where the context is known; ValueError for
        an empty prompt; and what `ChatEngine.chat` raises.
        """
        if not prompt_ids:
            raise ValueError("the prompt is empty")
        limit = self.facts.context_tokens
        if limit is not None and len(prompt_ids) + sampling.max_new_tokens > limit:
            raise ContextOverflow(
                f"{self.facts.model}: {len(prompt_ids)} prompt tokens and "
                f"{sampling.max_new_tokens} new ones do not fit its context of {limit}"
            )
        body = {
            "prompt": list(prompt_ids),
            "max_tokens": sampling.max_new_tokens,
            "stop_token_ids": self._stop_ids,
            "return_token_ids": True,
        }
        wanted = Wanted("completion", sampling.max_new_tokens, tuple(prompt_ids))
        return await self._complete(body, wanted, sampling, adapter, scope)


def special_ids(tokenizer: Any) -> list[int]:
    """Every special token of a tokenizer, sorted."""
    added = tokenizer.added_tokens_decoder.items()
    ids = {*tokenizer.all_special_ids, *(i for i, token in added if token.special)}
    return sorted(int(i) for i in ids)
