"""`cnmctl top`: the processes of a container, as the host's ps sees them."""

from __future__ import annotations

from cnm.cli.client import Client, quote
from cnm.cli.flags import Arguments, Command
from cnm.cli.launcher_client import launcher
from cnm.cli.output import table

TOP_WIDTH = 20
"""Docker's columns of this command are at least so wide."""


def top(client: Client, arguments: Arguments) -> int:
    name, *options = arguments.operands
    query = {"ps_args": " ".join(options)} if options else None
    found = launcher(client).get(f"/containers/{quote(name)}/top", query)
    print(table([found["Titles"], *(found["Processes"] or ())], least=TOP_WIDTH))
    return 0


TOP = Command("top", "Show the processes of a container", top, "CONTAINER [PS-OPTIONS...]", passes_rest=True)
