"""What an engine is: it turns token ids into tokens. Everything above it speaks messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from harness.method import Adapter, Completion, Message

T = TypeVar("T")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy and ignores the seed."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Scope:
    """Whose request it is. `session`: name of the session, unique in the run.

    `prefix_cache`: whether keys and values of the session's earlier requests may be used again;
    those of other sessions never are.
    """

    session: str
    prefix_cache: bool = False


NOBODY = Scope("")
"""The scope of requests that belong to no session, e.g. of the warm-up."""


@dataclass(frozen=True)
class ModelFacts:
    """Sizes of a loaded model, in bytes where not said otherwise. None: the engine cannot know."""

    model: str
    device: str
    dtype: str
    parameters: int | None
    weights_bytes: int | None
    kv_bytes_per_token: int | None
    context_tokens: int | None


class Engine(Protocol):
    """One loaded model. Requests may come from many sessions at once; the engine batches them."""

    tokenizer: Any
    facts: ModelFacts

    async def generate(
        self,
        prompt_ids: list[int],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        """Generate until end of turn or `max_new_tokens`. Raises ContextOverflow, OutOfMemory.

        `adapter` is added to the weights for this request alone.
        """
        ...

    async def release(self, session: str) -> None:
        """Forget what is kept for a session that has ended: its keys and values, its adapters."""
        ...

    async def reset(self) -> None:
        """Forget everything earlier requests left behind (prefix caches). Between methods."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


@runtime_checkable
class TextEngine(Engine, Protocol):
    """An engine that takes messages: only its server turns them into tokens.

    `tokenizer` may be None, and then nobody here can count the tokens of a prompt.
    """

    async def chat(
        self,
        messages: Sequence[Message],
        sampling: Sampling,
        adapter: Adapter | None = None,
        scope: Scope = NOBODY,
    ) -> Completion:
        """As `generate`, from messages under the server's own chat template."""
        ...


@runtime_checkable
class AdapterHost(Engine, Protocol):
    """An engine that must load an adapter before it can serve with it."""

    def holds(self, adapter: Adapter) -> bool:
        """Whether `adapter` is loaded."""
        ...

    async def hold(self, adapter: Adapter, session: str) -> None:
        """Load `adapter` until `session` is released. Raises UserError for one it cannot take."""
        ...


@runtime_checkable
class LocalEngine(Engine, Protocol):
    """An engine that holds its model's weights in this process, so that they can be worked on."""

    model: Any

    async def run_exclusive(self, fn: Callable[[], T]) -> T:
        """Run `fn` where the model runs, while no request is served."""
        ...
