"""The token counts that a server reports, and whether they can be true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.engines.openai.faults import TryFailed
from harness.method import Tokens


@dataclass(frozen=True)
class Seen:
    """What a stream showed, against which its counts are held.

    `prompt_ids`: those sent, or told by the server; None: not known. `output_ids`: those that the
    server told; None: it told none. `wrote`, `visible`, `reasoned`: the reply has text, text that
    shows anything, and text of reasoning. `reasoning_ids`: how many ids came with the latter.
    """

    max_tokens: int
    prompt_ids: Sequence[int] | None
    output_ids: Sequence[int] | None
    wrote: bool
    visible: bool
    reasoned: bool
    reasoning_ids: int = 0


def read_usage(usage: Any, seen: Seen) -> Tokens:
    """The counts of a finished stream. Raises TryFailed of kind "usage" for impossible ones.

    Nothing is counted here: a reply whose counts are missing is no measurement. `cached` and
    `reasoning` are 0 where the server does not tell them, but a server that shows reasoning must
    count it, or tell its ids, because the time per token is over the tokens that the user sees.
    """
    if usage is None:
        raise TryFailed("usage", "the stream ended without usage")
    if not isinstance(usage, dict):
        raise TryFailed("usage", f"usage is {_short(usage)}, no object")
    prompt = _count(usage, "prompt_tokens")
    output = _count(usage, "completion_tokens")
    cached = _detail(usage, "prompt_tokens_details", "cached_tokens")
    reasoning = _detail(usage, "completion_tokens_details", "reasoning_tokens")
    if seen.reasoned and not reasoning:
        reasoning = seen.reasoning_ids
    _hold_against(seen, prompt, cached or 0, output, reasoning or 0)
    return Tokens(prompt, cached or 0, output, reasoning or 0)


def _hold_against(seen: Seen, prompt: int, cached: int, output: int, reasoning: int) -> None:
    shown = output - reasoning
    wrong = {
        "a prompt of no tokens": prompt < 1,
        f"{cached} cached tokens of a prompt of {prompt}": cached > prompt,
        f"{output} tokens where at most {seen.max_tokens} were asked for": output > seen.max_tokens,
        "no tokens, and text": seen.wrote and output < 1,
        f"{reasoning} tokens of reasoning in {output}": reasoning > output,
        f"{shown} tokens beside reasoning, and text to be seen": seen.visible and shown < 1,
        "reasoning was streamed, and its tokens are not counted": seen.reasoned and not reasoning,
    }
    if seen.prompt_ids is not None:
        n = len(seen.prompt_ids)
        wrong[f"{prompt} prompt tokens where the prompt has {n} ids"] = prompt != n
    if seen.output_ids is not None:
        n = len(seen.output_ids)
        wrong[f"{output} tokens where {n} ids were returned"] = output != n
    for problem, holds in wrong.items():
        if holds:
            raise TryFailed("usage", f"usage tells of {problem}")


def _count(usage: dict[str, Any], key: str) -> int:
    value = usage.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TryFailed("usage", f"{key} is {_short(value)}, no count")
    return value


def _detail(usage: dict[str, Any], group: str, key: str) -> int | None:
    details = usage.get(group)
    if details is None:
        return None
    if not isinstance(details, dict):
        raise TryFailed("usage", f"{group} is {_short(details)}, no object")
    return None if details.get(key) is None else _count(details, key)


def _short(value: Any) -> str:
    return repr(value)[:60]
