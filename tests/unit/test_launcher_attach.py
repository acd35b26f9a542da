"""Docker's framing of streams, detach keys, and what a relay does with either side's end."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.attach import Ended, Wish, detach_keys, frame, relay
from cnm.launcher.streams import PipeStreams, Stream, drain
from tests.support.multiplexed import read_all, split
from tests.support.small_containers import eventually

PATIENCE = 20.0


class Child:
    """A shell with pipes, as the far side of a relay."""

    def __init__(self, script: str) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(["sh", "-c", script], stdin=pipe, stdout=pipe, stderr=pipe)
        assert self._process.stdin
        assert self._process.stdout
        assert self._process.stderr
        ends = (self._process.stdin, self._process.stdout, self._process.stderr)
        stdin, stdout, stderr = (os.dup(end.fileno()) for end in ends)
        for end in ends:
            end.close()
        self.streams = PipeStreams(stdin, stdout, stderr, os.pidfd_open(self._process.pid))

    def close(self) -> None:
        self.streams.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    client, server = socket.socketpair()
    client.settimeout(PATIENCE)
    with client, server:
        yield client, server


def _relay(
    sockets: tuple[socket.socket, socket.socket], script: str, wish: Wish, said: bytes, *, early: bytes = b""
) -> tuple[Ended, bytes]:
    """What a client that says `said` and then nothing more hears, and how the relay ended."""
    client, server = sockets
    child = Child(script)
    ended: list[Ended] = []

    def run() -> None:
        ended.append(relay(server, early, child.streams, wish))
        server.close()

    client.sendall(said)
    client.shutdown(socket.SHUT_WR)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        heard = read_all(client)
    finally:
        thread.join(PATIENCE)
        child.close()
    return ended[0], heard


def test_a_frame_is_stream_zeros_length_and_content() -> None:
    assert frame(Stream.STDERR, b"abc") == b"\x02\0\0\0\0\0\0\x03abc"
    assert frame(Stream.STDOUT, b"") == b"\x01\0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", b"\x10\x11"),
        ("ctrl-a", b"\x01"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a,ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"a\0\x1b\x1c\x1d\x1e\x1f"),
        ("x,y", b"xy"),
    ],
)
def test_detach_keys_are_read_as_docker_writes_them(text: str, keys: bytes) -> None:
    assert detach_keys(text) == keys


@pytest.mark.parametrize("text", ["ctrl-", "ctrl-ab", "ab", "a,,b", "ctrl-1", "ctrl-A"])
def test_keys_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"Invalid detach keys \(.*\) provided"):
        detach_keys(text)


@pytest.mark.parametrize(
    ("typed", "passed", "ended"),
    [
        (b"ab\x10\x11cd", b"ab", Ended.DETACHED),
        (b"\x10x\x10\x11", b"\x10x", Ended.DETACHED),
        (b"\x10", b"", Ended.INPUT),
        (b"\x10y\n", b"\x10y\n", Ended.INPUT),
        (b"\x11\x10\n", b"\x11\x10\n", Ended.INPUT),
    ],
)
def test_keys_are_found_in_what_is_typed_and_their_beginning_is_held_back(
    sockets: tuple[socket.socket, socket.socket], typed: bytes, passed: bytes, ended: Ended
) -> None:
    client, server = sockets
    child = Child("exec cat")
    try:
        client.sendall(typed)
        client.shutdown(socket.SHUT_WR)
        assert relay(server, b"", child.streams, Wish(tty=True, stdin=True)) is ended
        child.streams.close_input()
        rest = bytearray()
        drain(child.streams, rest.extend, PATIENCE)
        server.shutdown(socket.SHUT_WR)

        assert read_all(client) + rest == passed
    finally:
        child.close()


def test_without_a_terminal_keys_are_bytes_like_others(sockets: tuple[socket.socket, socket.socket]) -> None:
    wish = Wish(tty=False, stdin=True)

    ended, heard = _relay(sockets, "cat", wish, b"a\x10\x11b", early=b"early")

    assert (ended, split(heard)) == (Ended.OUTPUT, {1: b"earlya\x10\x11b"})


def test_a_process_that_reads_nothing_is_heard_to_its_end(
    sockets: tuple[socket.socket, socket.socket],
) -> None:
    ended, heard = _relay(
        sockets, "exec <&-; seq 3; echo end >&2", Wish(tty=False, stdin=True), b"x" * 100_000
    )

    assert (ended, split(heard)) == (Ended.OUTPUT, {1: b"1\n2\n3\n", 2: b"end\n"})


def test_only_the_streams_that_were_asked_for_are_sent(sockets: tuple[socket.socket, socket.socket]) -> None:
    _, heard = _relay(sockets, "echo out; echo err >&2", Wish(tty=False, stdout=False), b"ignored")

    assert split(heard) == {2: b"err\n"}


class _Late(PipeStreams):
    """Its process has ended, and what it said comes between the first poll and the second."""

    def __init__(self, child: Child) -> None:
        reading, self._writing = os.pipe()
        super().__init__(-1, reading, -1, child.streams.process)
        self._looks = 0

    def outputs(self) -> list[int]:
        self._looks += 1
        if self._looks == 2:
            os.write(self._writing, b"last word")
        return super().outputs()


def test_the_last_word_is_drained_though_the_end_was_seen_before_it() -> None:
    child = Child("exit 0")
    late = _Late(child)
    heard = bytearray()
    select.select([late.process], [], [], PATIENCE)
    try:
        assert drain(late, heard.extend, PATIENCE)
    finally:
        os.close(late._writing)
        late.process = -1
        late.close()
        child.close()

    assert heard == b"last word"


@pytest.mark.parametrize("first", ["", "seq 100000;"])
def test_what_a_client_has_said_is_passed_on_though_it_has_left(
    sockets: tuple[socket.socket, socket.socket], tmp_path: Path, first: str
) -> None:
    client, server = sockets
    reads, counted = tmp_path / "reads", tmp_path / "counted"
    child = Child(
        f"{first} until test -e {reads}; do sleep 0.1; done; wc -c >{counted}; exec sleep 1000 >&- 2>&-"
    )
    relaying = threading.Thread(target=relay, args=(server, b"", child.streams, Wish(tty=False, stdin=True)))
    relaying.start()
    try:
        client.sendall(b"x" * 200_000)
        client.close()
        time.sleep(0.3)  # the relay hears of it
        reads.touch()
        relaying.join(PATIENCE)
        child.streams.close_input()
        eventually(lambda: counted.exists() and counted.read_text())
    finally:
        child.close()

    assert counted.read_text().strip() == "200000"
