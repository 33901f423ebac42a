"""The gain of a history, against a forward pass of the whole text, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from harness.context.likelihood import GREETING, LikelihoodModel
from harness.context.settings import ContextSettings
from harness.method import Message, assistant, user

HISTORY = [
    user("Our cat Miso weighs four kilos. Which carrier should I buy for the train?"),
    assistant("For a cat of four kilos like Miso, take a soft carrier of 40 cm."),
]
TURN, REPLY = "Would Miso fit in it standing up?", "Yes, Miso can stand up in a 40 cm carrier."


def whole_text(model: LikelihoodModel, history: str, turn: str, reply: str) -> tuple[float, float]:
    """NLL of turn and reply by one plain forward pass over everything."""
    import torch

    tokenizer, network = model._tokenizer, model._model
    pieces = [history, "User: ", turn, "\nAssistant: ", reply]
    encoded = [tokenizer(p, add_special_tokens=False)["input_ids"] if p else [] for p in pieces]
    ids = [i for piece in encoded for i in piece]
    with torch.no_grad():
        logp = network(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    starts = [sum(map(len, encoded[:k])) for k in range(len(encoded) + 1)]

    def nll(piece: int) -> float:
        places = range(starts[piece], starts[piece + 1])
        return -sum(float(logp[place - 1, ids[place]]) for place in places)

    return nll(2), nll(4)


def text_of(history: Sequence[Message]) -> str:
    return f"User: {history[0]['content']}\nAssistant: {history[1]['content']}\n"


def test_gain_is_the_difference_of_two_likelihoods(model: LikelihoodModel) -> None:
    with_turn, with_reply = whole_text(model, text_of(HISTORY), TURN, REPLY)
    alone_turn, alone_reply = whole_text(model, text_of(GREETING), TURN, REPLY)
    gain = model.gain(HISTORY, TURN, REPLY)
    assert gain.turn == pytest.approx(alone_turn - with_turn, abs=1e-3)
    assert gain.reply == pytest.approx(alone_reply - with_reply, abs=1e-3)
    assert gain.alone == pytest.approx(alone_turn + alone_reply, abs=1e-3)
    assert gain.share == (gain.turn + gain.reply) / gain.alone
    assert gain.turn > 0 < gain.reply


def test_a_greeting_gains_nothing_and_a_foreign_one_less(model: LikelihoodModel) -> None:
    assert model.gain(GREETING, TURN, REPLY).share == 0
    foreign = [user("List three rivers of Peru."), assistant("Amazon, Ucayali, Marañón.")]
    own, other = model.gain(HISTORY, TURN, REPLY), model.gain(foreign, TURN, REPLY)
    assert other.share < 0.1 < own.share


def test_only_so_many_tokens_are_read(model: LikelihoodModel) -> None:
    limits = ContextSettings(history_tokens=16, turn_tokens=8, reply_tokens=4)
    short = LikelihoodModel(limits)
    long = [user("Something else. " * 200), *HISTORY]
    end = short._history(long)
    assert len(end) == 16
    gain = short.gain(long, TURN, REPLY)
    cut = short.gain(long, TURN + " More of it. " * 50, REPLY + " More of it." * 50)
    assert (gain.reply, cut.reply) != (0, 0)
    assert cut.reply == pytest.approx(short.gain(long, TURN + " More of it.", REPLY).reply)


def test_an_empty_reply_counts_for_nothing(model: LikelihoodModel) -> None:
    assert model.gain(HISTORY, TURN, "").reply == 0


def test_the_models_own_answer_stops_at_the_users_line(model: LikelihoodModel) -> None:
    answer = model.answer(HISTORY, TURN)
    assert answer
    assert "User:" not in answer
    assert answer == model.answer(HISTORY, TURN)
