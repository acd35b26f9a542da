"""A log that its writer begins anew, read by who follows."""

from __future__ import annotations

import os
from pathlib import Path

from cnm.launcher.logs import Entry, read
from cnm.launcher.streams import Stream


def _line(text: str) -> str:
    return f"2026-01-01T00:00:00.000000000+00:00 stdout F {text}\n"


def test_a_follower_reads_the_old_file_to_its_end_and_then_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(_line("one"))
    over = False
    entries = read(str(path), follow=True, ended=lambda: over)
    assert [next(entries), next(entries)] == [_entry("one"), None]

    with path.open("a") as old:
        old.write(_line("two"))
        (tmp_path / "log.tmp").write_text(_line("three"))
        os.rename(tmp_path / "log.tmp", path)
    assert [next(entries), next(entries), next(entries)] == [_entry("two"), _entry("three"), None]

    with path.open("a") as new:
        new.write(_line("four"))
    over = True
    assert list(entries) == [_entry("four")]


def test_a_follower_of_a_log_that_is_removed_ends_with_its_container(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(_line("one"))
    over = False
    entries = read(str(path), follow=True, ended=lambda: over)
    assert [next(entries), next(entries)] == [_entry("one"), None]

    path.unlink()
    over = True

    assert list(entries) == []


def _entry(text: str) -> Entry:
    return Entry(1_767_225_600 * 10**9, Stream.STDOUT, f"{text}\n".encode())
