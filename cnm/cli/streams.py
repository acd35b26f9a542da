"""Carry bytes between this program's own streams and a connection to a process in a container."""

from __future__ import annotations

import _socket
import os
import select

from cnm.cli.report import flush
from cnm.cli.stdcopy import STDERR, STDOUT, Demultiplexer
from cnm.errors import CnmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cnm.cli.terminal import DetachKeys

STDIN_FD, STDOUT_FD, STDERR_FD = 0, 1, 2
_OUTPUTS = {STDOUT: STDOUT_FD, STDERR: STDERR_FD}

_PIECE = 65536
_WRITE = select.PIPE_BUF
"""So many bytes a pipe that polls writable takes without blocking (pipe(7))."""


class Detached(CnmError):
    """The user typed the keys that detach."""

    def __init__(self) -> None:
        super().__init__("read escape sequence")


class Streams:
    """Which streams take part. With `tty` the process has one stream for all it writes, and it comes as it is."""

    __slots__ = ("keys", "output", "stdin", "tty")

    def __init__(
        self, *, stdin: bool, output: bool = True, tty: bool, keys: DetachKeys | None = None
    ) -> None:
        """`output` is either of stdout and stderr: which the daemon sends is said when it is asked for them."""
        self.stdin = stdin
        self.output = output
        self.tty = tty
        self.keys = keys


def relay(
    connection: tuple[_socket.socket, bytes], streams: Streams, due: Callable[[], int | None] | None = None
) -> None:
    """Until the process has closed what it writes, or, where only stdin takes part, until that has ended.

    `due` is called before each wait and says after how many milliseconds it wants to be called again, None: never.
    Raises Detached, CnmError for a stream that is broken, and OSError where this program's own streams are.
    """
    sock, received = connection
    flush()
    sock.setblocking(False)
    inward = _Inward(sock, streams)
    outward = _Outward(sock, streams, received)
    while not outward.done and (streams.output or not inward.done):
        _wait((inward, outward), due() if due else None)
        inward.step()
        outward.step()


def _wait(ways: tuple[_Inward, _Outward], milliseconds: int | None) -> None:
    poll = select.poll()
    wanted: dict[int, int] = {}
    for way in ways:
        for descriptor, events in way.wants().items():
            wanted[descriptor] = wanted.get(descriptor, 0) | events
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    ready = dict(poll.poll(milliseconds))
    for way in ways:
        way.ready = {
            descriptor
            for descriptor, events in way.wants().items()
            if ready.get(descriptor, 0) & (events | select.POLLERR | select.POLLHUP | select.POLLNVAL)
        }


class _Inward:
    """From stdin to the process."""

    def __init__(self, sock: _socket.socket, streams: Streams) -> None:
        self._sock = sock
        self._keys = streams.keys
        self._pending = b""
        self._ended = not streams.stdin
        self.done = False
        self.ready: set[int] = set()
        if self._ended:
            self._finish()

    def wants(self) -> dict[int, int]:
        if self._pending:
            return {self._sock.fileno(): select.POLLOUT}
        return {} if self._ended else {STDIN_FD: select.POLLIN}

    def step(self) -> None:
        if STDIN_FD in self.ready and not self._pending:
            self._read()
        if self._pending:
            self._send()
        if self._keys and self._keys.detached and not self._pending:
            raise Detached
        if self._ended and not self._pending and not self.done:
            self._finish()

    def _read(self) -> None:
        try:
            piece = os.read(STDIN_FD, _PIECE)
        except BlockingIOError:
            return  # whoever opened it made it so, and another reader was faster
        except OSError:
            piece = b""  # a terminal that has gone, or no stdin at all
        self._ended = not piece
        self._pending = self._keys.passed(piece) if self._keys else piece

    def _send(self) -> None:
        try:
            self._pending = self._pending[self._sock.send(self._pending) :]
        except BlockingIOError:
            return
        except OSError:  # the process does not read any more; what it still writes is worth having
            self._pending, self._ended = b"", True

    def _finish(self) -> None:
        self.done = True
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:
            return  # the other side has closed already


class _Outward:
    """From the process to stdout and stderr."""

    def __init__(self, sock: _socket.socket, streams: Streams, received: bytes) -> None:
        self._sock = sock
        self._demultiplexer = None if streams.tty else Demultiplexer()
        self._wanted = streams.output
        self._pending: list[tuple[int, memoryview]] = []
        self._ended = False
        self.ready: set[int] = set()
        self._take(received)

    @property
    def done(self) -> bool:
        return self._ended and not self._pending

    def wants(self) -> dict[int, int]:
        if self._pending:
            return {self._pending[0][0]: select.POLLOUT}
        return {} if self._ended else {self._sock.fileno(): select.POLLIN}

    def step(self) -> None:
        if self._pending:
            if self._pending[0][0] in self.ready:
                self._write()
        elif self._sock.fileno() in self.ready:
            self._read()

    def _read(self) -> None:
        try:
            piece = self._sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CnmError(f"the connection to the process broke: {reason}") from None
        self._ended = not piece
        self._take(piece)

    def _take(self, piece: bytes) -> None:
        if not self._wanted:
            return
        if self._demultiplexer is None:
            self._pending += [(STDOUT_FD, memoryview(piece))] if piece else []
        else:
            contents = self._demultiplexer.feed(piece)
            self._pending += [(_OUTPUTS[stream], memoryview(content)) for stream, content in contents]

    def _write(self) -> None:
        descriptor, content = self._pending[0]
        try:
            rest = content[os.write(descriptor, content[:_WRITE]) :]
        except BlockingIOError:
            return  # whoever opened it made it so, and another writer was faster
        if rest:
            self._pending[0] = descriptor, rest
        else:
            del self._pending[0]
