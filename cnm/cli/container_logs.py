"""`cnmctl logs`: what a container wrote, and what it goes on to write."""

from __future__ import annotations

import sys
from datetime import datetime

from cnm.cli.client import Client, quote
from cnm.cli.events import timestamp
from cnm.cli.flags import BOOLEAN, STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher
from cnm.cli.output import write_bytes
from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEADER_SIZE = 8
STDOUT, STDERR, FAILURE = 1, 2, 3
"""Docker's framing of several streams in one: the stream, three zeros, the length as 4 bytes, big-endian."""


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
        for stream, piece in ((STDOUT, piece) for piece in answer) if is_terminal else streams(answer):
            write_bytes(sys.stderr if stream == STDERR else sys.stdout, piece)
    return 0


def _moment(name: str, text: str, now: datetime) -> str:
    try:
        return timestamp(text, now)
    except InvalidParameter as error:
        raise InvalidParameter(f'invalid value for "{name}": {error}') from None


def streams(pieces: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """(STDOUT or STDERR, bytes) for each frame. Raises CnmError for a failure that the daemon reports among them."""
    held = b""
    for piece in pieces:
        held += piece
        while len(held) >= HEADER_SIZE:
            end = HEADER_SIZE + int.from_bytes(held[4:HEADER_SIZE], "big")
            if len(held) < end:
                break
            stream, content, held = held[0], held[HEADER_SIZE:end], held[end:]
            if stream == FAILURE:
                raise CnmError(f"error from daemon in stream: {content.decode(errors='replace')}")
            yield stream, content


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
