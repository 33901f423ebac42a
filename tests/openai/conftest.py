"""Servers of words and proxies before them, and engines that ask them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness.engines.openai.load import load
from harness.engines.pairs import ModelSpec
from tests.openai.backend import Ability, Backend
from tests.openai.fault_proxy import FaultProxy, Plan, never
from tests.openai.serving import running

QUICK = {"backoff_s": 0.001, "backoff_cap_s": 0.004, "stall_s": 20.0, "retry_after_cap_s": 0.05}


@pytest.fixture
def serve() -> Iterator[Callable[..., tuple[str, Any]]]:
    """Starts a backend, and with a plan a proxy before it; returns its address and itself."""
    with ExitStack() as stack:

        def start(
            ability: Ability | None = None, plan: Plan | None = None, plain: Plan | None = None
        ) -> tuple[str, Any]:
            backend = Backend(ability or Ability())
            address = stack.enter_context(running(backend.app()))
            if plan is None and plain is None:
                return address, backend
            proxy = FaultProxy(address, plan or never, plain or never)
            return stack.enter_context(running(proxy.app())), proxy

        yield start


def spec(address: str, **options: Any) -> ModelSpec:
    tokenizer = options.pop("tokenizer", None)
    template_args = options.pop("chat_template_args", {})
    model = options.pop("model", "words")
    return ModelSpec(
        id=model,
        engine="openai",
        tokenizer=tokenizer,
        chat_template_args=template_args,
        options={"base_url": address, **QUICK, **options},
    )


def engine_at(address: str, **options: Any) -> Any:
    return load(spec(address, **options), "F", offline=True, batch_size=1, prefix_cache=True)


def using(engine: Any, ask: Callable[[Any], Any]) -> Any:
    """What `ask(engine)` comes to, on an event loop that ends with it; the engine is closed."""

    async def main() -> Any:
        try:
            return await ask(engine)
        finally:
            await engine.close()

    return asyncio.run(main())


@pytest.fixture(scope="session")
def tokenizer_id(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with F's tokenizer, and nothing else but the configuration that names a model."""
    import shutil

    from harness.engines.embedded.fetch import fetch_one

    folder = tmp_path_factory.mktemp("tokenizer")
    for path in fetch_one("F").iterdir():
        if not path.name.endswith(".safetensors"):
            shutil.copy(path, folder)
    return str(folder)
