"""Docker's multiplexed stream: stdout and stderr of a process on one connection, in frames."""

from __future__ import annotations

from cnm.errors import CnmError

HEADER = 8
"""Bytes before each frame: its stream, three zeros, its length big-endian (Engine API, ContainerAttach)."""

STDOUT, STDERR, FAILURE = 1, 2, 3
"""Streams; 0, stdin, comes out as STDOUT. A FAILURE frame holds what the daemon says of its own trouble."""


class Demultiplexer:
    """Takes the stream in pieces of any length, and gives what they hold of each stream without waiting for more."""

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stream = STDOUT

    def feed(self, piece: bytes) -> list[tuple[int, bytes]]:
        """The contents in order, each with its stream, STDOUT or STDERR.

        Raises CnmError for what is no such stream and for a frame in which the daemon reports a failure.
        """
        found = []
        while piece:
            if not self._left:
                piece = self._read_header(piece)
                continue
            content, piece = piece[: self._left], piece[self._left :]
            self._left -= len(content)
            if self._stream == FAILURE:
                raise CnmError(f"error from daemon in stream: {content.decode('utf-8', 'replace').strip()}")
            found.append((self._stream, content))
        return found

    def _read_header(self, piece: bytes) -> bytes:
        missing = HEADER - len(self._head)
        self._head += piece[:missing]
        if len(self._head) == HEADER:
            self._stream = self._head[0] or STDOUT
            self._left = int.from_bytes(self._head[4:], "big")
            self._head = b""
            if self._stream > FAILURE:
                raise CnmError(f"unrecognized stream: {self._stream}: the daemon sent no multiplexed stream")
        return piece[missing:]
