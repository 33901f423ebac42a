"""Arguments that warm-starting methods share, and what they stand for.

`docs/soma.md` has the range of each in the paper.
"""

from __future__ import annotations

from pydantic import Field

from harness.method import Engines, Method, PromptStyle
from harness.session import Session
from soma.cases import Limits
from soma.localization import LoraSettings
from soma.prefix import PrefixSettings, Writer
from soma.warm_start import Dialogue


class WarmStartMethod(Method):
    """F serves the first `warm_turns` turns (W; left out: the task's own), G may serve the rest.

    last_turns: K, the turns that G reads word by word. summary: who summarizes older ones.
    prompt_style: "bare" leaves the chat template out, for replicating runs without one.
    """

    warm_turns: int | None = Field(default=None, ge=1)
    last_turns: int = Field(default=2, ge=0)
    summary: Writer = "topics"
    summary_tokens: int = Field(default=96, ge=8)
    prompt_style: PromptStyle = "chat"

    def switchable(self, turns: int, warm_turns: int) -> bool | None:
        """A session needs two turns after the warm start to show anything."""
        return turns >= (self.warm_turns or warm_turns) + 2

    def dialogue(self, session: Session, engines: Engines) -> Dialogue:
        prefix = PrefixSettings(
            self.last_turns, self.summary, self.summary_tokens, self.prompt_style
        )
        return Dialogue(session.system, prefix, engines)

    def warm(self, engines: Engines) -> int:
        """W of a session."""
        return self.warm_turns or engines.warm_turns


class TrainedMethod(WarmStartMethod):
    """LoRA on the warm turns: rank, alpha, dropout, and `steps` optimizer steps of `batch` cases.

    A case is cut to max_prompt_tokens and max_reply_tokens.
    """

    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    steps: int = Field(default=60, ge=1)
    batch: int = Field(default=2, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    patience: int = Field(default=20, ge=1)
    max_prompt_tokens: int = Field(default=768, ge=1)
    max_reply_tokens: int = Field(default=96, ge=1)
    keep_adapter: bool = False

    def lora(self) -> LoraSettings:
        return LoraSettings(
            rank=self.rank,
            alpha=self.alpha,
            dropout=self.dropout,
            batch=self.batch,
            learning_rate=self.learning_rate,
            patience=self.patience,
        )

    def limits(self) -> Limits:
        return Limits(self.max_prompt_tokens, self.max_reply_tokens)
