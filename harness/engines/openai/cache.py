"""Whose keys and values a server may use again: the salt of a request, or none."""

from __future__ import annotations

import secrets

from harness.engines.base import Scope
from harness.errors import UserError
from harness.session import Role


class Salts:
    """Salts that no other run, session or method has: requests share a cache by their salt alone.

    `controlled`: the server takes salts.
    """

    def __init__(self, role: Role, *, controlled: bool) -> None:
        self._role: Role = role
        self._controlled = controlled
        self._run = secrets.token_hex(16)

    def fields(self, scope: Scope) -> dict[str, str]:
        """What a request of `scope` says of the cache. Raises UserError for what cannot be said."""
        if self._controlled:
            mine = f"{self._run}-{scope.session}"
            return {"cache_salt": mine if scope.prefix_cache else secrets.token_hex(16)}
        if scope.session and not scope.prefix_cache:
            raise uncontrolled(self._role)
        return {}

    def renew(self) -> None:
        """From now on nothing earlier is used again."""
        self._run = secrets.token_hex(16)


def uncontrolled(role: Role) -> UserError:
    """A run wants the prefix cache off at a server that cannot be told so."""
    return UserError(
        "prefix_cache = 'off'",
        f'the server of {role} caches as it likes; run with prefix_cache = "on", or set '
        f"{role}.options.cache_salt = true if it takes vLLM's cache_salt",
    )
