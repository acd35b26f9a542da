"""Why a container did not start, in Docker's words and exit codes."""

from __future__ import annotations

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.runtime import RuntimeFailed

_NOT_FOUND = ("executable file not found", "no such file or directory")
_NOT_EXECUTABLE = ("permission denied", "not a directory", "is a directory", "exec format error")


class StartFailed(InvalidParameter):
    """The command is not there (exit code 127), or cannot be run (126): the request is wrong, as Docker has it."""


def start_failure(error: RuntimeFailed) -> CnmError:
    """What a client is told of the runtime's refusal."""
    text = (
        "failed to create task for container: failed to create shim task: OCI runtime create failed: "
        f"runc create failed: {error}: unknown"
    )
    return StartFailed(text) if exit_code_of(error) in (126, 127) else CnmError(text)


def exit_code_of(error: CnmError) -> int:
    """What a container that could not be started has ended with (docker-run(1), exit status)."""
    text = str(error)
    if not isinstance(error, RuntimeFailed | StartFailed):
        return 128
    if any(words in text for words in _NOT_FOUND):
        return 127
    if any(words in text for words in _NOT_EXECUTABLE):
        return 126
    return 128
