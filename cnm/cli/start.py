"""`cnmctl start`: containers that were made, or have exited, run again."""

from __future__ import annotations

from cnm.cli.container_api import path
from cnm.cli.flags import BOOLEAN, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.process_flags import DETACH_KEYS
from cnm.cli.report import for_each
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def start(client: Client, arguments: Arguments) -> int:
    client = launcher(client)
    names = arguments.operands
    if not arguments["attach"] and not arguments["interactive"]:
        return for_each(names, lambda name: client.post(path(name, "start")))
    if len(names) > 1:
        raise InvalidParameter("you cannot start and attach multiple containers at once")
    return _start_attached(client, names[0], arguments)


def _start_attached(client: Client, name: str, arguments: Arguments) -> int:
    from contextlib import nullcontext

    from cnm.cli.attached import attach_query, signals_for, start_attached
    from cnm.cli.streams import Streams
    from cnm.cli.terminal import DetachKeys

    keys = DetachKeys(arguments["detach-keys"])
    container = client.get(path(name, "json"))
    ident, tty = container["Id"], container["Config"]["Tty"]
    stdin = arguments["interactive"] and container["Config"]["OpenStdin"]
    streams = Streams(stdin=stdin, tty=tty, keys=keys if tty else None)
    query = attach_query(stdin=stdin, detach_keys=arguments["detach-keys"])
    with nullcontext() if tty else signals_for(client, ident, tty):
        return start_attached(client, ident, streams, query, removes=container["HostConfig"]["AutoRemove"])


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
