"""Settings of the transformers engine, as a pair file's `options` give them."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Options(BaseModel):
    """`prefix_cache_gib`: the most memory for keys and values kept between a session's turns.

    When it is full, what was used longest ago goes first. It is beside what a running batch
    needs. A model with a sliding window, a recurrent state or rotary embeddings scaled by length
    keeps nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix_cache_gib: float = Field(default=1.0, gt=0)
