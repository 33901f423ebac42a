"""What an engine is: it turns token ids into tokens. Everything above it speaks messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from harness.method import Adapter, Completion

T = TypeVar("T")


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy and ignores the seed."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


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
        self, prompt_ids: list[int], sampling: Sampling, adapter: Adapter | None = None
    ) -> Completion:
        """Generate until end of turn or `max_new_tokens`. Raises ContextOverflow, OutOfMemory.

        `adapter` is added to the weights for this request alone.
        """
        ...

    async def reset(self) -> None:
        """Forget everything earlier requests left behind (prefix caches). Between methods."""
        ...

    async def close(self) -> None:
        """Free the model."""
        ...


@runtime_checkable
class LocalEngine(Engine, Protocol):
    """An engine that holds its model's weights in this process, so that they can be worked on."""

    model: Any

    async def run_exclusive(self, fn: Callable[[], T]) -> T:
        """Run `fn` where the model runs, while no request is served."""
        ...
