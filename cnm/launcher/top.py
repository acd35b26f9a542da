"""`docker top`: what the host's ps says about a container's processes."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Iterator

import msgspec

from cnm.errors import CnmError, InvalidParameter

_RENAMED = re.compile(r"\s+([^\s]*)=\s*(PID[^\s]*)")
_PATIENCE = 30.0


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """Docker's answer: a row has as many fields as there are titles."""

    titles: list[str] = msgspec.field(name="Titles")
    processes: list[list[str]] = msgspec.field(name="Processes")


def top(pids: Collection[int], arguments: str = "") -> Top:
    """`arguments` are ps's, "" for -ef; `pids` the container's. Rules and texts are dockerd's (daemon/top_unix.go).

    Raises InvalidParameter where another column is called PID, CnmError with what ps complains of.
    """
    arguments = arguments or "-ef"
    for column, title in _RENAMED.findall(arguments):
        if column != "pid":
            raise InvalidParameter(f'specifying "{column}={title}" is not allowed')
    given = arguments.split(" ")
    done = _ps([*given, "-q", ",".join(map(str, pids))])
    if done.returncode != 0:
        done = _ps(given)  # some options cannot be used together with -q
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").partition("\n")[0]
        raise CnmError(f"ps: {reason or f'exit status {done.returncode}'}")
    return select(done.stdout.decode("utf-8", "replace"), frozenset(pids))


def select(output: str, pids: Collection[int]) -> Top:
    """The rows of these processes; rows of threads, whose PID is "-", go with the process before them."""
    header, *lines = output.split("\n")
    titles = header.split()
    if "PID" not in titles:
        raise CnmError("Couldn't find PID field in ps output")
    rows = _rows(lines, titles.index("PID"), pids)
    return Top(titles=titles, processes=[_as_wide(row, len(titles)) for row in rows])


def _rows(lines: list[str], column: int, pids: Collection[int]) -> Iterator[list[str]]:
    ours = False
    for fields in filter(None, map(str.split, lines)):
        pid = fields[column]
        if pid != "-":
            if not pid.isdecimal():
                raise CnmError(f"Unexpected pid '{pid}'")
            ours = int(pid) in pids
        if ours:
            yield fields


def _as_wide(row: list[str], width: int) -> list[str]:
    return [*row[: width - 1], " ".join(row[width - 1 :])]


def _ps(arguments: list[str]) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["ps", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except FileNotFoundError:
        raise CnmError("ps is not installed: install procps") from None
    except subprocess.TimeoutExpired:
        raise CnmError(f"ps gave no answer for {_PATIENCE:.0f} s") from None
