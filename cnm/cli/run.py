"""`cnmctl run` and `cnmctl create`: make a container, and be its process where it does not run in the background."""

from __future__ import annotations

import sys

from cnm.cli.container_api import DAEMON_FAILED, failure_code, path
from cnm.cli.container_create import create_container
from cnm.cli.container_flags import CREATE_FLAGS, RUN_FLAGS
from cnm.cli.container_request import create_body
from cnm.cli.flags import Command, UsageError
from cnm.cli.launcher_client import launcher
from cnm.cli.report import flush, report
from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
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
        from cnm.cli.run_attached import check, run_attached

        check(arguments)
    try:
        ident = create_container(client, body, arguments)
    except CnmError as error:
        report(error)
        print("See 'cnmctl run --help'.", file=sys.stderr)
        return failure_code(error)
    try:
        if not arguments["detach"]:
            return run_attached(client, ident, body, arguments)
        print(ident)
        flush()
        client.post(path(ident, "start"))
        return 0
    except CnmError as error:
        error.exit_code = failure_code(error)
        raise


def _body(name: str, arguments: Arguments) -> dict[str, Any]:
    """Raises UsageError for flags that are wrong, or wrong together."""
    try:
        if name == "run" and arguments["detach"] and arguments["attach"]:
            raise InvalidParameter("conflicting options: cannot specify both --attach and --detach")
        return create_body(arguments)
    except InvalidParameter as error:
        refusal = UsageError(f"{error}: see 'cnmctl {name} --help'")
        refusal.exit_code = DAEMON_FAILED
        raise refusal from None


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
