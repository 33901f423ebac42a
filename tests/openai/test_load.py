"""From a pair's declaration to an engine: everything that can be wrong is said before a run."""

from __future__ import annotations

import asyncio

import pytest

from harness.engines.load import load_engine
from harness.engines.openai.chat_engine import ChatEngine
from harness.engines.openai.ids_engine import IdsEngine
from harness.errors import UserError
from tests.openai.backend import Ability
from tests.openai.conftest import engine_at, spec
from tests.openai.fault_proxy import Fault, on_first


def test_the_way_of_sending_makes_the_engine(serve, tokenizer_id):
    address, _ = serve()
    messages = load_engine(spec(address), "F", offline=True, batch_size=1, prefix_cache=True)
    ids = engine_at(address, send="ids", tokenizer=tokenizer_id)
    assert type(messages) is ChatEngine and messages.tokenizer is None
    assert type(ids) is IdsEngine and ids.tokenizer is not None
    assert (messages.facts.model, messages.facts.device) == ("words", "remote")


def test_an_engine_is_loaded_inside_a_running_event_loop(serve):
    address, _ = serve()

    async def main():
        return engine_at(address).facts.model

    assert asyncio.run(main()) == "words"


@pytest.mark.parametrize(
    ("told", "given", "expected"), [(4096, None, 4096), (None, None, None), (4096, 512, 512)]
)
def test_the_context_is_the_options_or_the_servers(serve, told, given, expected):
    address, _ = serve(Ability(max_model_len=told))
    assert engine_at(address, context_tokens=given).facts.context_tokens == expected


def test_template_arguments_travel_with_the_tokenizer(serve, tokenizer_id):
    from harness.engines.chat import template_args

    address, _ = serve()
    args = {"enable_thinking": False}
    engine = engine_at(address, send="ids", tokenizer=tokenizer_id, chat_template_args=args)
    assert template_args(engine.tokenizer) == args


def problem(call) -> str:
    with pytest.raises(UserError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_unknown_model_is_told_with_those_there_are(serve):
    address, _ = serve(Ability(others=("sentences",)))
    text = problem(lambda: engine_at(address, model="word"))
    assert "F.id = 'word'" in text and "sentences, words" in text
    assert "did you mean 'words'?" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a.removesuffix("/v1"), "up to and with /v1"),
        (lambda a: f"{a}/chat", "up to and with /v1"),
        (lambda a: "http://127.0.0.1:9/v1", "does not answer: connect"),
        (lambda a: a.replace("http", "https"), "does not answer"),
    ],
    ids=["no-v1", "too-much", "nobody-there", "no-tls"],
)
def test_a_wrong_address_is_one_line(serve, change, expected):
    address, _ = serve()
    text = problem(lambda: engine_at(change(address)))
    assert expected in text and "F.options.base_url = " in text


def test_a_server_that_lists_something_else_is_refused(serve):
    fault = Fault("http", status=200, body='{"data": 3}')
    address, _ = serve(plain=on_first(fault))
    assert "no list of models" in problem(lambda: engine_at(address))


def test_a_passing_trouble_at_the_first_question_is_no_mistake(serve):
    address, _ = serve(plain=on_first(Fault("http", status=503)))
    assert engine_at(address).facts.model == "words"


def test_a_key_is_wanted_and_named(serve, monkeypatch):
    address, _ = serve(Ability(key="right"))
    assert "requests without a key (api_key_env)" in problem(lambda: engine_at(address))
    monkeypatch.setenv("TEST_SERVER_KEY", "wrong")
    wrong = problem(lambda: engine_at(address, api_key_env="TEST_SERVER_KEY"))
    assert "does not accept the key in TEST_SERVER_KEY" in wrong
    monkeypatch.delenv("TEST_SERVER_KEY")
    unset = problem(lambda: engine_at(address, api_key_env="TEST_SERVER_KEY"))
    assert "'TEST_SERVER_KEY'" in unset and "unset" in unset
    monkeypatch.setenv("TEST_SERVER_KEY", "right")
    assert engine_at(address, api_key_env="TEST_SERVER_KEY").facts.model == "words"


def test_ids_need_a_tokenizer(serve):
    address, _ = serve()
    assert "F.tokenizer" in problem(lambda: engine_at(address, send="ids"))


def test_a_tokenizer_that_is_none_is_told(serve, tmp_path):
    address, _ = serve()
    (tmp_path / "config.json").write_text("{}")
    text = problem(lambda: engine_at(address, tokenizer=str(tmp_path)))
    assert "its tokenizer cannot be loaded" in text


@pytest.mark.parametrize("salt", [False, True])
def test_a_run_without_prefix_cache_needs_a_server_that_can_be_told(serve, salt):
    address, _ = serve()
    model = spec(address, cache_salt=salt)

    def load():
        return load_engine(model, "G", offline=True, batch_size=1, prefix_cache=False)

    if salt:
        assert load().facts.model == "words"
    else:
        assert "G.options.cache_salt = true" in problem(load)
