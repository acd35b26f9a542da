"""Why a container did not start, in Docker's words and exit codes."""

from __future__ import annotations

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.runtime import RuntimeFailed

_NOT_STARTED = 128


class StartFailed(InvalidParameter):
    """The command is not there (exit code 127), or cannot be run (126): the request is wrong, as Docker has it."""


def explained(error: CnmError, command: str) -> CnmError:
    """What a client is told: Docker's words around the runtime's."""
    if not isinstance(error, RuntimeFailed):
        return error
    text = (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        f"{error.words}: unknown"
    )
    return StartFailed(text) if error.command_exit_code(command) is not None else CnmError(text)


def exit_code_of(error: CnmError, command: str) -> int:
    """What a container that could not be started has ended with (docker-run(1), exit status)."""
    code = error.command_exit_code(command) if isinstance(error, RuntimeFailed) else None
    return _NOT_STARTED if code is None else code
