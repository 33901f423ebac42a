"""From a pair's declaration to an engine whose server has answered once."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.engines.chat import bind_template_args
from harness.engines.hub import is_offline, quiet
from harness.engines.load import resolve_model
from harness.engines.openai.cache import uncontrolled
from harness.engines.openai.chat_engine import ChatEngine
from harness.engines.openai.ids_engine import IdsEngine
from harness.engines.openai.models import named, served_models
from harness.engines.openai.options import Options
from harness.engines.openai.remote import Server
from harness.engines.openai.secret import ApiKey
from harness.engines.openai.transport import Transport
from harness.engines.pairs import ModelSpec
from harness.errors import UserError
from harness.session import Role

_FIRST_TRIES = 2
"""A server that is not there is more likely a wrong address than a passing trouble."""


def load(
    spec: ModelSpec, role: Role, *, offline: bool, batch_size: int, prefix_cache: bool = False
) -> ChatEngine | IdsEngine:
    """Ask the server for its models, and make the engine that `spec.options.send` names.

    `batch_size` means nothing here: how many requests are in flight is the run's to say, and how
    they are batched the server's. `offline` is about hubs of models; a server is asked all the
    same. Raises UserError for a wrong address, model, key or tokenizer, and where a run that wants
    no prefix cache cannot have that.
    """
    options = Options(**spec.options)
    if not prefix_cache and not options.cache_salt:
        raise uncontrolled(role)
    if options.send == "ids" and spec.tokenizer is None:
        raise UserError(
            f"{role}.options.send = 'ids'",
            f"the prompt's ids are made here; name the model's tokenizer: {role}.tokenizer = '...'",
        )
    key = ApiKey.from_environment(options.api_key_env)
    context = _ask_first(spec.id, role, options, key)
    tokenizer = None if spec.tokenizer is None else load_tokenizer(spec, offline=offline)
    server = Server(spec.id, options, Transport(options, key), options.context_tokens or context)
    if options.send == "ids":
        return IdsEngine(server, role, tokenizer)
    return ChatEngine(server, role, tokenizer, spec.chat_template_args)


def load_tokenizer(spec: ModelSpec, *, offline: bool) -> Any:
    """The tokenizer that `spec.tokenizer` names. Raises UserError when it cannot be had."""
    from transformers import AutoTokenizer

    assert spec.tokenizer is not None
    source = resolve_model(spec.tokenizer, offline, spec.revision)
    where: dict[str, Any] = {
        "local_files_only": isinstance(source, Path) or is_offline(offline),
        "trust_remote_code": False,
    }
    if isinstance(source, str):
        where["revision"] = spec.revision
    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(source, **where)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["unknown reason"])[0]
        raise UserError(spec.tokenizer, f"its tokenizer cannot be loaded: {reason}") from None
    bind_template_args(tokenizer, spec.chat_template_args)
    return tokenizer


def _ask_first(model: str, role: Role, options: Options, key: ApiKey) -> int | None:
    """The context of `model` as its server tells it; None: it does not.

    On a thread and an event loop of their own: the caller may be inside one.
    """

    async def ask() -> int | None:
        transport = Transport(options.model_copy(update={"attempts": _FIRST_TRIES}), key)
        try:
            models = await served_models(transport, options, f"{role}.options.base_url")
            return named(models, model, transport, f"{role}.id").context_tokens
        finally:
            await transport.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(ask())).result()
