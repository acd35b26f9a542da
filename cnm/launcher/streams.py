"""A process' streams, a container's or an exec's, as a relay sees them: what comes out, what goes in, when it ends."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from typing import Protocol

from cnm.launcher import monitor

_PIECE = 32 * 1024
"""Bytes that are read at a time; conmon's packets have 8193 at most."""
_LINGER_SECONDS = 2.0
"""Docker's."""
_CONMON_STDERR = 3
_PACKET = 8192
"""Bytes of input in a packet: conmon reads up to 32 KiB, and the rest of a longer packet is lost."""


class Stream(IntEnum):
    """Docker's numbers."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2


class Streams(Protocol):
    """Non-blocking. A descriptor that is not there is -1."""

    process: int
    """A pidfd: it is readable once the process has ended."""
    linger: float
    """Seconds for which more output is waited for then, which processes in the background may hold open."""

    def outputs(self) -> list[int]:
        """Descriptors that more may be read from; none at the end of all."""

    def read(self, output: int) -> tuple[Stream, bytes]:
        """What has come, b"" for nothing; at its end the output is closed and forgotten."""

    def input(self) -> int:
        """The descriptor that is written to."""

    def write(self, content: bytes | memoryview) -> int:
        """How many bytes were taken. Raises BrokenPipeError where nobody reads."""

    def close_input(self) -> None:
        """Tell the process that nothing more comes."""

    def is_input_closing(self) -> bool:
        """Whether the process has not been told yet: to `close` now could keep it from ever being."""

    def close(self) -> None:
        """Let go of everything; the process goes on."""


class ContainerStreams:
    """A connection to conmon's attach socket. Packets begin with conmon's number of the stream."""

    linger = float("inf")  # conmon ends the connection

    def __init__(self, bundle: str, pid: int) -> None:
        """`pid` is the container's first process. Raises Conflict where the container has no monitor."""
        self._socket = monitor.connect(bundle)
        self._socket.setblocking(False)
        self._ended = self._input_closed = False
        self._input = monitor.Input(bundle, pid)
        self.process = _pidfd(pid)

    def outputs(self) -> list[int]:
        return [] if self._ended else [self._socket.fileno()]

    def read(self, output: int) -> tuple[Stream, bytes]:
        try:
            packet = self._socket.recv(_PIECE)
        except BlockingIOError:
            return Stream.STDOUT, b""
        except ConnectionResetError:
            packet = b""
        if not packet:
            self._ended = True
            return Stream.STDOUT, b""
        return (Stream.STDERR if packet[0] == _CONMON_STDERR else Stream.STDOUT), packet[1:]

    def input(self) -> int:
        return self._socket.fileno()

    def write(self, content: bytes | memoryview) -> int:
        try:
            return self._socket.send(content[:_PACKET])
        except BlockingIOError:
            return 0

    def close_input(self) -> None:
        """It ends for all attachers, if the monitor was told `stdin_once`."""
        self._input_closed = True
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def is_input_closing(self) -> bool:
        """The monitor ends the input if it comes to the end of ours before it fails to write to us."""
        return self._input_closed and self._input.is_open()

    def close(self) -> None:
        self._socket.close()
        _close(self.process)
        self.process = -1

    def park(self) -> socket.socket:
        """Take no more output, and do not end the input: whoever has the socket does that by closing it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RD)
            while self._socket.recv(_PIECE):  # conmon may wait for room; then it learns that nobody listens
                pass
        parked = self._socket.dup()
        self.close()
        return parked


class PipeStreams:
    """Our ends of three pipes; -1 for one that there is not. They become this object's."""

    linger = _LINGER_SECONDS

    def __init__(self, stdin: int, stdout: int, stderr: int, process: int) -> None:
        self._input = stdin
        self._outputs = {
            end: stream for end, stream in ((stdout, Stream.STDOUT), (stderr, Stream.STDERR)) if end >= 0
        }
        self.process = process
        for end in (stdin, stdout, stderr):
            if end >= 0:
                os.set_blocking(end, False)

    def outputs(self) -> list[int]:
        return list(self._outputs)

    def read(self, output: int) -> tuple[Stream, bytes]:
        stream = self._outputs[output]
        try:
            content = os.read(output, _PIECE)
        except BlockingIOError:
            return stream, b""
        if not content:
            del self._outputs[output]
            os.close(output)
        return stream, content

    def input(self) -> int:
        return self._input

    def write(self, content: bytes | memoryview) -> int:
        try:
            return os.write(self._input, content)
        except BlockingIOError:
            return 0

    def close_input(self) -> None:
        _close(self._input)
        self._input = -1

    def is_input_closing(self) -> bool:
        return False

    def close(self) -> None:
        self.close_input()
        for end in (*self._outputs, self.process):
            _close(end)
        self._outputs.clear()
        self.process = -1


class TerminalStreams:
    """The master of a pseudo-terminal, which becomes this object's."""

    linger = _LINGER_SECONDS

    def __init__(self, master: int, process: int) -> None:
        self._master = master
        self.process = process
        os.set_blocking(master, False)
        self._ended = False

    def outputs(self) -> list[int]:
        return [] if self._ended else [self._master]

    def read(self, output: int) -> tuple[Stream, bytes]:
        try:
            content = os.read(output, _PIECE)
        except BlockingIOError:
            return Stream.STDOUT, b""
        except OSError:  # EIO: nobody has the terminal open any more
            content = b""
        self._ended = not content
        return Stream.STDOUT, content

    def input(self) -> int:
        return self._master

    def write(self, content: bytes | memoryview) -> int:
        try:
            return os.write(self._master, content)
        except BlockingIOError:
            return 0
        except OSError:
            raise BrokenPipeError from None

    def close_input(self) -> None:
        """A terminal has one end only."""

    def is_input_closing(self) -> bool:
        return False

    def resize(self, rows: int, columns: int) -> None:
        """Its processes are told by SIGWINCH."""
        size = struct.pack("4H", rows & 0xFFFF, columns & 0xFFFF, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)

    def close(self) -> None:
        for end in (self._master, self.process):
            _close(end)
        self._master = self.process = -1
        self._ended = True


def drain(
    streams: Streams, keep: Callable[[bytes], None] = lambda _content: None, seconds: float | None = None
) -> bool:
    """Read what comes until the process has ended, so that it never waits; returns False where it takes longer."""
    deadline = None if seconds is None else time.monotonic() + seconds
    process = [streams.process] if streams.process >= 0 else []
    has_ended = False
    while outputs := streams.outputs():
        poll = select.poll()
        for descriptor in (*outputs, *process):
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(None if deadline is None else max(deadline - time.monotonic(), 0) * 1000)
        if not ready:
            return False
        speaking = [descriptor for descriptor, _ in ready if descriptor in outputs]
        for output in speaking:
            keep(streams.read(output)[1])
        # Only a poll that began after the end tells: the last word and the end may both come amid one.
        if has_ended and not speaking:
            break
        has_ended = len(ready) > len(speaking)
    return True


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return -1


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
