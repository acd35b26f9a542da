"""Files are rewritten in place: the same file, and never less in it than was there, or than there is to be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cnm.store import in_place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file"


def put(path: Path, content: bytes) -> bytes | None:
    return in_place.rewrite(str(path), lambda _: content)


@pytest.mark.parametrize("content", [b"longer than before\n", b"short", b"", b"as it was\n"])
def test_the_file_stays_the_same_whatever_is_in_it(path: Path, content: bytes) -> None:
    path.write_bytes(b"as it was\n")
    before = path.stat()

    put(path, content)

    assert path.read_bytes() == content
    assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)


def test_the_content_before_is_told_and_nothing_where_it_stays(path: Path) -> None:
    assert put(path, b"one") == b""
    assert put(path, b"two") == b"one"
    assert put(path, b"two") is None
    assert in_place.read(str(path)) == b"two"


def test_a_missing_file_has_nothing_in_it(path: Path) -> None:
    assert in_place.read(str(path)) == b""


def test_a_file_is_for_everybody_to_read_whatever_the_umask(path: Path) -> None:
    umask = os.umask(0o077)
    try:
        put(path, b"text")
    finally:
        os.umask(umask)

    assert path.stat().st_mode & 0o777 == 0o644


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("theirs")
    path.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(OSError, match=r"too many|Too many") as refused:
        put(path, b"ours")

    assert refused.value.errno == errno.ELOOP
    assert (tmp_path / "elsewhere").read_text() == "theirs"


def test_a_full_disk_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(b"as it was\n")
    real = os.pwrite

    def short(descriptor: int, content: bytes, offset: int) -> int:
        return real(descriptor, content[:12], offset)

    monkeypatch.setattr("cnm.store.in_place.os.pwrite", short)

    with pytest.raises(OSError, match="No space left"):
        put(path, b"much longer than what was there")

    assert path.read_bytes() == b"as it was\n"


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        (b"a\nb\n", b"a\nb\nc\n", [b"a\nb\nc\n"]),
        (b"", b"a\n", [b"a\n"]),
        (b"a\nb\nc\n", b"a\nc\n", [b"a\nc\n\n\n", b"a\nc\n"]),
        (b"b\n", b"a\nb\n", [b"b\n\n\n", b"a\nb\n"]),
        (b"a\n", b"b\n", [b"b\n"]),
        (b"a\n", b"", [b"\n\n", b""]),
    ],
    ids=["added", "new", "shorter", "longer", "as long", "emptied"],
)
def test_in_between_is_one_content_or_the_other_with_empty_lines_behind_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes, after: bytes, steps: list[bytes]
) -> None:
    path.write_bytes(before)
    seen = []

    def watched(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            result = step(*arguments)
            seen.append(path.read_bytes())
            return result

        return call

    monkeypatch.setattr("cnm.store.in_place.os.pwrite", watched(os.pwrite))
    monkeypatch.setattr("cnm.store.in_place.os.ftruncate", watched(os.ftruncate))
    put(path, after)

    assert seen == steps
