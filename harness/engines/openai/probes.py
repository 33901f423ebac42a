"""Small questions to a server, that show what it can and cannot do for a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from harness.engines.openai.faults import NoAnswer, ServerRefused
from harness.engines.openai.models import ServedModel
from harness.engines.openai.self_check import ClientCheck
from harness.engines.openai.stream import Streamed, Wanted
from harness.engines.openai.transport import Sent, Transport

Verdict = Literal["yes", "no", "unknown"]

REPLY_TOKENS = 24
_QUESTION = "Count from one to twenty in words, and say nothing else."
_FASTEST_S = 0.0001
"""No model makes the tokens of one reply faster: what arrives faster was held back."""


@dataclass(frozen=True)
class Finding:
    """`seen`: what the server did. `means`: what follows for a benchmark; `fatal`: there is none.

    Both may hold text of the server's, on one line and without the key.
    """

    topic: str
    verdict: Verdict
    seen: str
    means: str
    fatal: bool = False


@dataclass
class Asker:
    """Asks one model of a server. `options`: what a pair file must say of it, as it is learned.

    `greedy`: whether it takes a temperature of 0.
    """

    transport: Transport
    model: ServedModel
    options: dict[str, Any] = field(default_factory=dict)
    greedy: bool = True

    async def chat(self, text: str, tokens: int = REPLY_TOKENS, **extra: Any) -> Sent:
        """The reply to `text`. Raises ServerRefused, NoAnswer and ContextOverflow."""
        body = {
            "model": self.model.id,
            "messages": [{"role": "user", "content": text}],
            self.options.get("max_tokens_key", "max_tokens"): tokens,
            **({"temperature": 0} if self.greedy else {}),
            **extra,
        }
        return await self._post("/chat/completions", body, Wanted("chat", tokens))

    async def complete(self, prompt_ids: tuple[int, ...], tokens: int = 4) -> Sent:
        """The completion of `prompt_ids`, with its ids. Raises as `chat`."""
        body = {
            "model": self.model.id,
            "prompt": list(prompt_ids),
            "max_tokens": tokens,
            "temperature": 0,
            "return_token_ids": True,
        }
        return await self._post("/completions", body, Wanted("completion", tokens, prompt_ids))

    async def _post(self, path: str, body: dict[str, Any], wanted: Wanted) -> Sent:
        whole = {**body, "stream": True, "stream_options": {"include_usage": True}}
        return (await self.transport.stream(path, lambda: whole, wanted)).value


def models(served: tuple[ServedModel, ...], chosen: ServedModel) -> Finding:
    bases = [model for model in served if not model.adapter]
    seen = f"{len(bases)} served, {len(served) - len(bases)} adapters; asked: {chosen.id}"
    return Finding("models", "yes", seen, "the address, the key and the model's name are right")


async def streaming(asker: Asker) -> tuple[Streamed | None, list[Finding]]:
    """Whether a reply comes piece by piece, with counts; the reply, where it can be used."""
    try:
        sent = await _first_reply(asker)
    except ServerRefused as error:
        return None, [_no_stream(str(error))]
    except NoAnswer as error:
        failure = error.failures[-1]
        if not failure.startswith("usage"):
            return None, [_no_stream(failure)]
        means = "tokens are never counted here: no time per token and no cost can be known"
        return None, [
            Finding("streaming", "yes", "a reply arrives as a stream", "latency can be measured"),
            Finding("usage", "no", failure, means, fatal=True),
        ]
    reply = sent.reply
    findings = [_piecewise(sent), _counted(reply)]
    if not asker.greedy:
        means = "set generation.temperature = 1; replies are drawn, and no run repeats another"
        findings.append(Finding("greedy replies", "no", "temperature 0 is refused", means))
    if asker.options.get("max_tokens_key"):
        means = "the pair file says so: max_tokens_key"
        findings.append(Finding("max_tokens", "no", "max_completion_tokens is wanted", means))
    return (None if findings[0].fatal else reply), findings


async def _first_reply(asker: Asker) -> Sent:
    """The first reply, asked for in the words that this server takes."""
    for _ in range(2):
        try:
            return await asker.chat(_QUESTION)
        except ServerRefused as error:
            if "max_completion_tokens" in str(error):
                asker.options["max_tokens_key"] = "max_completion_tokens"
            elif "temperature" in str(error):
                asker.greedy = False
            else:
                raise
    return await asker.chat(_QUESTION)


def _no_stream(problem: str) -> Finding:
    means = "without a streamed reply neither TTFT nor TPOT can be measured"
    return Finding("streaming", "no", problem, means, fatal=True)


def _piecewise(sent: Sent) -> Finding:
    reply = sent.reply
    ttft = reply.first_token_at - sent.sent_at
    spread = reply.last_token_at - reply.first_token_at
    shown = reply.tokens.output - reply.tokens.reasoning
    seen = (
        f"{shown} tokens in {reply.content_chunks} chunks, the first after {ttft:.3f} s, "
        f"the last {spread:.3f} s later"
    )
    if shown < 4:
        means = f"too short a reply to tell: {reply.stop_reason}"
        return Finding("streaming", "unknown", seen, means)
    if spread <= _FASTEST_S * (reply.content_chunks - 1):
        means = "the reply is held back and sent in one piece: TTFT and TPOT would be invented"
        return Finding("streaming", "no", seen, means, fatal=True)
    return Finding("streaming", "yes", seen, "TTFT, TPOT and E2E can be measured")


def _counted(reply: Streamed) -> Finding:
    tokens = reply.tokens
    seen = f"{tokens.prompt} prompt and {tokens.output} output tokens, told by the server"
    return Finding("usage", "yes", seen, "tokens, time per token and cost are the server's counts")


def reasoning(reply: Streamed) -> Finding:
    if not reply.reasoned:
        means = "every output token is one that the user sees"
        return Finding("reasoning", "no", "none in the reply", means)
    seen = f"{reply.tokens.reasoning} of {reply.tokens.output} tokens were reasoning"
    means = (
        "reasoning is waited for and paid for, but is no content: TTFT is of the first visible "
        "token; leave room for it in max_new_tokens, or turn it off by chat_template_args"
    )
    return Finding("reasoning", "yes", seen, means)


def context(asker: Asker) -> Finding:
    length = asker.model.context_tokens
    if length is not None:
        seen = f"{length} tokens for prompt and reply"
        return Finding("context", "yes", seen, "prompts that do not fit are told as such")
    means = "set options.context_tokens: else only the server's refusal shows what does not fit"
    return Finding("context", "unknown", "the list of models tells no max_model_len", means)


def client(check: ClientCheck) -> Finding:
    """Whether this machine can measure any server."""
    lag = "" if check.lag_p95_s is None else f"; lag p95 {check.lag_p95_s * 1e3:.1f} ms"
    if check.passed:
        return Finding("client", "yes", check.sentence() + lag, "this machine can measure it")
    means = "this machine is too busy, or too slow, to measure a server's latency"
    return Finding("client", "no", check.sentence() + lag, means, fatal=True)
