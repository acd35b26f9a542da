"""`cnmctl logs`: what a container wrote, and what it goes on to write."""

from __future__ import annotations

import sys
from datetime import datetime

from cnm.cli.client import Client, quote
from cnm.cli.events import timestamp
from cnm.cli.flags import BOOLEAN, STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.output import write_bytes
from cnm.cli.stdcopy import STDERR, STDOUT, Demultiplexer
from cnm.errors import InvalidParameter


def logs(client: Client, arguments: Arguments) -> int:
    daemon = launcher(client)
    path = f"/containers/{quote(arguments.operands[0])}"
    query = {"stdout": "1", "stderr": "1", "tail": arguments["tail"]}
    now = datetime.now()
    for name in ("since", "until"):
        if arguments[name]:
            query[name] = _moment(name, arguments[name], now)
    for name in ("details", "follow", "timestamps"):
        if arguments[name]:
            query[name] = "1"
    is_terminal = daemon.get(f"{path}/json")["Config"]["Tty"]
    with daemon.download(f"{path}/logs", query) as answer:
        frames = Demultiplexer()
        for piece in answer:
            for stream, content in [(STDOUT, piece)] if is_terminal else frames.feed(piece):
                write_bytes(sys.stderr if stream == STDERR else sys.stdout, content)
    return 0


def _moment(name: str, text: str, now: datetime) -> str:
    try:
        return timestamp(text, now)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid value for "{name}": {error}') from None


LOGS = Command(
    "logs",
    "Show what a container wrote",
    logs,
    "CONTAINER",
    (
        Flag("details", BOOLEAN, "Show what the log driver keeps beside the text"),
        Flag("follow", BOOLEAN, "Go on with what it writes from now on", "f"),
        Flag("since", STRING, "Begin at this time: a date, a Unix time, or a duration ago such as 10m"),
        Flag("tail", STRING, "Number of lines from the end", "n", "all"),
        Flag("timestamps", BOOLEAN, "Show when each line was written", "t"),
        Flag("until", STRING, "End at this time"),
    ),
)
