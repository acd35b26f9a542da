"""The log that conmon writes, read while it does, and afterwards."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from cnm.launcher.logs import read, render
from cnm.launcher.streams import Stream
from tests.support.multiplexed import split
from tests.support.small_containers import Bundle, Containers


def _texts(bundle: Bundle, tail: int | None = None) -> list[bytes]:
    return [entry.text for entry in read(bundle.log, tail=tail) if entry]


def test_both_streams_and_a_last_line_without_end(made: Containers) -> None:
    bundle = made.run("sh", "-c", "echo out; sleep 0.1; echo err >&2; sleep 0.1; printf half")
    made.await_exit(bundle)

    entries = [entry for entry in read(bundle.log) if entry]

    assert [(entry.stream, entry.text) for entry in entries] == [
        (Stream.STDOUT, b"out\n"),
        (Stream.STDERR, b"err\n"),
        (Stream.STDOUT, b"half"),
    ]
    assert entries[0].time < entries[1].time < entries[2].time


def test_a_line_longer_than_conmons_buffer_is_one_entry(made: Containers) -> None:
    bundle = made.run("sh", "-c", "yes | head -c 100000 | busybox tr -d '\\n'; echo; echo end")
    made.await_exit(bundle)

    assert _texts(bundle) == [b"y" * 50_000 + b"\n", b"end\n"]
    assert _texts(bundle, tail=1) == [b"end\n"]


def test_a_terminals_log_is_raw(made: Containers) -> None:
    bundle = made.run("sh", "-c", "echo one; echo two", tty=True)
    made.await_exit(bundle)

    assert b"".join(render(read(bundle.log), tty=True)) == b"one\r\ntwo\r\n"


def test_a_follower_hears_every_line_of_a_talkative_container_and_then_ends(made: Containers) -> None:
    bundle = made.bundle("seq", "100000")
    made.create(bundle)
    ended = threading.Event()
    said: list[bytes] = []
    entries = read(bundle.log, follow=True, ended=ended.is_set)
    listener = threading.Thread(target=lambda: said.extend(render(entries, tty=False)))
    listener.start()

    made.runtime.start(bundle.id)
    made.await_exit(bundle)
    ended.set()
    listener.join(20)

    assert not listener.is_alive()
    assert split(b"".join(said))[1] == "".join(f"{n}\n" for n in range(1, 100_001)).encode()


def test_a_container_without_a_log_has_no_entries(made: Containers) -> None:
    bundle = made.bundle("echo", "unheard")._replace(log="")
    made.create(bundle)
    made.runtime.start(bundle.id)
    assert made.await_exit(bundle) == 0

    assert list(read(str(Path(bundle.path, "log")))) == []


def test_a_follower_is_not_held_up_by_a_container_that_is_silent(made: Containers) -> None:
    bundle = made.run("sleep", "1000")

    assert next(read(bundle.log, follow=True, ended=lambda: False)) is None

    made.runtime.kill(bundle.id, signal.SIGKILL)
    made.await_exit(bundle)
