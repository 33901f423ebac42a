"""What the engines of a remote server share: one request from its body to a Completion."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.engines.base import ModelFacts, Sampling, Scope
from harness.engines.chat import prompt_hash
from harness.engines.openai.adapters import AdapterShelf
from harness.engines.openai.cache import Salts
from harness.engines.openai.options import Options
from harness.engines.openai.stream import Wanted
from harness.engines.openai.transport import Transport
from harness.errors import BenchError
from harness.method import Adapter, Completion
from harness.session import Role

_PATHS = (("chat", "/chat/completions"), ("completion", "/completions"))


@dataclass(frozen=True)
class Server:
    """A server that answered when it was asked for its models.

    `model`: the name of the one that is measured. `context_tokens`: its longest prompt and reply;
    None: not known.
    """

    model: str
    options: Options
    transport: Transport
    context_tokens: int | None


class RemoteEngine:
    """The common part of both engines; implements AdapterHost, but no way to ask by itself.

    The harness decides how many requests are in flight; this engine sends each at once. What a
    failed try brought is thrown away whole: no token and no time of it is counted but in `sent_at`.
    """

    def __init__(self, server: Server, role: Role, tokenizer: Any) -> None:
        self.role: Role = role
        self.tokenizer = tokenizer
        self.facts = ModelFacts(
            model=server.model,
            device="remote",
            dtype="unknown",
            parameters=None,
            weights_bytes=None,
            kv_bytes_per_token=None,
            context_tokens=server.context_tokens,
        )
        self.options = server.options
        self._transport = server.transport
        self._salts = Salts(role, controlled=server.options.cache_salt)
        self._adapters = AdapterShelf(
            server.transport, server.model, allowed=server.options.loads_adapters
        )

    def holds(self, adapter: Adapter) -> bool:
        return self._adapters.holds(adapter)

    async def hold(self, adapter: Adapter, session: str) -> None:
        """Have the server load `adapter` from this machine's files until `session` is released.

        Raises UserError for a server that does not load this one, or any.
        """
        await self._adapters.hold(adapter, session)

    async def release(self, session: str) -> None:
        await self._adapters.release(session)

    async def reset(self) -> None:
        """Where the server takes salts, nothing cached so far is used again. Else nothing can be
        done."""
        self._salts.renew()

    async def close(self) -> None:
        try:
            await self._adapters.close()
        finally:
            await self._transport.close()

    async def _complete(
        self,
        body: Mapping[str, Any],
        wanted: Wanted,
        sampling: Sampling,
        adapter: Adapter | None,
        scope: Scope,
        text_hash: str | None = None,
    ) -> Completion:
        """Send `body` with what is common to all requests. `text_hash`: of the prompt, where its
        ids may stay unknown."""
        fixed = {
            "model": self.facts.model if adapter is None else self._adapters.name(adapter),
            **body,
            **_sampling(sampling),
            "stream": True,
            "stream_options": {"include_usage": True},
        }

        def request() -> dict[str, Any]:
            # With the cache off, not even another try may find what a failed one left there.
            return {**fixed, **self._salts.fields(scope)}

        asked_at = time.perf_counter()
        tried = await self._transport.stream(dict(_PATHS)[wanted.shape], request, wanted)
        failures = self._transport.lines(tried.failures)
        if adapter is not None:
            failures = (*self._adapters.tell_failures(adapter), *failures)
        sent_at, reply = tried.value.sent_at, tried.value.reply
        hashed = text_hash if reply.prompt_ids is None else prompt_hash(reply.prompt_ids)
        if hashed is None:
            raise BenchError("neither the prompt's ids nor its text is known")
        return Completion(
            role=self.role,
            text=self._transport.clean_reply(reply.text),
            output_ids=reply.output_ids or (),
            tokens=reply.tokens,
            stop_reason=reply.stop_reason,
            prompt_hash=hashed,
            sent_at=asked_at if tried.failures else sent_at,
            started_at=sent_at,
            first_token_at=reply.first_token_at,
            last_token_at=reply.last_token_at,
            kv_bytes_formula=None,
            kv_bytes_measured=None,
            engine=reply.engine,
            failures=failures,
        )


def _sampling(sampling: Sampling) -> dict[str, Any]:
    """Greedy requests say nothing of a seed, nor of a part of the distribution."""
    if sampling.temperature == 0:
        return {"temperature": 0}
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "seed": sampling.seed,
    }
