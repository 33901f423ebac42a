"""What vLLM writes: kept in a file, off the terminal, and asked for the reason when it fails.

Its processes log hundreds of lines, and a failure in one shows in another only as "see above".
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

ASKED_FOR = ("VLLM_LOGGING_LEVEL", "VLLM_LOGGING_CONFIG_PATH")
"""A user who sets one of these wants vLLM's log on the terminal, as vLLM writes it."""

_EXCEPTION = re.compile(r"^([A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt)): (.+)$")
_ELSEWHERE = re.compile(r"see (the )?(stack trace|root cause)|^cancelled$", re.IGNORECASE)
_WORKER = re.compile(r"^Worker failed with error '(.+)', please check the stack trace above")


class EngineLog:
    """The log of one engine, `vllm.log` in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "vllm.log"
        self._config = folder / "logging.json"
        self._ours = not any(name in os.environ for name in ASKED_FOR)

    def environment(self) -> dict[str, str]:
        """Variables under which vLLM's processes write to the file."""
        if not self._ours:
            return {}
        handler = {
            "class": "logging.FileHandler",
            "filename": str(self.path),
            "formatter": "plain",
            "delay": True,
        }
        config = {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "plain": {"format": f"%(processName)s %(levelname)s {_MARK}%(message)s"}
            },
            "handlers": {"file": handler},
            "loggers": {"vllm": {"handlers": ["file"], "level": "INFO", "propagate": False}},
        }
        self._config.write_text(json.dumps(config), "utf-8")
        return {"VLLM_LOGGING_CONFIG_PATH": str(self._config)}

    @contextmanager
    def capture(self) -> Iterator[None]:
        """Within it, file descriptor 2 is the file, also for processes started there.

        They keep it. What this process writes to `sys.stderr` goes where it went before.
        """
        if not self._ours:
            yield
            return
        sys.stderr.flush()
        terminal = os.dup(2)
        before = sys.stderr
        with self.path.open("ab") as file:
            os.dup2(file.fileno(), 2)
        try:
            if _is_descriptor_2(before):
                sys.stderr = os.fdopen(os.dup(terminal), "w", buffering=1, errors="replace")
            yield
        finally:
            if sys.stderr is not before:
                sys.stderr.close()
                sys.stderr = before
            os.dup2(terminal, 2)
            os.close(terminal)
            _silence()

    def cause(self, error: BaseException) -> str:
        """Why `error` happened, in one line.

        What it says itself where it is of a setting, else the first reason in the log that refers
        to no other.
        """
        if isinstance(error, ValidationError):
            return _first_line(error.errors()[0]["msg"].removeprefix("Value error, "))
        text = self.path.read_text("utf-8", errors="replace") if self.path.is_file() else ""
        found = next(_reasons(text), None)
        return found or _first_line(str(error)) or type(error).__name__

    def kept(self) -> str:
        """A clause that names a copy of the log, which outlives the engine; empty without a log."""
        if not self.path.is_file():
            return ""
        handle, copy = tempfile.mkstemp(prefix="soma-bench-vllm-", suffix=".log")
        os.close(handle)
        shutil.copyfile(self.path, copy)
        return f" (vLLM's log: {copy})"


_MARK = "| "


def _reasons(text: str) -> Iterator[str]:
    """Reasons for a failure: exceptions first, in order, then what was logged as an error."""
    lines = text.splitlines()
    for line in lines:
        match = _EXCEPTION.match(line)
        if match is None:
            continue
        if inner := _WORKER.match(match[2]):
            yield inner[1]
        elif not _ELSEWHERE.search(match[2]):
            yield match[2]
    for line in lines:
        head, mark, message = line.partition(_MARK)
        if mark and head.split()[-1:] == ["ERROR"] and not message.startswith("Dumping "):
            yield message


def _silence() -> None:
    """Let vLLM's code in this process log nowhere: its handler's file goes with the engine.

    What goes wrong in it is raised.
    """
    logger = logging.getLogger("vllm")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(logging.NullHandler())
    logger.propagate = False


def _first_line(text: str) -> str:
    return " ".join((text.strip().splitlines() or [""])[0].split())


def _is_descriptor_2(stream: object) -> bool:
    try:
        return stream.fileno() == 2  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return False
