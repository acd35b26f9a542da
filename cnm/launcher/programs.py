"""The programs that containers are made with, and what they are told of their surroundings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

import msgspec

from cnm.errors import Unavailable


class Programs(msgspec.Struct, frozen=True, kw_only=True):
    """Paths; a program that is absent is an error only where it is needed."""

    runc: str = "runc"
    crun: str = "crun"
    conmon: str = "conmon"
    podman: str = "podman"
    init: str = "docker-init"
    """tini, for containers with an init of their own."""
    seccomp_profile: str = ""
    """JSON in Docker's form; "" for the first that is found of those that packages bring."""
    environment: Mapping[str, str] = {}
    """Over the launcher's own, for whatever it starts."""

    def path(self, name: str) -> str:
        """Where a program is. Raises Unavailable with the remedy."""
        return self.find(str(getattr(self, name)))

    def find(self, wanted: str) -> str:
        """Of a path, or a name that is looked up. Raises Unavailable."""
        found = shutil.which(wanted, path=self.environment.get("PATH", os.environ.get("PATH")))
        if found is None:
            raise Unavailable(
                f"{wanted} is not installed: install it, or say where it is in the settings of the launcher"
            )
        return found

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}
