"""How much a history helps a small model to foresee a turn and its reply.

The gain is NLL(turn, reply) - NLL(turn, reply | history), in nats: the pointwise mutual
information between a history and what follows it, under the model. A history that has nothing to do
with the turn gains about nothing, or loses. As a share of NLL(turn, reply) it does not grow with
the length of what was said. In the place of no history stands a greeting, so that the form of a
dialogue, which any history shows, is no gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.context.settings import ContextSettings
from harness.errors import UserError
from harness.method import Message, assistant, user

GREETING = (
    user("Hello, who are you?"),
    assistant("I am an assistant. How can I help you today?"),
)
"""What stands before a turn where its history is left away."""

GENERATED_TOKENS = 32
"""Longest reply that the model writes itself, where the data have none."""


@dataclass(frozen=True)
class Gain:
    """Nats that the history takes off the user's turn, and off the reply to it.

    `alone`: the NLL of both without it, in nats.
    """

    turn: float
    reply: float
    alone: float

    @property
    def share(self) -> float:
        """The share of `alone` that the history takes off: at most 1, negative if it misleads."""
        return (self.turn + self.reply) / self.alone if self.alone > 0 else 0.0


class LikelihoodModel:
    """The small model, in float32: what it decides must not depend on a device's rounding."""

    def __init__(self, settings: ContextSettings) -> None:
        """Load it. Raises UserError when it cannot be had."""
        import torch

        from harness.engines.load import resolve_model
        from harness.engines.pairs import ModelSpec
        from harness.engines.transformers.load import load_model

        spec = ModelSpec(id=settings.model, revision=settings.revision, dtype="float32")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        source = resolve_model(spec.id, offline=False, revision=spec.revision)
        try:
            self._model, self._tokenizer = load_model(source, spec, device, offline=False)
        except (OSError, ValueError) as error:
            reason = (str(error).splitlines() or ["unknown reason"])[0]
            raise UserError(spec.id, f"cannot be loaded: {reason}") from error
        self._limits = settings

    def gain(self, history: Sequence[Message], turn: str, reply: str) -> Gain:
        """What `history` gains for `turn` and `reply`, each cut to the settings' tokens."""
        with_turn, with_reply = self._nll(self._history(history), turn, reply)
        alone_turn, alone_reply = self._nll(self._history(GREETING), turn, reply)
        alone = alone_turn + alone_reply
        return Gain(alone_turn - with_turn, alone_reply - with_reply, alone)

    def answer(self, history: Sequence[Message], turn: str) -> str:
        """The model's own greedy reply to `turn` after `history`."""
        import torch

        prompt = [*self._history(history), *self._exchange(turn, "")]
        ids = torch.tensor([prompt], device=self._model.device)
        with torch.no_grad():
            out = self._model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=GENERATED_TOKENS,
                do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id,
            )
        text: str = self._tokenizer.decode(out[0, len(prompt) :], skip_special_tokens=True)
        return text.split("\nUser:")[0].strip()

    def _history(self, messages: Sequence[Message]) -> list[int]:
        """The end of the history in the form that `_exchange` goes on from."""
        names = {"system": "System", "user": "User", "assistant": "Assistant"}
        text = "".join(f"{names[m['role']]}: {m['content']}\n" for m in messages)
        return self._ids(text)[-self._limits.history_tokens :]

    def _exchange(self, turn: str, reply: str) -> list[int]:
        said = self._ids(turn)[: self._limits.turn_tokens]
        answered = self._ids(reply)[: self._limits.reply_tokens]
        return [*self._ids("User: "), *said, *self._ids("\nAssistant: "), *answered]

    def _ids(self, text: str) -> list[int]:
        return [int(i) for i in self._tokenizer(text, add_special_tokens=False)["input_ids"]]

    def _nll(self, history: list[int], turn: str, reply: str) -> tuple[float, float]:
        """Summed NLL of the turn's tokens and of the reply's, in nats."""
        import torch

        exchange = self._exchange(turn, reply)
        lead = len(self._ids("User: "))
        said = min(len(self._ids(turn)), self._limits.turn_tokens)
        ids = torch.tensor([[*history, *exchange]], device=self._model.device)
        kept = len(exchange) - lead  # predicted: all but what marks the user's turn
        with torch.no_grad():
            logits = self._model(input_ids=ids, logits_to_keep=kept + 1, use_cache=False).logits
        nll = torch.nn.functional.cross_entropy(
            logits[0, :-1].float(), ids[0, -kept:], reduction="none"
        )
        answered = min(len(self._ids(reply)), self._limits.reply_tokens)
        reply_nll = float(nll[kept - answered :].sum()) if answered else 0.0
        return float(nll[:said].sum()), reply_nll


def identity(settings: ContextSettings) -> dict[str, Any]:
    """What the gain of a turn depends on besides its text."""
    return settings.model_dump(
        include={"model", "revision", "history_tokens", "turn_tokens", "reply_tokens"}
    )
