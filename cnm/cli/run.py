"""`cnmctl run` and `cnmctl create`: make a container, and be its process where it does not run in the background."""

from __future__ import annotations

import sys
from contextlib import nullcontext

from cnm.cli.attached import (
    DAEMON_FAILED,
    Window,
    attach,
    check_terminal,
    conversation,
    exit_code,
    failure_code,
    path,
    signals_for,
)
from cnm.cli.container_create import create_container
from cnm.cli.container_flags import CREATE_FLAGS, RUN_FLAGS
from cnm.cli.container_request import create_body
from cnm.cli.flags import Command, UsageError
from cnm.cli.launcher_client import launcher
from cnm.cli.report import flush, report
from cnm.cli.streams import Detached, Streams, relay
from cnm.cli.terminal import DetachKeys
from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def create(client: Client, arguments: Arguments) -> int:
    print(create_container(launcher(client), _body("create", arguments), arguments))
    return 0


def run(client: Client, arguments: Arguments) -> int:
    client = launcher(client)
    body = _body("run", arguments)
    if arguments["detach"]:
        for key in ("AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce"):
            body.pop(key, None)
    else:
        check_terminal(body.get("AttachStdin", False), arguments["tty"])
    try:
        ident = create_container(client, body, arguments)
    except CnmError as error:
        report(error)
        print("See 'cnmctl run --help'.", file=sys.stderr)
        return failure_code(error)
    try:
        if arguments["detach"]:
            print(ident)
            flush()
            client.post(path(ident, "start"))
            return 0
        with signals_for(client, ident, arguments["tty"]) if arguments["sig-proxy"] else nullcontext():
            return _run_attached(client, ident, body, arguments)
    except CnmError as error:
        error.exit_code = failure_code(error)
        raise


def _body(name: str, arguments: Arguments) -> dict[str, Any]:
    """Raises UsageError for flags that are wrong, or wrong together."""
    try:
        if name == "run":
            DetachKeys(arguments["detach-keys"])
            if arguments["detach"] and arguments["attach"]:
                raise InvalidParameter("conflicting options: cannot specify both --attach and --detach")
        return create_body(arguments)
    except InvalidParameter as error:
        refusal = UsageError(f"{error}: see 'cnmctl {name} --help'")
        refusal.exit_code = DAEMON_FAILED
        raise refusal from None


def _run_attached(client: Client, ident: str, body: dict[str, Any], arguments: Arguments) -> int:
    """Docker's order: attach, so that nothing of the output is missed, and wait, so that its end is not; then start."""
    tty = arguments["tty"]
    streams = Streams(
        stdin=bool(body.get("AttachStdin")),
        output=bool(body.get("AttachStdout") or body.get("AttachStderr")),
        tty=tty,
        keys=DetachKeys(arguments["detach-keys"]) if tty else None,
    )
    connection = attach(
        client,
        ident,
        stdin=streams.stdin,
        stdout=bool(body.get("AttachStdout")),
        stderr=bool(body.get("AttachStderr")),
        detach_keys=arguments["detach-keys"],
    )
    condition = "removed" if arguments["rm"] else "next-exit"
    exited = client.begin("POST", path(ident, "wait"), {"condition": condition})
    try:
        with conversation(connection, streams), Window(client, path(ident, "resize"), tty) as size:
            _start(client, ident, exited if arguments["rm"] else None)
            relay(connection, streams, size.due)
    except Detached:
        return 0
    return exit_code(exited())


def _start(client: Client, ident: str, removed: Callable[[], Any] | None) -> None:
    try:
        client.post(path(ident, "start"))
    except CnmError:
        if removed:
            removed()
        raise


_OPERANDS = "IMAGE [COMMAND] [ARG...]"

CREATE = Command(
    "create",
    "Make a container",
    create,
    _OPERANDS,
    CREATE_FLAGS,
    passes_rest=True,
    passes_dashes=True,
    usage_code=DAEMON_FAILED,
)
RUN = Command(
    "run",
    "Make a container and run it",
    run,
    _OPERANDS,
    RUN_FLAGS,
    passes_rest=True,
    passes_dashes=True,
    usage_code=DAEMON_FAILED,
)
