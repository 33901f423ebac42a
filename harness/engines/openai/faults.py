"""What goes wrong between a client and a server, and which of it is worth another try."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Literal

from harness.errors import BenchError

Kind = Literal[
    "connect", "http", "disconnect", "stall", "malformed", "server", "unfinished", "usage"
]
"""Why a try failed. connect: no connection in time. http: an error status. disconnect: the
connection ended early. stall: nothing came for too long. malformed: not the protocol. server: an
error object in the stream. unfinished: the stream ended without saying so. usage: the server's
token counts are missing or cannot be true."""

_DETAIL = 200
"""The most characters of a server's text that a message passes on."""

_OVERFLOW = re.compile(
    r"context[ _-]?(length|size|window)|max_model_len|maximum (model|input|prompt) length"
    r"|(prompt|input) is too long|reduce the length",
    re.IGNORECASE,
)
_AGAIN = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.CONFLICT,
        HTTPStatus.TOO_EARLY,
        HTTPStatus.TOO_MANY_REQUESTS,
    }
)


class ServerRefused(BenchError):
    """A server will not do what it was asked, with HTTP status `status` (0: it was not asked)."""

    def __init__(self, status: int, message: str) -> None:
        said = f"the server refuses (HTTP {status})" if status else "the server cannot be asked"
        super().__init__(f"{said}: {message}")
        self.status = status


class NoAnswer(BenchError):
    """Every try of a request failed; `failures` has one line for each."""

    def __init__(self, failures: tuple[str, ...]) -> None:
        tries = "1 try" if len(failures) == 1 else f"{len(failures)} tries"
        super().__init__(f"{tries} failed: {'; '.join(failures)}")
        self.failures = failures


class TryFailed(Exception):
    """One try failed and may succeed when it is made again.

    `detail` may hold any text of the server's. `status`: of kind "http". `retry_after_s`: how long
    the server asks to wait. `chunks` and `seconds`: how far the try came.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind = kind
        self.detail = detail
        self.status = status
        self.retry_after_s = retry_after_s
        self.chunks = 0
        self.seconds = 0.0

    @property
    def label(self) -> str:
        return self.kind if self.status is None else f"{self.kind} {self.status}"

    def line(self, scrub: Callable[[str], str]) -> str:
        """One line for the record; `scrub` takes secrets out of the server's text."""
        how_far = f"after {self.chunks} chunks, {self.seconds:.3f} s"
        return f"{self.label} {how_far}: {one_line(scrub(self.detail))}"


class Refused(Exception):
    """The server will not answer this request, however often it is asked.

    `detail` may hold any text of the server's. `overflow`: the request is too long for the model.
    """

    def __init__(self, status: int, detail: str, *, overflow: bool = False) -> None:
        super().__init__(status)
        self.status = status
        self.detail = detail
        self.overflow = overflow


def from_status(status: int, body: bytes, headers: Mapping[str, str]) -> TryFailed | Refused:
    """What an answer that is no success comes to."""
    error = error_in(_parsed(body))
    message = error.message if error else body.decode("utf-8", "replace")
    if status == HTTPStatus.TOO_MANY_REQUESTS and error and "insufficient_quota" in error.words:
        return Refused(status, message)
    if status in _AGAIN or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TryFailed("http", message, status=status, retry_after_s=retry_after(headers))
    if status in (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND, HTTPStatus.PERMANENT_REDIRECT):
        message = f"it redirects to {headers.get('Location', 'nowhere')}; give that address"
    overflow = error is not None and error.is_overflow
    return Refused(status, message, overflow=overflow and status < 500)


def from_error_object(error: ErrorObject) -> TryFailed | Refused:
    """What an error object inside a stream comes to."""
    final = error.status is not None and 400 <= error.status < 500 and error.status not in _AGAIN
    if error.is_overflow or final:
        return Refused(error.status or 400, error.message, overflow=error.is_overflow)
    return TryFailed("server", error.message)


class ErrorObject:
    """A server's error as JSON: `{"error": {"message", "type", "code"}}` and its variants."""

    def __init__(self, message: str, words: str, status: int | None) -> None:
        self.message = message
        self.words = words
        self.status = status

    @property
    def is_overflow(self) -> bool:
        return bool(_OVERFLOW.search(f"{self.message} {self.words}"))


def error_in(value: Any) -> ErrorObject | None:
    """The error that a JSON value tells of; None where it tells of none."""
    if not isinstance(value, dict):
        return None
    error = value.get("error")
    if error is None and value.get("object") == "error":
        error = value
    if error is None and "choices" not in value:
        error = value.get("detail")
    if not error:
        return None
    if not isinstance(error, dict):
        return ErrorObject(error if isinstance(error, str) else json.dumps(error), "", None)
    code = error.get("code")
    status = code if isinstance(code, int) and not isinstance(code, bool) else None
    message = error.get("message")
    text = message if isinstance(message, str) and message else json.dumps(error)
    return ErrorObject(text, f"{error.get('type')} {code}", status)


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None: nothing usable."""
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value):
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - (now or datetime.now(UTC))).total_seconds())


def one_line(text: str) -> str:
    """`text` on one line, cut where it is long; "no message" for none."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    if not flat:
        return "no message"
    return flat if len(flat) <= _DETAIL else f"{flat[:_DETAIL]}..."


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
