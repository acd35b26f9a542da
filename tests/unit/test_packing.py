"""Trees as tars, and layers as files, with what file systems allow in names."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import socket
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.layer_blob import changes_of, chunks, decompressed, written
from cnm.launcher.packing import END, Packer


def _packed(root: Path) -> dict[str, tarfile.TarInfo]:
    descriptor = os.open(root, os.O_PATH)
    try:
        data = b"".join(Packer(descriptor).tree(".", "")) + END
    finally:
        os.close(descriptor)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


def test_names_need_not_be_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe" + b"n" * 120)
    (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(name)

    found = _packed(tmp_path)

    assert set(found) == {name, "link"}
    assert found["link"].linkname == name


def test_sockets_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        (tmp_path / "file").touch()

        assert set(_packed(tmp_path)) == {"file"}


def test_a_file_with_many_names_is_stored_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("content")
    os.link(tmp_path / "a", tmp_path / "b")

    found = _packed(tmp_path)

    assert (found["a"].size, found["b"].islnk(), found["b"].linkname) == (7, True, "a")


def test_no_changes_are_an_empty_layer(tmp_path: Path) -> None:
    (tmp_path / "upper").mkdir()

    assert written(str(tmp_path), changes_of(str(tmp_path / "upper"))).is_empty


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, bytes])
def test_what_was_compressed_is_read_plain(compress: Callable[[bytes], bytes], tmp_path: Path) -> None:
    content = os.urandom(3_000_000)

    with decompressed(io.BytesIO(compress(content))) as stream:
        blob = written(str(tmp_path), chunks(stream))

    assert blob.size == len(content)
    assert (tmp_path / blob.digest.removeprefix("sha256:")).read_bytes() == content


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_what_was_cut_off_is_refused(compress: Callable[[bytes], bytes]) -> None:
    data = compress(os.urandom(10_000))[:-100]

    with pytest.raises(InvalidParameter), decompressed(io.BytesIO(data)) as stream:
        list(chunks(stream))
