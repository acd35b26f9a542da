"""`cnmctl attach`: the streams of a container that runs."""

from __future__ import annotations

from cnm.cli.attached import Window, attach_query, check_terminal, conversation, signals_for
from cnm.cli.container_api import exit_code, path
from cnm.cli.flags import BOOLEAN, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.process_flags import DETACH_KEYS
from cnm.cli.streams import Streams, relay
from cnm.cli.terminal import DetachKeys
from cnm.errors import Conflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def attach_to(client: Client, arguments: Arguments) -> int:
    client = launcher(client)
    keys = DetachKeys(arguments["detach-keys"])
    name = arguments.operands[0]
    container = _running(client, name)
    ident, tty = container["Id"], container["Config"]["Tty"]
    stdin = not arguments["no-stdin"]
    check_terminal(stdin, tty)
    streams = Streams(stdin=stdin and container["Config"]["OpenStdin"], tty=tty, keys=keys if tty else None)
    exited = client.begin("POST", path(ident, "wait"))
    if arguments["sig-proxy"] and not tty:
        with signals_for(client, ident, tty):
            _converse(client, ident, streams, arguments["detach-keys"])
            return exit_code(exited())
    _converse(client, ident, streams, arguments["detach-keys"])
    return exit_code(exited())


def _running(client: Client, name: str) -> Any:
    """The container. Raises Conflict with Docker's words for one that has no process to attach to."""
    container = client.get(path(name, "json"))
    state = container["State"]
    if not state["Running"]:
        raise Conflict("cannot attach to a stopped container, start it first")
    if state["Paused"]:
        raise Conflict("cannot attach to a paused container, unpause it first")
    if state["Restarting"]:
        raise Conflict("cannot attach to a restarting container, wait until it is running")
    return container


def _converse(client: Client, ident: str, streams: Streams, detach_keys: str) -> None:
    query = attach_query(stdin=streams.stdin, detach_keys=detach_keys)
    connection = client.upgrade(path(ident, "attach"), query=query)
    with conversation(connection, streams), Window(client, path(ident, "resize"), streams.tty) as window:
        _running(client, ident)  # one that ended before it was attached to would never say anything
        window.tell(more=1)  # a change of size has a shell show its prompt
        relay(connection, streams, window.due)


ATTACH = Command(
    "attach",
    "Attach the own stdin, stdout and stderr to a running container",
    attach_to,
    "CONTAINER",
    (
        DETACH_KEYS,
        Flag("no-stdin", BOOLEAN, "Do not attach stdin"),
        Flag("sig-proxy", BOOLEAN, "Pass signals on to its process", default=True),
    ),
)
