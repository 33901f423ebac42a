"""The panel's votes, from a scripted server that speaks the OpenAI protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.context.panel import Panel, PanelError
from harness.context.settings import PanelSettings
from harness.errors import UserError
from harness.method import assistant, user

HISTORY = [user("We are four."), assistant("Noted.")]
Answer = tuple[int, Any]


class Server(ThreadingHTTPServer):
    """Answers as `script` says, by model; keeps what it was asked."""

    def __init__(self, script: Callable[[str, int], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(body)
        self.server.keys.append(self.headers["Authorization"])
        times = sum(b["model"] == body["model"] for b in self.server.asked)
        status, answer = self.server.script(body["model"], times)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def said(text: object) -> Answer:
    return 200, {"choices": [{"message": {"content": text}}]}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(script: Callable[[str, int], Answer]) -> Server:
        server = Server(script)
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def test_the_share_of_models_that_say_dependent(serve: Callable[..., Server]) -> None:
    words = {
        "a": "Dependent.",
        "b": "I first thought DEPENDENT, but: independent",
        "c": "DEPENDENT",
    }
    server = serve(lambda model, _: said(words[model]))
    panel = Panel(PanelSettings(url=server.url, models=("a", "b", "c")))
    assert panel.vote(HISTORY, "And for two?") == pytest.approx(2 / 3)
    panel.close()
    question = server.asked[0]["messages"][1]["content"]
    assert "We are four." in question and question.endswith("And for two?")
    assert server.keys == [None] * 3


def test_what_passes_is_tried_again(serve: Callable[..., Server]) -> None:
    server = serve(lambda _, times: (503, {}) if times < 3 else said("independent"))
    panel = Panel(PanelSettings(url=server.url, models=("a",)))
    assert panel.vote(HISTORY, "Hello") == 0
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (said("I cannot say."), "gave no verdict: 'I cannot say.'"),
        (said(None), "has no text"),
        ((200, {"error": "x"}), "is no chat completion"),
        ((200, b"<html>"), "a at http"),
        ((401, {}), "401"),
    ],
)
def test_no_verdict_is_an_error_and_not_a_vote(
    serve: Callable[..., Server], answer: Answer, problem: str
) -> None:
    server = serve(lambda *_: answer)
    with pytest.raises(PanelError, match=r"^a at http") as raised:
        Panel(PanelSettings(url=server.url, models=("a",))).vote(HISTORY, "Hello")
    assert problem in str(raised.value)


def test_the_key_comes_from_the_environment_and_is_not_shown(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(lambda *_: (401, {"error": "bad key"}))
    settings = PanelSettings(url=server.url, models=("a",), key_env="SOME_KEY")
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(UserError, match="SOME_KEY is not set"):
        Panel(settings)
    monkeypatch.setenv("SOME_KEY", "hush-hush")
    with pytest.raises(PanelError) as raised:
        Panel(settings).vote(HISTORY, "Hello")
    assert server.keys == ["Bearer hush-hush"]
    assert "hush" not in str(raised.value) + settings.model_dump_json()


def test_no_server_is_one_error() -> None:
    settings = PanelSettings(url="http://127.0.0.1:9", models=("a",), timeout_s=1)
    with pytest.raises(PanelError, match=r"^a at http"):
        Panel(settings).vote(HISTORY, "Hello")
