"""A panel of language models that vote on whether a turn needs its history."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from harness.context.settings import PanelSettings
from harness.errors import BenchError, UserError
from harness.method import Message

INSTRUCTION = (
    "Below is a conversation and the user's next message. Can somebody who sees only that message, "
    "and nothing of the conversation, answer it just as well? If the conversation is needed, say "
    "DEPENDENT. If it is not, say INDEPENDENT. Answer with that one word."
)
TRIES = 4
_VERDICT = re.compile(r"\b(independent|dependent)\b", re.IGNORECASE)


class PanelError(BenchError):
    """A member of the panel did not answer, or gave no verdict."""


class Panel:
    """Asks every model of the settings. The key is read from the environment and never shown."""

    def __init__(self, settings: PanelSettings) -> None:
        """Raises UserError when the key's variable is named and not set."""
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self._settings = settings
        self._http = requests.Session()
        retry = Retry(
            TRIES - 1,
            status_forcelist=(429, 500, 502, 503, 504),
            allowed_methods=None,
            backoff_factor=0.5,
            backoff_jitter=0.2,
            respect_retry_after_header=True,
        )
        for scheme in ("http://", "https://"):
            self._http.mount(scheme, HTTPAdapter(max_retries=retry))
        if settings.key_env is not None:
            key = os.environ.get(settings.key_env)
            if not key:
                raise UserError("context.panel.key_env", f"{settings.key_env} is not set")
            self._http.headers["Authorization"] = f"Bearer {key}"

    def vote(self, history: Sequence[Message], turn: str) -> float:
        """The share of models that say the turn depends on the history.

        Raises PanelError for a model that cannot be asked, or whose answer holds no verdict.
        """
        votes = [self._ask(model, history, turn) for model in self._settings.models]
        return sum(votes) / len(votes)

    def close(self) -> None:
        self._http.close()

    def _ask(self, model: str, history: Sequence[Message], turn: str) -> bool:
        import requests

        before = "\n".join(f"{m['role']}: {m['content']}" for m in history)
        question = f"CONVERSATION\n{before}\n\nNEXT MESSAGE\n{turn}"
        body = {
            "model": model,
            "messages": [
                {"role": "system", "content": INSTRUCTION},
                {"role": "user", "content": question},
            ],
            "temperature": 0,
        }
        url = f"{self._settings.url.rstrip('/')}/chat/completions"
        try:
            answer = self._http.post(url, json=body, timeout=self._settings.timeout_s)
            answer.raise_for_status()
            text = _content(answer.json())
        except (requests.RequestException, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise PanelError(f"{model} at {url}: {reason}") from None
        found = _VERDICT.findall(text)
        if not found:
            raise PanelError(f"{model} at {url} gave no verdict: {text[:80]!r}")
        return str(found[-1]).lower() == "dependent"


def _content(answer: Any) -> str:
    """The text of a chat completion. Raises ValueError for anything else."""
    try:
        text = answer["choices"][0]["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise ValueError("is no chat completion") from None
    if not isinstance(text, str):
        raise ValueError("its message has no text")
    return text
