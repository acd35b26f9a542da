"""conmon's log as Docker's entries: pieces joined, limits, the tail of large files, following."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.kernel import inotify
from cnm.launcher.logs import Entry, read, render
from cnm.launcher.streams import Stream
from tests.support.multiplexed import split

_START = 1_700_000_000
"""2023-11-14T22:13:20Z."""
PATIENCE = 20.0


def _line(second: int, stream: str, tag: str, text: str, zone: str = "+00:00", nano: int = 5) -> str:
    return f"2023-11-14T22:13:{20 + second:02}.{nano:09}{zone} {stream} {tag} {text}\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


def _texts(path: Path, **limits: object) -> list[bytes]:
    return [entry.text for entry in read(str(path), **limits) if entry is not None]  # type: ignore[arg-type]


def test_lines_are_entries_with_their_stream_and_time(path: Path) -> None:
    path.write_text(_line(0, "stdout", "F", "one two  three ") + _line(1, "stderr", "F", ""))

    assert list(read(str(path))) == [
        Entry(_START * 10**9 + 5, Stream.STDOUT, b"one two  three \n"),
        Entry((_START + 1) * 10**9 + 5, Stream.STDERR, b"\n"),
    ]


def test_a_zone_is_heeded(path: Path) -> None:
    path.write_text(_line(0, "stdout", "F", "there", zone="+02:00"))

    (entry,) = read(str(path))

    assert entry
    assert entry.time == (_START - 7200) * 10**9 + 5


def test_pieces_of_a_stream_are_one_entry_whatever_the_other_says_between(path: Path) -> None:
    path.write_text(
        _line(0, "stdout", "P", "a ")
        + _line(1, "stderr", "F", "other")
        + _line(2, "stdout", "P", "b")
        + _line(3, "stdout", "F", "")
    )

    assert _texts(path) == [b"other\n", b"a b\n"]


def test_pieces_whose_end_never_came_come_last_without_a_newline(path: Path) -> None:
    path.write_text(_line(0, "stdout", "F", "a") + _line(1, "stdout", "P", "prompt> "))

    assert _texts(path) == [b"a\n", b"prompt> "]
    assert _texts(path, tail=1) == [b"prompt> "]


def test_pieces_without_end_do_not_fill_the_memory(path: Path) -> None:
    with path.open("w") as file:
        for _ in range(400):
            file.write(_line(0, "stdout", "P", "x" * 8192))

    texts = _texts(path)

    assert b"".join(texts) == b"x" * 400 * 8192
    assert max(map(len, texts)) < 1_100_000


def test_limits_of_time_and_stream(path: Path) -> None:
    path.write_text(
        "".join(_line(n, "stdout" if n % 2 else "stderr", "F", str(n), nano=0) for n in range(10))
    )
    second = 10**9

    assert _texts(path, since=(_START + 7) * second) == [b"7\n", b"8\n", b"9\n"]
    assert _texts(path, until=(_START + 1) * second) == [b"0\n", b"1\n"]
    assert _texts(path, tail=4, stderr=False) == [b"7\n", b"9\n"]
    assert _texts(path, tail=0) == []
    assert _texts(path, tail=100) == [b"%d\n" % n for n in range(10)]


def test_what_is_no_line_of_a_log_is_passed_over(path: Path) -> None:
    good = _line(0, "stdout", "F", "good").encode()
    path.write_bytes(b"\0" * 5000 + b"\n" + b"x stdout F y\n" + good + b"nonsense\n\n" + good + b"2023-")

    assert _texts(path) == [b"good\n"] * 2


def test_a_log_that_is_not_there_has_no_entries(path: Path) -> None:
    assert _texts(path) == []
    assert _texts(path, follow=True) == []


@given(
    lengths=st.lists(st.integers(0, 90_000), max_size=12),
    tail=st.integers(0, 14),
    pieces=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_the_tail_is_the_end_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], tail: int, pieces: list[bool]
) -> None:
    path = tmp_path_factory.mktemp("tail") / "log"
    with path.open("w") as file:
        for length, piece in zip(lengths, pieces, strict=False):
            file.write(_line(0, "stdout", "P" if piece else "F", "F " * (length // 2)))

    whole = _texts(path)

    assert _texts(path, tail=tail) == (whole[-tail:] if tail else [])


def test_the_tail_of_a_large_log_is_found_from_its_end(path: Path) -> None:
    with path.open("w") as file:
        file.truncate(50 << 30)  # a hole: reading all of it would take minutes
        file.seek(50 << 30)
        file.write("\n" + "".join(_line(0, "stdout", "F", str(n)) for n in range(3000)))

    assert _texts(path, tail=2000) == [b"%d\n" % n for n in range(1000, 3000)]


@pytest.mark.parametrize("has_inotify", [True, False])
def test_a_follower_hears_what_is_written_and_ends_with_the_container(
    path: Path, has_inotify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_inotify:
        monkeypatch.setattr(inotify, "_libc", _WithoutInotify())
    path.write_text("".join(_line(0, "stdout", "F", str(n)) for n in range(3)))
    ended = threading.Event()
    entries = read(str(path), follow=True, tail=1, ended=ended.is_set)

    assert _next(entries).text == b"2\n"
    with path.open("a") as file:
        for text in ("more", "words"):
            file.write(_line(1, "stdout", "F", text))
            file.flush()
            assert _next(entries).text == text.encode() + b"\n"
        file.write(_line(1, "stdout", "F", "half")[:40])
        file.flush()
        assert next(entries) is None
        file.write(_line(1, "stdout", "F", "half")[40:] + _line(1, "stdout", "P", "rest"))
        ended.set()

    assert [entry.text for entry in entries if entry] == [b"half\n", b"rest"]


def test_a_follower_is_woken_and_does_not_poll(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnm.launcher.logs.HEARTBEAT", 1000.0)
    path.write_text("")
    entries = read(str(path), follow=True, ended=lambda: False)
    assert next(entries) is None
    heard: list[Entry] = []
    listener = threading.Thread(target=lambda: heard.append(_next(entries)))
    listener.start()

    with path.open("a") as file:
        file.write(_line(0, "stdout", "F", "now"))

    listener.join(PATIENCE)
    assert [entry.text for entry in heard] == [b"now\n"]


def test_followers_leave_no_descriptor(path: Path) -> None:
    path.write_text(_line(0, "stdout", "F", "one"))
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(5):
        entries = read(str(path), follow=True, ended=lambda: False)
        next(entries)
        next(entries)
        entries.close()  # type: ignore[attr-defined]

    assert set(os.listdir("/proc/self/fd")) == before


def test_answers_are_framed_or_raw_and_stamped_as_docker_does_it() -> None:
    entries = [
        Entry(_START * 10**9 + 120, Stream.STDOUT, b"a\r\n"),
        Entry((_START + 1) * 10**9, Stream.STDERR, b"b\n"),
    ]
    stamps = (b"2023-11-14T22:13:20.000000120Z ", b"2023-11-14T22:13:21.000000000Z ")

    assert b"".join(render(entries, tty=True)) == b"a\r\nb\n"
    assert split(b"".join(render(entries, tty=False))) == {1: b"a\r\n", 2: b"b\n"}
    framed = split(b"".join(render(entries, tty=False, timestamps=True)))
    assert framed == {1: stamps[0] + b"a\r\n", 2: stamps[1] + b"b\n"}


def test_pieces_of_an_answer_are_large_and_pauses_send_what_there_is() -> None:
    line = Entry(_START * 10**9, Stream.STDOUT, b"x" * 99 + b"\n")

    pieces = list(render([line] * 5000 + [None, line, None, None], tty=True))

    assert len(pieces) < 20
    assert pieces[-2:] == [b"x" * 99 + b"\n", b""]
    assert sum(map(len, pieces)) == 500_100


def _next(entries: Iterator[Entry | None]) -> Entry:
    return next(entry for entry in entries if entry is not None)


class _WithoutInotify:
    def inotify_init1(self, _flags: int) -> int:
        return -1
