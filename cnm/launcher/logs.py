"""A container's log, which conmon writes (k8s-file), as Docker's log entries.

A line is "TIME STREAM TAG TEXT": RFC 3339 with nanoseconds, stdout or stderr, F for a full line, P for a piece that
came without its end: the pieces of a stream up to its next F are one entry.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from cnm.kernel.inotify import FileWatch
from cnm.launcher.attach import frame
from cnm.launcher.streams import Stream

HEARTBEAT = 1.0
"""Seconds after which a reader that follows yields None although nothing came: its client may have gone."""

_BLOCK = 64 * 1024
_LONGEST = 1024 * 1024
"""Bytes of an entry; what is longer comes in several."""
_NANO = 10**9
_STREAMS = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}
_FULL = b"F"


class Entry(NamedTuple):
    """`time` in nanoseconds since 1970, of its end; `text` with its newline, if it had one."""

    time: int
    stream: Stream
    text: bytes


def read(
    path: str,
    *,
    since: int = 0,
    until: int = 0,
    tail: int | None = None,
    follow: bool = False,
    stdout: bool = True,
    stderr: bool = True,
    ended: Callable[[], bool] = lambda: True,
) -> Iterator[Entry | None]:
    """The entries of a log; a log that does not exist has none.

    `since` and `until` are nanoseconds since 1970, 0 for no limit. `tail` counts the last entries of both streams, None
    for all. With `follow` it goes on until `ended()` and everything is read, or until `until`; None is yielded before
    it waits, and about once a second.
    """
    wanted = {stream for stream, asked in ((Stream.STDOUT, stdout), (Stream.STDERR, stderr)) if asked}
    for entry in _entries(path, tail, follow, ended):
        if entry is None:
            if until and time.time_ns() > until:
                return
            yield None
        elif until and entry.time > until:
            return
        elif entry.time >= since and entry.stream in wanted:
            yield entry


def render(entries: Iterable[Entry | None], *, tty: bool, timestamps: bool = False) -> Iterator[bytes]:
    """Docker's answer, in few and large pieces: frames, raw with a terminal. A pause is b"" or what was gathered."""
    gathered = bytearray()
    for entry in entries:
        if entry is not None:
            text = _stamp(entry.time) + entry.text if timestamps else entry.text
            gathered += text if tty else frame(entry.stream, text)
        if entry is None or len(gathered) >= _BLOCK:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)


def _entries(path: str, tail: int | None, follow: bool, ended: Callable[[], bool]) -> Iterator[Entry | None]:
    try:
        file = open(path, "rb")  # noqa: SIM115 - the with statement is below
    except FileNotFoundError:
        return
    with file:
        joined = _Joined()
        end = os.fstat(file.fileno()).st_size
        past = _past(file.fileno(), _tail_start(file.fileno(), end, tail), end, joined)
        if not follow:
            past = itertools.chain(past, joined.rest())
        yield from past if tail is None else deque(past, maxlen=tail)
        if follow:
            yield from _follow(path, file.fileno(), end, joined, ended)


def _past(descriptor: int, begin: int, end: int, joined: _Joined) -> Iterator[Entry]:
    while begin < end:
        content = os.pread(descriptor, min(_BLOCK, end - begin), begin)
        if not content:
            return
        begin += len(content)
        yield from joined.add(content)


_SOON, _LOOKS = 0.02, 100
"""Seconds between looks, and how many: conmon closes the log a little before the record says that all is over.

docker-compose 1 wants to hear of both within a tenth of a second.
"""


def _follow(
    path: str, descriptor: int, position: int, joined: _Joined, ended: Callable[[], bool]
) -> Iterator[Entry | None]:
    watch = FileWatch(path)
    looks = 0
    try:
        while True:
            over = ended()  # before the last look
            while content := os.pread(descriptor, _BLOCK, position):
                position += len(content)
                yield from joined.add(content)
            if over:
                yield from joined.rest()
                return
            yield None
            looks = _LOOKS if watch.wait(_SOON if looks else HEARTBEAT) else max(looks - 1, 0)
    finally:
        watch.close()


def _tail_start(descriptor: int, end: int, tail: int | None) -> int:
    """Where to begin, so that the last `tail` entries are behind it: found from the end, a block at a time."""
    if tail is None:
        return 0
    position, left = end, tail + 1  # the end of the entry before them, too
    while position > 0 and left > 0:
        begin = max(position - _BLOCK, 0)
        block = os.pread(descriptor, position - begin, begin)
        first = 0 if begin == 0 else block.find(b"\n") + 1
        if begin and not first:
            first = len(block)  # one line is longer than the block
        left -= sum(line.split(b" ", 3)[2:3] == [_FULL] for line in block[first:].splitlines())
        position = begin + first if first < len(block) else begin
    return position


class _Joined:
    """Turns the log's bytes into entries, however they are cut."""

    def __init__(self) -> None:
        self._line = b""
        self._pieces = {stream: bytearray() for stream in _STREAMS.values()}
        self._times = dict.fromkeys(_STREAMS.values(), 0)
        self._clock = _Clock()

    def add(self, content: bytes) -> Iterator[Entry]:
        *lines, self._line = (self._line + content).split(b"\n")
        for line in lines:
            stamp, _, rest = line.partition(b" ")
            name, _, rest = rest.partition(b" ")
            tag, _, text = rest.partition(b" ")
            stream, moment = _STREAMS.get(name), self._clock.time(stamp)
            if stream and moment:  # else a power cut has left it, or somebody has edited the file
                yield from self._entry(stream, moment, tag == _FULL, text)

    def rest(self) -> Iterator[Entry]:
        """Pieces whose end never came: the container ended before it."""
        for stream, pieces in self._pieces.items():
            if pieces:
                yield Entry(self._times[stream], stream, bytes(pieces))
                pieces.clear()

    def _entry(self, stream: Stream, moment: int, full: bool, text: bytes) -> Iterator[Entry]:
        pieces = self._pieces[stream]
        if full:
            if pieces:
                text = bytes(pieces) + text
                pieces.clear()
            yield Entry(moment, stream, text + b"\n")
            return
        pieces += text
        self._times[stream] = moment
        if len(pieces) >= _LONGEST:
            yield Entry(moment, stream, bytes(pieces))
            pieces.clear()


class _Clock:
    """Reads times; lines that follow each other mostly share their second."""

    def __init__(self) -> None:
        self._second, self._zone, self._seconds = b"", b"", 0

    def time(self, stamp: bytes) -> int:
        """Nanoseconds since 1970, 0 for what is no time; conmon always writes nine digits, and the zone as +00:00."""
        second, zone = stamp[:19], stamp[29:]
        try:
            if second != self._second or zone != self._zone:
                self._seconds = int(datetime.fromisoformat((second + zone).decode()).timestamp())
                self._second, self._zone = second, zone
            return self._seconds * _NANO + int(stamp[20:29])
        except ValueError:
            return 0


def _stamp(moment: int) -> bytes:
    """Docker's RFC3339NanoFixed, in UTC, and the space behind it."""
    seconds, nano = divmod(moment, _NANO)
    return _second(seconds) + b".%09dZ " % nano


@functools.lru_cache(maxsize=16)
def _second(seconds: int) -> bytes:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
