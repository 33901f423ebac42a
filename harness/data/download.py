"""One file over HTTP by pooch; a busy server, or a connection that broke, is asked again."""

from __future__ import annotations

import os
import time
from pathlib import Path

from harness.errors import UserError

HUB, HUB_VARIABLE = "https://huggingface.co", "HF_ENDPOINT"
TRIES = 4
PAUSE_S = 1.0
"""Before the second try; each further one waits twice as long."""

_TIMEOUT_S = (15.0, 60.0)  # to connect, between two pieces
_CHUNK = 1 << 18
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
# The bytes as published: what a server compresses on the way has another checksum.
_AS_PUBLISHED = (("Accept-Encoding", "identity"),)


def receive(url: str, target: Path, *, progress: bool) -> None:
    """Write what lies at `url` to the file `target`, byte for byte.

    Proxies are those of the environment (HTTPS_PROXY, NO_PROXY). Raises UserError when the file
    cannot be had; `target` may then hold a part of it.
    """
    import requests
    from pooch import HTTPDownloader

    source = mirrored(url)
    download = HTTPDownloader(
        progressbar=progress, chunk_size=_CHUNK, timeout=_TIMEOUT_S, headers=dict(_AS_PUBLISHED)
    )
    for left in reversed(range(TRIES)):
        try:
            download(source, target, None)
            return
        except requests.RequestException as error:
            if not _may_pass(error):
                raise UserError(source, f"cannot be downloaded: {_reason(error)}") from None
            if not left:
                problem = f"cannot be downloaded, tried {TRIES} times: {_reason(error)}"
                raise UserError(source, problem) from None
        time.sleep(PAUSE_S * 2 ** (TRIES - 1 - left))


def mirrored(url: str) -> str:
    """`url` at the mirror of the model hub that HF_ENDPOINT names, where it is one of the hub's."""
    mirror = os.environ.get(HUB_VARIABLE, "").rstrip("/")
    if mirror and url.startswith(f"{HUB}/"):
        return mirror + url.removeprefix(HUB)
    return url


def _may_pass(error: Exception) -> bool:
    """Whether the server, or the way to it, may be better in a moment."""
    import requests

    if isinstance(error, requests.HTTPError):
        return error.response is not None and error.response.status_code in _BUSY
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, passing) and not isinstance(error, requests.exceptions.SSLError)


def _reason(error: Exception) -> str:
    """What happened, without the library's account of whom it asked for what."""
    inner = getattr(error.args[0], "reason", None) if error.args else None
    text = (str(inner or error).splitlines() or [type(error).__name__])[0]
    return text.partition("): ")[2] or text
