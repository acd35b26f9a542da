"""Relays between a client's connection and the streams of a container or an exec, in Docker's framing.

With a terminal the bytes go as they are. Without, what comes out is in frames: a byte for the stream, three zeros, four
bytes of length (Engine API, "Stream format"). What goes in is never framed.

One thread serves a connection. What the client does not take waits here, up to a limit; then the process has to
wait, as in Docker. conmon hears of nothing while it waits for an attacher, so two things end that: the process has
ended (then the little that is left is kept, however much it is), or another attacher waits, too (then whoever takes
nothing for a while is cut off).
"""

from __future__ import annotations

import select
import socket
import string
import struct
import time
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from cnm.errors import InvalidParameter
from cnm.launcher.streams import Stream, Streams

DETACH_KEYS = b"\x10\x11"
"""ctrl-p, ctrl-q."""

_OUTPUT_LIMIT = 1024 * 1024
_INPUT_LIMIT = 64 * 1024
_STALLED_SECONDS = 10.0
"""For which a client may take nothing while another waits for it."""
_PIECE = 64 * 1024
_CLOSING_MILLISECONDS = 20
"""Between two looks whether the process has been told of its input's end."""
_CONTROLLED = string.ascii_lowercase + "@[\\]^_"
_GONE = select.POLLHUP | select.POLLERR | select.POLLNVAL


class Ended(Enum):
    """Why a relay came to its end."""

    OUTPUT = "output"
    """The process has ended, and the client has been given all of its output."""
    INPUT = "input"
    """The client has ended its input, where that ends the attachment: as Docker has it."""
    CLIENT = "client"
    """The client went away."""
    DETACHED = "detached"
    """The client typed the detach keys."""
    STALLED = "stalled"
    """The client held up others."""


class Wish(NamedTuple):
    """What a client wants of the streams."""

    tty: bool
    stdin: bool = False
    """Never where the process has no standard input: the client's end would otherwise end the attachment."""
    stdout: bool = True
    stderr: bool = True
    closes_stdin: bool = True
    """Whether the end of the client's input is the end of the process' (StdinOnce; an exec always)."""
    detach_keys: bytes = DETACH_KEYS


def frame(stream: Stream, content: bytes) -> bytes:
    """Docker's multiplexed form of a piece of output."""
    return struct.pack(">BxxxL", stream, len(content)) + content


def detach_keys(text: str) -> bytes:
    """Docker's notation of the keys ("ctrl-p,ctrl-q", "a,ctrl-[") as the bytes that a terminal sends; "" for default.

    Raises InvalidParameter.
    """
    if not text:
        return DETACH_KEYS
    return b"".join(_key(key, text) for key in text.split(","))


def _key(key: str, text: str) -> bytes:
    if len(key) == 1:
        return key.encode("utf-8")
    if key.startswith("ctrl-") and len(key) == len("ctrl-x") and key[-1] in _CONTROLLED:
        return bytes([ord(key[-1].upper()) - ord("@")])
    raise InvalidParameter(f"Invalid detach keys ({text}) provided")


def relay(
    client: socket.socket,
    early: bytes,
    streams: Streams,
    wish: Wish,
    *,
    others: Callable[[], bool] = lambda: False,
) -> Ended:
    """Serve a client until one side has ended; `early` is what it has sent already. Neither side is closed.

    `others` tells whether somebody else waits for the same process' output.
    """
    return _Relay(client, early, streams, wish, others).run()


class _Relay:
    def __init__(
        self, client: socket.socket, early: bytes, streams: Streams, wish: Wish, others: Callable[[], bool]
    ) -> None:
        client.setblocking(False)
        self._client, self._streams, self._wish, self._others = client, streams, wish, others
        self._out, self._in = bytearray(), bytearray()
        self._client_speaks = True
        self._client_left = False
        """It hears nothing any more; what it has said, or its end, may wait for the process still."""
        self._input_open = wish.stdin
        self._keys = _Keys(wish.detach_keys) if wish.tty and wish.stdin else None
        self._deadline: float | None = None
        """When to wait no longer for output; known once the process has ended."""
        self._taken = time.monotonic()
        self._ended: Ended | None = None
        self._receive(early)

    def run(self) -> Ended:
        while self._ended is None:
            ready = self._wait()
            self._read_client(ready)
            self._write_process()
            self._read_process(ready)
            self._write_client()
            self._look_for_the_end(ready)
        return self._ended

    @property
    def _is_full(self) -> bool:
        return len(self._out) >= _OUTPUT_LIMIT and self._deadline is None

    def _wait(self) -> dict[int, int]:
        """Events by descriptor. Hang-ups are told unasked; a client that has ended its input is not gone."""
        wanted = {} if self._client_left else {self._client.fileno(): 0}
        if self._client_speaks and len(self._in) < _INPUT_LIMIT:
            wanted[self._client.fileno()] = select.POLLIN
        if self._out:
            wanted[self._client.fileno()] |= select.POLLOUT
        for output in () if self._is_full else self._streams.outputs():
            wanted[output] = select.POLLIN
        if self._in and self._input_open:
            wanted[self._streams.input()] = wanted.get(self._streams.input(), 0) | select.POLLOUT
        if self._streams.process >= 0 and self._deadline is None:
            wanted[self._streams.process] = select.POLLIN
        poll = select.poll()
        for descriptor, events in wanted.items():
            poll.register(descriptor, events)
        return dict(poll.poll(self._milliseconds()))

    def _milliseconds(self) -> int | None:
        if self._is_over_for_the_client:
            return _CLOSING_MILLISECONDS
        if self._deadline is not None:
            return 1 + int(1000 * min(max(self._deadline - time.monotonic(), 0), 60))
        return 1000 if self._is_full else None

    def _read_client(self, ready: dict[int, int]) -> None:
        events = ready.get(self._client.fileno(), 0)
        if events & select.POLLIN:
            try:
                content = self._client.recv(_PIECE)
            except BlockingIOError:
                return
            except OSError:
                content = b""
            if content:
                self._receive(content)
            else:
                self._client_speaks = False
        elif events & _GONE:
            self._lose_client()

    def _lose_client(self) -> None:
        self._client_left = True
        self._out.clear()

    def _receive(self, content: bytes) -> None:
        if not self._input_open or self._ended:
            return
        if self._keys:
            content, detached = self._keys.filter(content)
            if detached:
                self._ended = Ended.DETACHED
        self._in += content

    def _end_input(self) -> None:
        """The client has said all, and the process was told all. Docker's rule (daemon/attach.go)."""
        if self._wish.closes_stdin and not self._wish.tty:
            self._close_input()
        else:
            self._ended = self._ended or Ended.INPUT

    def _close_input(self) -> None:
        if self._input_open:
            self._input_open = False
            self._streams.close_input()

    def _write_process(self) -> None:
        if self._in and self._input_open:
            try:
                with memoryview(self._in) as view:
                    taken = self._streams.write(view)
                del self._in[:taken]
            except OSError:  # it has closed its input, or has ended: its output is still wanted
                self._close_input()
        if not self._input_open:
            self._in.clear()
        if self._wish.stdin and not self._in and not self._client_speaks:
            self._end_input()

    def _read_process(self, ready: dict[int, int]) -> None:
        for output in self._streams.outputs():
            if ready.get(output, 0) & (select.POLLIN | _GONE):
                stream, content = self._streams.read(output)
                if content and self._is_heard(stream):
                    self._out += content if self._wish.tty else frame(stream, content)

    def _is_heard(self, stream: Stream) -> bool:
        wanted = self._wish.stderr if stream is Stream.STDERR else self._wish.stdout
        return wanted and not self._client_left

    def _write_client(self) -> None:
        if not self._out or self._ended:
            return
        try:
            with memoryview(self._out) as view:
                taken = self._client.send(view[: 8 * _PIECE])
            del self._out[:taken]
        except BlockingIOError:
            return
        except OSError:
            self._lose_client()
        self._taken = time.monotonic()

    def _look_for_the_end(self, ready: dict[int, int]) -> None:
        now = time.monotonic()
        if ready.get(self._streams.process, 0) and self._deadline is None:
            self._deadline = now + self._streams.linger
        if self._is_over_for_the_client and not self._streams.is_input_closing():
            self._ended = self._ended or Ended.CLIENT
        if self._ended:
            return
        over = not self._streams.outputs() or (self._deadline is not None and now >= self._deadline)
        if over and not self._out:
            self._ended = Ended.OUTPUT
        elif over:
            self._flush()
        elif self._is_full and now - self._taken > _STALLED_SECONDS and self._others():
            self._ended = Ended.STALLED

    @property
    def _is_over_for_the_client(self) -> bool:
        has_input_left = self._input_open and (self._client_speaks or self._in)
        return self._client_left and not has_input_left

    def _flush(self) -> None:
        """Nothing more comes: give the client the rest, for as long as it is there."""
        self._client.setblocking(True)
        try:
            self._client.sendall(self._out)
            self._out.clear()
            self._ended = Ended.OUTPUT
        except OSError:
            self._ended = Ended.CLIENT


class _Keys:
    """Finds the detach keys in what is typed; a beginning of them is held back until the next key."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._typed = 0

    def filter(self, content: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys were typed."""
        passed = bytearray()
        for byte in content:
            if byte == self._keys[self._typed]:
                self._typed += 1
                if self._typed == len(self._keys):
                    return bytes(passed), True
            else:
                passed += self._keys[: self._typed]
                self._typed = 0
                passed.append(byte)
        return bytes(passed), False
