"""`cnmctl exec`: a further process in a running container."""

from __future__ import annotations

from cnm.cli.attached import Window, check_terminal, conversation
from cnm.cli.container_api import DAEMON_FAILED, path
from cnm.cli.flags import BOOLEAN, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.process_flags import DETACH_KEYS, ENV, ENV_FILE, PRIVILEGED, TTY, USER, WORKDIR, environment
from cnm.cli.streams import STDOUT_FD, Streams, relay
from cnm.cli.terminal import DetachKeys, is_terminal, size
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def execute(client: Client, arguments: Arguments) -> int:
    client = launcher(client)
    container, *command = arguments.operands
    keys = DetachKeys(arguments["detach-keys"])
    body = _body(arguments, command)
    _check_terminal(client, container, arguments)
    ident = client.post(path(container, "exec"), body)["Id"]
    start = {key: body[key] for key in ("Tty", "ConsoleSize") if key in body}
    if arguments["detach"]:
        client.post(f"/exec/{ident}/start", {**start, "Detach": True})
        return 0
    tty = arguments["tty"]
    streams = Streams(stdin=arguments["interactive"], tty=tty, keys=keys if tty else None)
    connection = client.upgrade(f"/exec/{ident}/start", {**start, "Detach": False})
    with conversation(connection, streams), Window(client, f"/exec/{ident}/resize", tty) as window:
        relay(connection, streams, window.due)
    code: int = client.get(f"/exec/{ident}/json")["ExitCode"]
    return code


def _body(arguments: Arguments, command: list[str]) -> dict[str, Any]:
    """An ExecCreate of the Engine API."""
    attached = not arguments["detach"]
    body = {
        "AttachStdin": attached and arguments["interactive"],
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Cmd": command,
        "DetachKeys": arguments["detach-keys"],
        "Env": environment(arguments),
        "Privileged": arguments["privileged"],
        "Tty": arguments["tty"],
        "User": arguments["user"],
        "WorkingDir": arguments["workdir"],
    }
    if arguments["tty"] and is_terminal(STDOUT_FD):
        body["ConsoleSize"] = list(size(STDOUT_FD))
    return {key: value for key, value in body.items() if value}


def _check_terminal(client: Client, container: str, arguments: Arguments) -> None:
    """Before the daemon keeps an exec that nobody will start; a container that is not there is the better reason."""
    if arguments["detach"]:
        return
    try:
        check_terminal(arguments["interactive"], arguments["tty"])
    except CnmError:
        client.get(path(container, "json"))
        raise


EXEC = Command(
    "exec",
    "Run a command in a running container",
    execute,
    "CONTAINER COMMAND [ARG...]",
    (
        Flag("detach", BOOLEAN, "Run it in the background", "d"),
        DETACH_KEYS,
        ENV,
        ENV_FILE,
        Flag("interactive", BOOLEAN, "Keep its stdin open", "i"),
        PRIVILEGED,
        TTY,
        USER,
        WORKDIR,
    ),
    passes_rest=True,
    passes_dashes=True,
    usage_code=DAEMON_FAILED,
)
