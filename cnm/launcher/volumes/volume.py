"""A volume as it is kept, whatever driver has its content."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

import msgspec

from cnm.launcher.volumes.drivers import LOCAL, Scope

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of those that nobody has named (Docker's since 23.0)."""


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for when it was made."""

    name: str
    driver: str = LOCAL
    created: int = 0
    """Nanoseconds since 1970; 0 where another host has made it."""
    labels: Mapping[str, str] | None = None
    """None where none were given, as Docker tells them."""
    options: Mapping[str, str] | None = None
    scope: Scope = Scope.LOCAL

    @property
    def is_anonymous(self) -> bool:
        return ANONYMOUS in (self.labels or {})

    @property
    def is_own(self) -> bool:
        """Whether its files are in its folder on this host, and not where a plugin or its options have them."""
        return self.driver == LOCAL and not self.options


def new_name() -> str:
    """64 hex digits."""
    return secrets.token_hex(32)
