"""Why a container did not start, in Docker's words and exit codes."""

from __future__ import annotations

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.runtime import RuntimeFailed

_NOT_STARTED = 128


class StartFailed(InvalidParameter):
    """Something is not there (exit code 127), or cannot be run (126): the request is wrong, as Docker has it."""


def explained(error: CnmError) -> CnmError:
    """What a client is told: Docker's words around the runtime's."""
    if not isinstance(error, RuntimeFailed):
        return error
    text = (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        f"{error.told}"
    )
    return CnmError(text) if error.process_exit_code is None else StartFailed(text)


def exec_refused(error: RuntimeFailed) -> CnmError:
    """The same of an exec, whose words are the runtime's."""
    return error if error.process_exit_code is None else StartFailed(str(error))


def exit_code_of(error: CnmError) -> int:
    """What a container that could not be started has ended with (docker-run(1), exit status)."""
    code = error.process_exit_code if isinstance(error, RuntimeFailed) else None
    return _NOT_STARTED if code is None else code
