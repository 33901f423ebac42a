"""Messages to prompt ids, against the tokenizer's own template."""

from __future__ import annotations

import pytest

from harness.engines.chat import (
    ChatTemplateError,
    DoubleBos,
    bind_template_args,
    encode_chat,
    prompt_hash,
)
from harness.method import Message, assistant, chat, user

CHATS: list[list[Message]] = [
    [user("Hi")],
    chat("Answer in French.", [user("Hi")]),
    chat("You sell tea.", [user("One pot?"), assistant("Four dollars."), user("And two?")]),
    [user("a\nb  c\n"), assistant(""), user("日本語 🙂 12345")],
]
REFUSES_SYSTEM = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "[{{ m.role }}] {{ m.content }}\n{% endfor %}"
)


@pytest.fixture
def tokenizer(original):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(original, local_files_only=True)


@pytest.mark.parametrize("messages", CHATS)
def test_ids_equal_the_tokenizers_own(tokenizer, messages):
    ids = encode_chat(tokenizer, messages)
    own = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=True)
    assert ids == list(own["input_ids"])
    assert all(type(i) is int for i in ids)


@pytest.mark.parametrize("messages", CHATS)
def test_one_beginning_of_sequence(tokenizer, messages):
    # This model's beginning-of-sequence token also opens every turn.
    ids = encode_chat(tokenizer, messages)
    turns = len(messages) + 1 + (messages[0]["role"] != "system")
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == turns


def test_two_beginnings_are_refused(tokenizer):
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(DoubleBos, match="two"):
        encode_chat(tokenizer, [user("Hi")])


def test_bound_arguments_reach_the_template(tokenizer):
    tokenizer.chat_template = "{{ bos_token }}{{ 'thinks' if enable_thinking else 'answers' }}"
    bind_template_args(tokenizer, {"enable_thinking": False})
    assert tokenizer.decode(encode_chat(tokenizer, [user("Hi")])).endswith("answers")
    bind_template_args(tokenizer, {"enable_thinking": True})
    assert tokenizer.decode(encode_chat(tokenizer, [user("Hi")])).endswith("thinks")


def test_a_refused_system_message_moves_into_the_first_user_message(tokenizer):
    tokenizer.chat_template = REFUSES_SYSTEM
    ids = encode_chat(tokenizer, chat("Be brief.", [user("Hi"), assistant("Yes?"), user("Why")]))
    text = tokenizer.decode(ids, skip_special_tokens=True)
    assert text == "[user] Be brief.\n\nHi\n[assistant] Yes?\n[user] Why\n"


@pytest.mark.parametrize(
    "messages", [chat("Be brief.", []), chat("Be brief.", [assistant("Hello"), user("Hi")])]
)
def test_a_refused_system_message_without_a_user_message_after_it(tokenizer, messages):
    tokenizer.chat_template = REFUSES_SYSTEM
    with pytest.raises(ChatTemplateError, match="no system role"):
        encode_chat(tokenizer, messages)


def test_what_no_template_takes_is_an_error(tokenizer):
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(ChatTemplateError, match="never"):
        encode_chat(tokenizer, chat("Be brief.", [user("Hi")]))
    tokenizer.chat_template = None
    with pytest.raises(ChatTemplateError, match="no chat template"):
        encode_chat(tokenizer, [user("Hi")])


def test_prompt_hash_is_fixed_and_tells_ids_apart():
    # printf '1,2,3' | sha256sum
    assert prompt_hash([1, 2, 3]) == "8a6ae15122001229"
    assert len({prompt_hash(ids) for ids in ([1, 23], [12, 3], [1, 2, 3], [])}) == 4
