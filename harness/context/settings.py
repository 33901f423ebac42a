"""Settings of the context-dependence filter, as a profile's `[tasks.context]` gives them."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PanelSettings(_Strict):
    """Models behind an OpenAI-compatible endpoint that vote on every turn.

    `url`: of the endpoint, e.g. "http://localhost:8000/v1". `key_env`: the environment variable
    that holds the key, if one is needed. A turn depends on its history when more than half of the
    `models` say so.
    """

    url: str = Field(pattern=r"^https?://\S+$")
    models: tuple[str, ...] = Field(min_length=1)
    key_env: str | None = None
    timeout_s: float = Field(default=60.0, gt=0)

    @field_validator("url")
    @classmethod
    def _no_secret(cls, url: str) -> str:
        """A run's manifest has the address."""
        if "@" in urlsplit(url).netloc:
            raise ValueError("the address holds a password; name the key's variable in key_env")
        return url


class ContextSettings(_Strict):
    """When a session counts as context-dependent.

    A later turn depends on its history when its score reaches `threshold`: the share that the
    history takes off the negative log-likelihood of the turn and its reply under `model`, plus
    `cue_bonus` where the turn's words point back. A session stays when at least `min_share` of its
    later turns depend. `history_tokens`, `turn_tokens`, `reply_tokens`: how much of each is read.
    With `panel` the models of the panel decide instead, and `threshold`, `cue_bonus` and `model`
    are not used.
    """

    threshold: float = 0.13
    min_share: float = Field(default=0.5, ge=0.0, le=1.0)
    cue_bonus: float = Field(default=0.05, ge=0.0, le=1.0)
    model: str = "embedded:F"
    revision: str = "main"
    history_tokens: int = Field(default=256, ge=16, le=32768)
    turn_tokens: int = Field(default=128, ge=8, le=8192)
    reply_tokens: int = Field(default=64, ge=1, le=8192)
    panel: PanelSettings | None = None
