"""What is noted of images beside the store."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cnm.launcher.image_notes import ImageNotes


def test_words_are_kept_until_their_image_is_gone(tmp_path: Path) -> None:
    path = str(tmp_path / "parents.json")
    kept = ImageNotes(path, str)
    kept.note({"one": "base", "two": "one"}, lambda: {"base", "one", "two"})
    kept.note({"three": "two"}, lambda: {"two", "three"})

    for notes in (kept, ImageNotes(path, str)):
        assert [notes.of(image, "?") for image in ("one", "two", "three")] == ["?", "one", "two"]


def test_what_is_known_is_not_written_again(tmp_path: Path) -> None:
    notes = ImageNotes(str(tmp_path / "parents.json"), str)
    notes.note({"one": "base"}, lambda: {"one"})
    version = notes.version

    notes.note({"one": "base"}, lambda: pytest.fail("nothing has changed"))

    assert notes.version == version
    notes.note({"one": "other"}, lambda: {"one"})
    assert notes.version != version


@pytest.mark.parametrize("content", [b"{", b'{"one": "a word"}', b"\xff"])
def test_a_damaged_file_says_nothing(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tag-times.json"
    path.write_bytes(content)

    assert ImageNotes(str(path), int).of("one", 0) == 0


def test_a_file_that_cannot_be_written_is_told_of_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notes = ImageNotes(str(tmp_path / "gone" / "parents.json"), str)

    with caplog.at_level(logging.WARNING):
        notes.note({"one": "base"}, lambda: {"one"})

    assert "parents.json cannot be written: No such file or directory" in caplog.text
    assert notes.of("one", "") == "base"
