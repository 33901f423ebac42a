"""The interface every way of serving a session implements, and what it is given to do it with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Hashable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, Protocol, TypedDict, TypeVar

from pydantic import BaseModel, ConfigDict

from harness.session import Role, Session

T = TypeVar("T")
P = TypeVar("P")

EventKind = Literal[
    "mined",
    "adapted",
    "gate",
    "switched",
    "drift_check",
    "rolled_back",
    "summarized",
    "truncated",
    "compressed",
    "routed",
]
StopReason = Literal["end_of_turn", "length"]


PromptStyle = Literal["chat", "bare"]
"""How messages become a prompt: by the model's chat template, or as plain "User: ..." lines."""


class Message(TypedDict):
    """One chat message; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


@dataclass(frozen=True)
class Tokens:
    """Counts from the engine: prompt ids sent, those served from a cache, ids generated.

    `reasoning`: those of `output` that the user does not see.
    """

    prompt: int
    cached: int
    output: int
    reasoning: int = 0


@dataclass(frozen=True)
class EngineTiming:
    """What an engine measured of a request itself, in seconds since the request reached it.

    Beside the harness's own times, never in their place. `queue_s`: until its work began.
    """

    queue_s: float
    ttft_s: float
    e2e_s: float


@dataclass(frozen=True)
class Completion:
    """One answer of one model. Times are `time.perf_counter()` seconds on the harness's clock.

    `sent_at`: when the first try was sent. `first_token_at` is the first token with content.
    `kv_bytes_formula` and `kv_bytes_measured` are the peak key-value memory of this request,
    `kv_bytes_kept` what stays of the session's for its next request. `output_ids` include the
    stopping token, which `text` does not show; a remote engine may know none. `failures`: one
    line for each try of a remote engine before the one that succeeded. `prompt_hash` is over the
    prompt's ids, or, beginning with "text-", over messages that only the server turned into ids.
    """

    role: Role
    text: str
    output_ids: tuple[int, ...]
    tokens: Tokens
    stop_reason: StopReason
    prompt_hash: str
    sent_at: float
    started_at: float
    first_token_at: float
    last_token_at: float
    kv_bytes_formula: int | None
    kv_bytes_measured: int | None
    kv_bytes_kept: int | None = None
    engine: EngineTiming | None = None
    failures: tuple[str, ...] = ()

    @property
    def attempts(self) -> int:
        return len(self.failures) + 1


@dataclass(frozen=True)
class Reply:
    """A Method's answer to one user turn: the completion that the user sees."""

    completion: Completion

    @property
    def text(self) -> str:
        return self.completion.text

    @property
    def served_by(self) -> Role:
        return self.completion.role


class Adapter(Protocol):
    """A LoRA adapter that a session trained; immutable. An engine adds it to its weights."""

    @property
    def nbytes(self) -> int:
        """Size of its numbers in memory."""
        ...

    def save(self, folder: Path) -> None:
        """Write it as PEFT does: `adapter_model.safetensors` and `adapter_config.json`."""
        ...


@dataclass(frozen=True)
class Worked(Generic[T]):
    """What work on a model's weights came to for one session, and the tokens it took.

    `forward`: tokens that were only read; `trained`: tokens sent forward and backward. Padding is
    not counted.
    """

    value: T
    forward: int = 0
    trained: int = 0


Work = Callable[[Any, Any, Sequence[P]], Generator[None, None, list[Worked[T]]]]
"""Work on a loaded model: a generator function of (model, tokenizer, one payload per session).

It yields between steps, so that requests can be served in between, and must leave the model as it
found it at every yield. It returns one result per payload; none may depend on another payload.
"""


class Model(Protocol):
    """F or G as a Method sees it in one session. Every call is timed and charged."""

    @property
    def role(self) -> Role: ...

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        max_new_tokens: int | None = None,
        purpose: str = "reply",
        adapter: Adapter | None = None,
        style: PromptStyle = "chat",
    ) -> Completion:
        """Answer `messages` under the run's sampling settings (greedy by default).

        `max_new_tokens` defaults to the run's. `purpose` labels the call in the record ("reply",
        "summary", "probe", ...). `adapter` is added to the weights for this call alone. Raises
        ContextOverflow, OutOfMemory.
        """
        ...

    async def work(self, run: Work[P, T], payload: P, *, key: Hashable, purpose: str) -> T:
        """Run `run` on the model's weights, with other sessions' payloads of the same `key`.

        At most the run's `adapt_concurrency` payloads share one call. Raises UserError for an
        engine that holds no weights of its own.
        """
        ...

    def encode(self, messages: Sequence[Message], style: PromptStyle = "chat") -> list[int]:
        """The prompt ids that `generate` would send."""
        ...

    def encode_reply(self, text: str, *, ended: bool) -> list[int]:
        """The ids of a reply in this model's tokens, with its end-of-turn token if `ended`."""
        ...

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Length in tokens of the prompt that `generate` would send."""
        ...


class Encoder(Protocol):
    """The pair's sentence encoder."""

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Unit-length embeddings, one per text. Timed and charged to the session."""
        ...


class Engines(Protocol):
    """What a Method may use in one session. The harness owns the clock and the meters behind it."""

    @property
    def F(self) -> Model: ...  # noqa: N802 - the paper's name

    @property
    def G(self) -> Model: ...  # noqa: N802

    @property
    def encoder(self) -> Encoder: ...

    @property
    def seed(self) -> int:
        """From the run's seed and the session: the only source of randomness a Method uses."""
        ...

    @property
    def warm_turns(self) -> int:
        """W of the session's task: how many first turns a warm-starting method needs there."""
        ...

    def folder(self, name: str, *, keep: bool = False) -> Path:
        """A new folder of this session's own. Removed when the session ends, unless `keep`."""
        ...

    def span(self, name: str) -> AbstractContextManager[None]:
        """Time a named part of the turn's work; spans may nest and may hold engine calls."""
        ...

    def event(self, kind: EventKind, **data: Any) -> None:
        """Note something the Method did in the current turn, with the numbers it was decided on."""
        ...


class Conversation(Protocol):
    """A Method's state for one session."""

    async def reply(self, user: str) -> Reply:
        """Answer the next user turn."""
        ...

    async def replay(self, reply: str, *, ended: bool) -> None:
        """Put `reply` in the place of the answer just given: the history goes on from it.

        Called after every `reply` of a run in replay, with F's stored reply to that turn; `ended`:
        it ended by itself, not at the length limit.
        """
        ...

    async def close(self) -> None:
        """Release whatever the session holds. Called once, also after an error."""
        ...


class Method(BaseModel, ABC):
    """A way to serve a session. A subclass's fields are its arguments, validated by type.

    Instances are immutable and hold no state of a session: that lives in the Conversation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    async def open(self, session: Session, engines: Engines) -> Conversation:
        """Begin a session. `session` shows no turns: they arrive one by one through `reply`."""

    def switchable(self, turns: int, warm_turns: int) -> bool | None:
        """Whether a session of `turns` turns can show a change of models; None: no such method.

        `warm_turns` is the default W of the session's task.
        """
        return None


def chat(system: str | None, turns: Sequence[Message]) -> list[Message]:
    """The messages of a conversation so far, its system prompt (if any) first."""
    head: list[Message] = [{"role": "system", "content": system}] if system else []
    return head + list(turns)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
