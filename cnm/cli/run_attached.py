"""The foreground of `cnmctl run`, which one in the background need not load."""

from __future__ import annotations

from contextlib import nullcontext

from cnm.cli.attached import attach_query, check_terminal, signals_for, start_attached
from cnm.cli.streams import Streams
from cnm.cli.terminal import DetachKeys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def check(arguments: Arguments) -> None:
    """Before anything is made: raises CnmError for a terminal that is not there, InvalidParameter for wrong keys."""
    check_terminal(arguments["interactive"] or "stdin" in arguments["attach"], arguments["tty"])
    DetachKeys(arguments["detach-keys"])


def run_attached(client: Client, ident: str, body: dict[str, Any], arguments: Arguments) -> int:
    """Start the container that was made from `body`, as `start_attached` does."""
    stdin, stdout, stderr = (bool(body.get(key)) for key in ("AttachStdin", "AttachStdout", "AttachStderr"))
    tty, keys = arguments["tty"], arguments["detach-keys"]
    streams = Streams(stdin=stdin, output=stdout or stderr, tty=tty, keys=DetachKeys(keys) if tty else None)
    query = attach_query(stdin=stdin, stdout=stdout, stderr=stderr, detach_keys=keys)
    with signals_for(client, ident, tty) if arguments["sig-proxy"] else nullcontext():
        return start_attached(client, ident, streams, query, removes=arguments["rm"])
