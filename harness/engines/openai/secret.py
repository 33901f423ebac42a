"""The key of a server: read from the environment, sent in one header, kept out of everything."""

from __future__ import annotations

import os

from harness.errors import UserError

_RUN = 8
"""So many consecutive characters of a key count as a piece of it."""
_SURELY_A_KEY = 16
"""A shorter key (servers of one's own take `EMPTY` or `test`) may be a word of a reply."""
_MASK = "[key]"


class ApiKey:
    """A key, or none. Its value leaves this object only in `headers`."""

    __slots__ = ("_value",)

    def __init__(self, value: str | None) -> None:
        self._value = value

    @classmethod
    def from_environment(cls, variable: str | None) -> ApiKey:
        """The key in that variable; None, no key is sent.

        Raises UserError, without the value, when it is unset, empty or cannot be in a header.
        """
        if variable is None:
            return cls(None)
        place = f"api_key_env = {variable!r}"
        value = os.environ.get(variable, "").strip()
        if not value:
            problem = "the environment variable is unset or empty; export the server's key in it"
            raise UserError(place, problem)
        if not (value.isascii() and value.isprintable()) or " " in value:
            raise UserError(place, "the environment variable holds no key: plain characters only")
        return cls(value)

    def headers(self) -> dict[str, str]:
        return {} if self._value is None else {"Authorization": f"Bearer {self._value}"}

    def scrub(self, text: str) -> str:
        """`text` of a server's without the key, and without any longer piece of it."""
        key = self._value
        if key is None:
            return text
        width = min(_RUN, len(key))
        hidden = [False] * len(text)
        for start in range(len(key) - width + 1):
            piece = key[start : start + width]
            at = text.find(piece)
            while at >= 0:
                hidden[at : at + width] = [True] * width
                at = text.find(piece, at + 1)
        return "".join(
            _MASK if hide and not before else "" if hide else character
            for character, hide, before in zip(text, hidden, [False, *hidden], strict=False)
        )

    def scrub_reply(self, text: str) -> str:
        """A reply without the key, should the server have put it there.

        A key of fewer than 16 characters is left: it would be missing from innocent replies.
        """
        key = self._value
        if key is None or len(key) < _SURELY_A_KEY:
            return text
        return text.replace(key, _MASK)

    def __repr__(self) -> str:
        return "ApiKey(none)" if self._value is None else "ApiKey(hidden)"
