"""`cnmctl start`: containers that were made, or have exited, run again."""

from __future__ import annotations

from contextlib import nullcontext

from cnm.cli.attached import Window, attach, conversation, exit_code, path, signals_for
from cnm.cli.container_flags import DETACH_KEYS
from cnm.cli.flags import BOOLEAN, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.report import for_each
from cnm.cli.streams import Detached, Streams, relay
from cnm.cli.terminal import DetachKeys
from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def start(client: Client, arguments: Arguments) -> int:
    client = launcher(client)
    names = arguments.operands
    if not arguments["attach"] and not arguments["interactive"]:
        return for_each(names, lambda name: client.post(path(name, "start")))
    if len(names) > 1:
        raise InvalidParameter("you cannot start and attach multiple containers at once")
    keys = DetachKeys(arguments["detach-keys"])
    container = client.get(path(names[0], "json"))
    ident, tty = container["Id"], container["Config"]["Tty"]
    stdin = arguments["interactive"] and container["Config"]["OpenStdin"]
    streams = Streams(stdin=stdin, tty=tty, keys=keys if tty else None)
    with nullcontext() if tty else signals_for(client, ident, tty):
        return _start_attached(client, container, streams, arguments["detach-keys"])


def _start_attached(client: Client, container: Any, streams: Streams, detach_keys: str) -> int:
    ident, removes = container["Id"], container["HostConfig"]["AutoRemove"]
    connection = attach(client, ident, stdin=streams.stdin, stdout=True, stderr=True, detach_keys=detach_keys)
    exited = client.begin("POST", path(ident, "wait"), {"condition": "removed" if removes else "next-exit"})
    try:
        with conversation(connection, streams), Window(client, path(ident, "resize"), streams.tty) as size:
            try:
                client.post(path(ident, "start"))
            except CnmError:
                if removes:
                    exited()
                raise
            relay(connection, streams, size.due)
    except Detached:
        return 0
    return exit_code(exited())


START = Command(
    "start",
    "Start containers",
    start,
    "CONTAINER [CONTAINER...]",
    (
        Flag("attach", BOOLEAN, "Attach stdout and stderr, and pass signals on", "a"),
        DETACH_KEYS,
        Flag("interactive", BOOLEAN, "Attach stdin", "i"),
    ),
)
