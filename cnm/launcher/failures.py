"""Why a container or an exec did not start, or was not what it had to be, in Docker's words and exit codes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cnm.errors import CnmError, Conflict, InvalidParameter
from cnm.kernel.processes import is_running
from cnm.launcher.container import Container
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


def check_alive(container: Container) -> None:
    """Raises Conflict for one that does not run."""
    if not container.state.status.is_alive:
        raise Conflict(f"Container {container.id} is not running")


@contextlib.contextmanager
def while_it_runs(container: Container) -> Iterator[None]:
    """What the runtime refuses of one that has just ended by itself is no fault of the runtime's. Raises Conflict."""
    try:
        yield
    except RuntimeFailed:
        if is_running(container.state.pid, container.state.pid_started):
            raise
        raise Conflict(f"Container {container.id} is not running") from None


@contextlib.contextmanager
def said_of(what: str, reference: str = "") -> Iterator[None]:
    """Docker's words before those of what went wrong in the block."""
    try:
        yield
    except CnmError as error:
        error.args = (": ".join(filter(None, (what, reference, str(error)))),)
        raise
