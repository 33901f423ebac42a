"""From the events of one stream to the reply they make, with the times that matter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.engines.openai.faults import TryFailed, error_in, from_error_object
from harness.engines.openai.usage import Seen, read_usage
from harness.method import EngineTiming, StopReason, Tokens

Shape = Literal["chat", "completion"]
"""Whose events: those of chat completions, or those of completions."""

_DONE = b"[DONE]"
_STOPS: tuple[tuple[str, StopReason], ...] = (("stop", "end_of_turn"), ("length", "length"))
_SPARE_EVENTS = 1000


@dataclass(frozen=True)
class Wanted:
    """What was asked for. `prompt_ids`: those sent; None where messages were."""

    shape: Shape
    max_tokens: int
    prompt_ids: Sequence[int] | None = None


@dataclass(frozen=True)
class Streamed:
    """A whole reply. Times are `time.perf_counter()` seconds of when an event arrived.

    `first_token_at`: of the first text that the user sees; of the last token where there is none.
    `last_token_at`: of the last event with text or with the reason of the end. `prompt_ids`,
    `output_ids`: None where the server tells none. `content_chunks`: events with text to be seen.
    `cached_told`: whether the server told how many tokens came from its cache.
    """

    text: str
    prompt_ids: tuple[int, ...] | None
    output_ids: tuple[int, ...] | None
    tokens: Tokens
    stop_reason: StopReason
    first_token_at: float
    last_token_at: float
    engine: EngineTiming | None
    chunks: int
    content_chunks: int
    reasoned: bool
    cached_told: bool


class ReplyBuilder:
    """Takes the events of one stream in order; an event may hold no token, or several.

    `take` and `finish` raise TryFailed for what is wrong with the stream, and Refused for an error
    in it that another try would only repeat.
    """

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._most_events = 16 * wanted.max_tokens + _SPARE_EVENTS
        self._texts: list[str] = []
        self._output_ids: list[int] | None = None
        self._prompt_ids: list[int] | None = None
        self._usage: Any = None
        self._metrics: Any = None
        self._finish: str | None = None
        self._first_at: float | None = None
        self._last_at = 0.0
        self._reasoned = False
        self._reasoning_ids = 0
        self._content_chunks = 0
        self.chunks = 0
        self.done = False

    def take(self, data: bytes, now: float) -> None:
        """One event's data, which arrived at `now`. What follows the last event is ignored."""
        if self.done:
            return
        if data == _DONE:
            self.done = True
            return
        self.chunks += 1
        if self.chunks > self._most_events:
            raise TryFailed("malformed", f"more than {self._most_events} events")
        event = _event(data)
        if event.get("usage") is not None:
            self._usage = event["usage"]
        if event.get("metrics") is not None:
            self._metrics = event["metrics"]
        choice = _choice(event)
        if choice is None:
            return
        ids = self._ids(event, choice)
        if self._wanted.shape == "chat":
            delta = choice.get("delta") or {}
            if not isinstance(delta, dict):
                raise TryFailed("malformed", "a delta that is no object")
            text = delta.get("content")
            thought = delta.get("reasoning_content") or delta.get("reasoning")
        else:
            text, thought = choice.get("text"), None
        if thought:
            self._reasoned = True
            self._reasoning_ids += len(ids)
            self._last_at = now
        if text:
            self._text(text, now)
        elif ids:
            self._last_at = now
        finish = choice.get("finish_reason")
        if finish is not None:
            self._finish = str(finish)
            self._last_at = now

    def finish(self) -> Streamed:
        """The reply, when the stream has ended."""
        if self._finish is None:
            raise TryFailed("unfinished", "the stream ended without finish_reason")
        if not self.done:
            raise TryFailed("unfinished", "the stream ended without [DONE]")
        stop = dict(_STOPS).get(self._finish)
        if stop is None:
            raise TryFailed("unfinished", f"finish_reason is {self._finish!r}")
        told = self._prompt_ids
        sent = self._wanted.prompt_ids
        if sent is not None and told is not None and list(sent) != told:
            raise TryFailed("usage", "the server returns other prompt ids than were sent")
        prompt_ids = told if sent is None else sent
        text = "".join(self._texts)
        seen = Seen(
            max_tokens=self._wanted.max_tokens,
            prompt_ids=prompt_ids,
            output_ids=self._output_ids,
            wrote=bool(text),
            visible=self._first_at is not None,
            reasoned=self._reasoned,
            reasoning_ids=self._reasoning_ids,
        )
        tokens = read_usage(self._usage, seen)
        return Streamed(
            text=_unicode(text),
            prompt_ids=None if prompt_ids is None else tuple(prompt_ids),
            output_ids=None if self._output_ids is None else tuple(self._output_ids),
            tokens=tokens,
            stop_reason=stop,
            first_token_at=self._last_at if self._first_at is None else self._first_at,
            last_token_at=self._last_at,
            engine=_timing(self._metrics),
            chunks=self.chunks,
            content_chunks=self._content_chunks,
            reasoned=self._reasoned,
            cached_told=isinstance(self._usage.get("prompt_tokens_details"), dict),
        )

    def _text(self, text: Any, now: float) -> None:
        if not isinstance(text, str):
            raise TryFailed("malformed", "text that is no string")
        if self._finish is not None:
            raise TryFailed("malformed", "text after the end of the reply")
        self._texts.append(text)
        self._content_chunks += 1
        self._last_at = now
        # White space and half a character show nothing yet.
        if self._first_at is None and text.replace("\N{REPLACEMENT CHARACTER}", "").strip():
            self._first_at = now

    def _ids(self, event: dict[str, Any], choice: dict[str, Any]) -> list[int]:
        """The output ids that come with an event; they are kept, and so are the prompt's."""
        prompt = event.get("prompt_token_ids") or choice.get("prompt_token_ids")
        if prompt:
            self._prompt_ids = _id_list(prompt)
        ids = choice.get("token_ids")
        if ids is None:
            return []
        if self._output_ids is None:
            self._output_ids = []
        found = _id_list(ids)
        self._output_ids += found
        return found


def _event(data: bytes) -> dict[str, Any]:
    """An event's JSON object. Raises TryFailed, or Refused, also for the error it may hold."""
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        text = data[:80].decode("utf-8", "replace")
        raise TryFailed("malformed", f"an event that is no JSON: {text}") from None
    if not isinstance(event, dict):
        raise TryFailed("malformed", "an event that is no JSON object")
    if "choices" not in event:
        error = error_in(event)
        if error is not None:
            raise from_error_object(error)
        if event.get("usage") is None:
            raise TryFailed("malformed", "an event without choices")
    elif event.get("error"):
        error = error_in(event)
        assert error is not None
        raise from_error_object(error)
    return event


def _choice(event: dict[str, Any]) -> dict[str, Any] | None:
    """The one choice of an event; None where it has none, as the event with the usage."""
    choices = event.get("choices")
    if choices is None or choices == []:
        if event.get("usage") is None and choices is None:
            raise TryFailed("malformed", "an event whose choices are null")
        return None
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        raise TryFailed("malformed", "an event with other than one choice")
    return choices[0]


def _id_list(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(i) is int for i in value):
        raise TryFailed("malformed", "token ids that are no list of integers")
    return value


def _unicode(text: str) -> str:
    """`text`, whose halves of characters outside the basic plane may have come in two events."""
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            raise TryFailed("malformed", "text with half a character") from None
    return text


def _timing(metrics: Any) -> EngineTiming | None:
    """vLLM's own times of a request, which a server can be told to send; None: not sent."""
    if not isinstance(metrics, dict):
        return None
    names = ("queue_time_ms", "time_to_first_token_ms", "generation_time_ms")
    values = [metrics.get(name) for name in names]
    if not all(isinstance(v, int | float) and v >= 0 for v in values):
        return None
    queue, prefill, rest = (float(v) / 1000 for v in values if v is not None)
    return EngineTiming(queue, queue + prefill, queue + prefill + rest)
