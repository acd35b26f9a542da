"""`cnmctl update`: change the limits and the restart policy of containers."""

from __future__ import annotations

import sys

from cnm.cli.container_api import path
from cnm.cli.container_limits import LIMIT_FLAGS, LIMITS, restart_policy
from cnm.cli.flags import STRING, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.report import for_each
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cnm.cli.client import Client
    from cnm.cli.flags import Arguments


def update(client: Client, arguments: Arguments) -> int:
    if not arguments.given:
        raise InvalidParameter("you must provide one or more flags when using this command")
    client = launcher(client)
    body: dict[str, Any] = {key: arguments[flag] for flag, key in LIMITS.items() if flag in arguments.given}
    if arguments["restart"]:
        body["RestartPolicy"] = restart_policy(arguments["restart"])
    warnings: list[str] = []

    def apply(name: str) -> None:
        answer = client.post(path(name, "update"), body) or {}
        warnings.extend(answer.get("Warnings") or ())

    code = for_each(arguments.operands, apply)
    for warning in warnings:
        print(f"WARNING: {warning}", file=sys.stderr)
    return code


UPDATE = Command(
    "update",
    "Change the limits of containers",
    update,
    "CONTAINER [CONTAINER...]",
    (
        *LIMIT_FLAGS,
        Flag("restart", STRING, "When it is started again: no, on-failure[:MAX], always, unless-stopped"),
    ),
)
