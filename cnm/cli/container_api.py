"""Containers in the Engine API: where they are, and the exit codes that its answers become."""

from __future__ import annotations

from cnm.cli.client import quote
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DAEMON_FAILED = 125
NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""Exit codes of `run` that are not the container's own, Docker's."""


def path(container: str, verb: str) -> str:
    return f"/containers/{quote(container)}/{verb}"


def exit_code(waited: Any) -> int:
    """Of what the daemon answers to `wait`. Raises CnmError for what it says went wrong."""
    failure = (waited.get("Error") or {}).get("Message")
    if failure:
        error = CnmError(f"error waiting for container: {failure}")
        error.exit_code = DAEMON_FAILED
        raise error
    code: int = waited["StatusCode"]
    return code


def failure_code(error: CnmError) -> int:
    """The exit code of a `run` whose process could not be started: 127 not found, 126 not executable, else 125.

    The runtime's words say which, as for the docker CLI: runStartContainerErr in docker/cli.
    """
    words = str(error)
    if "executable file not found" in words or "no such file or directory" in words:
        return NOT_FOUND
    if "permission denied" in words or "is a directory" in words:
        return NOT_EXECUTABLE
    return DAEMON_FAILED
