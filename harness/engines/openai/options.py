"""Settings of the OpenAI-compatible engine, as a pair file's `options` give them."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from harness.config_errors import UNQUOTED


class Options(BaseModel):
    """Where the server is and what it can do. `serve-check` tells the latter of a server.

    `base_url`: up to and with `/v1`. `api_key_env`: name of the environment variable that holds
    the key; None, no key is sent. `send`: "messages" (chat completions, the server applies the
    template) or "ids" (completions of prompt ids; needs `tokenizer`, and a server like vLLM's).
    `cache_salt`: the server takes vLLM's `cache_salt`, by which sessions share no cache, and by
    which it can be turned off. `token_ids`: it takes vLLM's `return_token_ids` and tells the ids of
    prompts and replies; with `send = "ids"` it is always asked. `loads_adapters`: it loads LoRA
    adapters while it runs, from this machine's files. `max_tokens_key`: how it calls the longest
    reply. `context_tokens`: its longest prompt and reply. `connect_s`, `stall_s`: how long a
    connection, and the next event, may take. `keep_alive_s`: how long an idle connection is kept;
    below the server's own limit (5 for vLLM), or some requests meet a connection that it is just
    closing. `attempts`: tries in all. `backoff_s`, `backoff_cap_s`: the first and the longest wait
    between tries; a server's Retry-After is followed up to `retry_after_cap_s`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base_url: str
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    send: Literal["messages", "ids"] = "messages"
    cache_salt: bool = False
    token_ids: bool = False
    loads_adapters: bool = False
    max_tokens_key: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    context_tokens: int | None = Field(default=None, ge=1)
    connect_s: float = Field(default=10.0, gt=0)
    stall_s: float = Field(default=120.0, gt=0)
    keep_alive_s: float = Field(default=4.0, gt=0)
    attempts: int = Field(default=5, ge=1, le=20)
    backoff_s: float = Field(default=0.5, ge=0)
    backoff_cap_s: float = Field(default=20.0, ge=0)
    retry_after_cap_s: float = Field(default=60.0, ge=0)

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            user = parts.username or parts.password
            good = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            good, user = False, None
        if user:
            raise PydanticCustomError(
                UNQUOTED, "holds a user or password; give the key by api_key_env"
            )
        if not good or parts.query or parts.fragment:
            raise ValueError("is no plain http(s) address, e.g. http://127.0.0.1:8000/v1")
        return url.rstrip("/")
