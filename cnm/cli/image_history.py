"""`cnmctl history`: the steps by which an image was made."""

from __future__ import annotations

from cnm.cli.client import Client, quote
from cnm.cli.flags import BOOLEAN, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.output import LIST_FORMAT, Listing
from cnm.cli.quantities import age, decimal_size, local_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HEADINGS = {
    "Comment": "COMMENT",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "CreatedSince": "CREATED",
    "ID": "IMAGE",
    "Size": "SIZE",
}
_WIDTH = 45


def history(client: Client, arguments: Arguments) -> int:
    steps = launcher(client).get(f"/images/{quote(arguments.operands[0])}/history") or []
    rows = [_row(step, whole=arguments["no-trunc"], human=arguments["human"]) for step in steps]
    columns = ("ID", "CreatedSince" if arguments["human"] else "CreatedAt", "CreatedBy", "Size", "Comment")
    return Listing("*formatter.historyContext", columns, _HEADINGS).show(rows, arguments)


def _row(step: dict[str, Any], *, whole: bool, human: bool) -> dict[str, str]:
    identifier = step["Id"]
    words = step["CreatedBy"].replace("\t", " ")
    return {
        "ID": identifier if whole or ":" not in identifier else identifier.partition(":")[2][:12],
        "CreatedAt": local_time(step["Created"]),
        "CreatedSince": age(step["Created"]),
        "CreatedBy": words if whole or len(words) <= _WIDTH else f"{words[: _WIDTH - 1]}…",
        "Size": decimal_size(step["Size"], 3) if human else str(step["Size"]),
        "Comment": step["Comment"],
    }


HISTORY = Command(
    "history",
    "Show how an image came to be, the newest step first",
    history,
    "IMAGE",
    (
        LIST_FORMAT,
        Flag("human", BOOLEAN, "Sizes and times for people", "H", True),
        Flag("no-trunc", BOOLEAN, "Do not shorten the output"),
        Flag("quiet", BOOLEAN, "Show IDs only", "q"),
    ),
)
