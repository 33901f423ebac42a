"""`serve-check` against servers that can more and less."""

from __future__ import annotations

import json
import tomllib

import pytest

from harness.commands import serve_check
from harness.engines.openai.self_check import Stream, judge
from harness.engines.pairs import ModelSpec
from tests.openai.backend import Ability
from tests.openai.fault_proxy import Fault

KEY = "sk-proj-Zq8vW3rT6yU1iO4pA7sD0fG2hJ5kL9xC"


def client(late_s=0.0):
    return judge([Stream(24, 0.0, 0.3, 1.5, 0.0, 0.3 + late_s, 1.5 + late_s)], shared_clock=True)


@pytest.fixture(autouse=True)
def _idle_client(monkeypatch):
    """Two seconds of measuring less for each test; `test_self_check.py` does measure."""
    monkeypatch.setattr(serve_check, "measure_client", client)


def check(bench, *words):
    result = bench("serve-check", *words, "--json")
    assert result.exit_code in (0, 1), result.output
    value = json.loads(result.stdout)
    assert value["usable"] is (result.exit_code == 0)
    return value, {finding["topic"]: finding for finding in value["findings"]}


def verdicts(findings):
    return {topic: finding["verdict"] for topic, finding in findings.items()}


def test_a_server_that_can_everything(serve, bench):
    address, backend = serve(Ability(gap_s=0.002))
    value, findings = check(bench, address)
    assert verdicts(findings) == {
        "models": "yes",
        "streaming": "yes",
        "usage": "yes",
        "reasoning": "no",
        "token ids told": "yes",
        "token ids taken": "yes",
        "cached tokens": "yes",
        "cache salt": "yes",
        "adapters": "yes",
        "context": "yes",
        "client": "yes",
    }
    assert value["options"] == {
        "base_url": address,
        "token_ids": True,
        "cache_salt": True,
        "loads_adapters": True,
    }
    assert len(backend.asked) < 10 and backend.adapters == {}


def test_a_server_that_can_only_what_it_must(serve, bench):
    ability = Ability(
        gap_s=0.002,
        strict=True,
        ids_route=False,
        tells_cached=False,
        adapters=None,
        max_model_len=None,
    )
    address, _ = serve(ability)
    value, findings = check(bench, address)
    assert value["usable"] and value["options"] == {"base_url": address}
    found = verdicts(findings)
    assert [topic for topic, verdict in found.items() if verdict == "no"] == [
        "reasoning",
        "token ids told",
        "token ids taken",
        "cached tokens",
        "cache salt",
        "adapters",
    ]
    assert found["context"] == "unknown"
    assert 'prefix_cache = "off" cannot be honoured' in findings["cache salt"]["means"]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in findings["adapters"]["means"]


@pytest.mark.parametrize(
    ("ability", "verdict", "seen"),
    [
        (Ability(salt="ignored", gap_s=0.002), "no", "tokens came from another salt's cache"),
        (Ability(salt="refused", gap_s=0.002), "no", "Unknown parameter"),
        (Ability(tells_cached=False, gap_s=0.002), "unknown", "no cache is told"),
    ],
    ids=["ignored", "refused", "not-told"],
)
def test_a_cache_that_cannot_be_controlled_is_told(serve, bench, ability, verdict, seen):
    address, _ = serve(ability)
    value, findings = check(bench, address)
    assert findings["cache salt"]["verdict"] == verdict and seen in findings["cache salt"]["seen"]
    assert "cache_salt" not in value["options"] and value["usable"]
    assert 'run with prefix_cache = "on"' in findings["cache salt"]["means"]


def no_usage(event):
    return None if event.get("usage") else event


FATAL = {
    "in-one-piece": (Ability(tokens_per_chunk=0), None, "streaming", "in one piece"),
    "in-one-burst": (Ability(burst=True), None, "streaming", "in one piece"),
    "no-usage": (
        Ability(gap_s=0.002),
        Fault("change", change=no_usage),
        "usage",
        "no time per token",
    ),
    "no-done": (Ability(gap_s=0.002), Fault("cut", after=15), "streaming", "neither TTFT"),
    "down": (Ability(), Fault("http", status=503, body="busy"), "streaming", "neither TTFT"),
    "refuses": (Ability(), Fault("http", status=400, body="no"), "streaming", "neither TTFT"),
    "uncounted-reasoning": (
        Ability(reasoning=3, counts_reasoning=False, gap_s=0.002),
        None,
        "usage",
        "no time per token",
    ),
}


@pytest.mark.parametrize(("ability", "fault", "topic", "means"), FATAL.values(), ids=FATAL)
def test_a_server_that_cannot_be_measured(serve, bench, ability, fault, topic, means):
    plan = None if fault is None else (lambda label, attempt: fault)
    address, _ = serve(ability, plan=plan)
    value, findings = check(bench, address)
    assert not value["usable"]
    assert [t for t, f in findings.items() if f["fatal"]] == [topic]
    assert findings[topic]["verdict"] == "no" and means in findings[topic]["means"]


def test_reasoning_is_told(serve, bench):
    address, _ = serve(Ability(reasoning=5, gap_s=0.002))
    _, findings = check(bench, address)
    assert findings["reasoning"]["seen"] == "5 of 13 tokens were reasoning"


@pytest.mark.parametrize("word", ["max_completion_tokens", "temperature"])
def test_what_a_server_wants_otherwise_is_learned(serve, bench, word):
    def plan(label, attempt):
        body = json.dumps({"error": {"message": f"Unsupported: use {word} otherwise"}})
        return Fault("http", status=400, body=body) if attempt == 1 and "Count" in label else None

    address, _ = serve(Ability(gap_s=0.002), plan=plan)
    value, findings = check(bench, address)
    assert value["usable"]
    if word == "temperature":
        assert findings["greedy replies"]["verdict"] == "no"
    else:
        assert value["options"]["max_tokens_key"] == "max_completion_tokens"


def test_a_machine_that_cannot_measure_is_told(serve, bench, monkeypatch):
    measured = []

    def slow():
        measured.append(1)
        return client(late_s=0.1)

    monkeypatch.setattr(serve_check, "measure_client", slow)
    address, _ = serve(Ability(gap_s=0.002))
    value, findings = check(bench, address)
    assert not value["usable"] and findings["client"]["fatal"]
    assert len(measured) == 3 and value["client"]["passed"] is False


def test_the_table_ends_in_a_pair_file_for_it(serve, bench, monkeypatch):
    monkeypatch.setenv("TEST_SERVER_KEY", KEY)
    monkeypatch.setenv("COLUMNS", "120")
    address, _ = serve(Ability(key=KEY, model='odd "name"', gap_s=0.002))
    result = bench("serve-check", address, "--api-key-env", "TEST_SERVER_KEY")
    assert result.exit_code == 0, result.output
    assert "what follows" in result.stdout and KEY not in result.output
    toml = result.stdout.split("In a pair file:\n")[1]
    spec = ModelSpec(**tomllib.loads(toml)["F"])
    assert spec.id == 'odd "name"' and spec.engine == "openai"
    assert spec.options["api_key_env"] == "TEST_SERVER_KEY" and spec.options["cache_salt"] is True


def test_a_server_that_cannot_be_measured_gets_no_pair_file(serve, bench):
    address, _ = serve(Ability(tokens_per_chunk=0))
    result = bench("serve-check", address)
    assert result.exit_code == 1
    assert "cannot be benchmarked from here: see streaming." in result.stdout
    assert "[F]" not in result.stdout


def test_what_a_server_says_does_not_steer_the_terminal(serve, bench):
    body = json.dumps({"error": {"message": "\x1b[2J[bold]oops"}})
    address, _ = serve(plan=lambda label, attempt: Fault("http", status=400, body=body))
    result = bench("serve-check", address)
    assert "\x1b[2J" not in result.stdout and "[bold]oops" in result.stdout.replace("\n", "")


MISTAKES = {
    "no-address": (lambda a: ["words"], "URL: base_url = 'words': is no plain http"),
    "password": (lambda a: ["http://u:p@127.0.0.1/v1"], "give the key by api_key_env"),
    "nobody-there": (lambda a: ["http://127.0.0.1:9/v1"], "does not answer: connect"),
    "no-v1": (lambda a: [a.removesuffix("/v1")], "up to and with /v1"),
    "which-model": (lambda a: [a], "--model: the server has 2 models; name one of more, words"),
    "model": (lambda a: [a, "--model", "wrds"], "did you mean 'words'?"),
    "unset-key": (lambda a: [a, "--api-key-env", "NO_SUCH_KEY"], "unset or empty"),
}


@pytest.mark.parametrize(("words", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_users_mistake_is_one_line(serve, bench, words, message):
    address, _ = serve(Ability(others=("more",)))
    result = bench("serve-check", *words(address))
    assert result.exit_code == 2
    assert message in result.stderr and result.stderr.count("\n") == 1


def test_help_teaches(bench):
    text = bench("serve-check", "--help").stdout
    for word in ("/v1", "--api-key-env", "Exit code", "Examples"):
        assert word in text
