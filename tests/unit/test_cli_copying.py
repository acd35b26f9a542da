"""What `cnmctl cp` decides on its own: where a copy goes, what it is called, and what it refuses."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cnm.cli.copy_rules import Source, Target, arrange, clean, followed, keep_ending, split, split_argument
from cnm.cli.local_archive import packed, unpack
from cnm.errors import CnmError


@pytest.mark.parametrize(
    ("argument", "container", "path"),
    [
        ("web:/etc", "web", "/etc"),
        ("web:etc", "web", "etc"),
        ("/tmp/a:b", "", "/tmp/a:b"),
        ("./a:b", "", "./a:b"),
        ("../a:b", "", "../a:b"),
        ("plain", "", "plain"),
        ("-", "", "-"),
        ("web:/a:b", "web", "/a:b"),
    ],
)
def test_a_colon_parts_container_and_path(argument: str, container: str, path: str) -> None:
    assert split_argument(argument) == (container, path)


@pytest.mark.parametrize(
    ("original", "kept"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a/./b/.", "/a/b/."),
        ("/a/../", "/"),
        ("/.", "/."),
        ("//a", "/a"),
    ],
)
def test_what_a_path_ends_in_stays(original: str, kept: str) -> None:
    assert keep_ending(clean(original), original) == kept


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("/a/b", ("/a", "b")),
        ("/a/b/", ("/a", "b")),
        ("/a/b/.", ("/a/b", ".")),
        ("/", ("/", "/")),
        ("a", (".", "a")),
    ],
)
def test_a_path_is_split_as_its_end_says(path: str, parts: tuple[str, str]) -> None:
    assert split(path) == parts


@pytest.mark.parametrize(
    ("path", "link_target", "found"),
    [
        ("/a/link", "/b/real", ("/b/real", "link")),
        ("/a/same", "/b/same", ("/b/same", "")),
        ("/a/link/", "/b/real", ("/b/real/", "link")),
        ("/a/link/.", "/b/real", ("/b/real/.", "")),
    ],
)
def test_what_a_link_leads_to_is_called_as_the_link(
    path: str, link_target: str, found: tuple[str, str]
) -> None:
    assert followed(path, link_target) == found


FILE, FOLDER = Source("/src/one", False), Source("/src/dir", True)
NOTHING, NEW_FOLDER = Target("/dst/new"), Target("/dst/new/")
A_FILE, A_FOLDER = Target("/dst/file", True, False), Target("/dst/folder", True, True)


@pytest.mark.parametrize(
    ("source", "target", "place"),
    [
        (FILE, NOTHING, ("/dst", "new")),
        (FILE, A_FILE, ("/dst", "file")),
        (FILE, A_FOLDER, ("/dst/folder", "one")),
        (FOLDER, NOTHING, ("/dst", "new")),
        (FOLDER, NEW_FOLDER, ("/dst", "new")),
        (FOLDER, A_FOLDER, ("/dst/folder", "dir")),
        (Source("/src/dir/.", True), A_FOLDER, ("/dst/folder", ".")),
        (Source("/src/dir/.", True), NOTHING, ("/dst", "new")),
        (Source("/real", False, "link"), A_FOLDER, ("/dst/folder", "link")),
    ],
)
def test_a_copy_goes_where_docker_puts_it(source: Source, target: Target, place: tuple[str, str]) -> None:
    assert arrange(source, target) == place


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [(FOLDER, A_FILE, "cannot copy directory"), (FILE, NEW_FOLDER, "no such directory")],
)
def test_a_copy_that_changes_its_kind_is_refused(source: Source, target: Target, reason: str) -> None:
    with pytest.raises(CnmError, match=reason):
        arrange(source, target)


def as_it_is(name: str) -> str:
    return name


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with one of everything that a copy keeps."""
    root = tmp_path / "tree"
    (root / "inner" / "deep").mkdir(parents=True)
    (root / "file").write_bytes(b"x" * 1000)
    (root / "file").chmod(0o4751)
    (root / "empty").touch()
    (root / "inner" / "link").symlink_to("../file")
    (root / "inner" / "dangling").symlink_to("/no/such/place")
    os.link(root / "file", root / "inner" / "same")
    (root / ("long" * 40)).write_text("long")
    os.mkfifo(root / "pipe", 0o640)
    (root / "inner" / "deep").chmod(0o700)
    for path in (root / "file", root / "inner"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    return root


def picture(root: Path) -> dict[str, tuple[object, ...]]:
    """Kind, mode, content or link of everything below."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content: object = ""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = (path.read_bytes(), int(status.st_mtime))
        mode = "" if path.is_symlink() else oct(stat.S_IMODE(status.st_mode))
        found[str(path.relative_to(root))] = (stat.S_IFMT(status.st_mode), mode, content)
    return found


def test_what_is_packed_and_unpacked_is_as_it_was(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()

    unpack(packed(str(tree), "copy"), str(target), as_it_is)

    assert picture(target / "copy") == picture(tree)
    assert (target / "copy" / "file").stat().st_ino == (target / "copy" / "inner" / "same").stat().st_ino
    assert (target / "copy" / "inner").stat().st_mtime == 1_000_000_000


def test_contents_alone_leave_the_directory_itself_as_it_is(tree: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir(mode=0o711)

    unpack(packed(f"{tree}/.", "."), str(target), as_it_is)

    assert picture(target) == picture(tree)
    assert stat.S_IMODE(target.stat().st_mode) == 0o711


def archive(*entries: tuple[str, bytes, str]) -> list[bytes]:
    """Of (name, type, content or link)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, kind, content in entries:
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind, 0o755
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                info.linkname = content
            info.size = len(content) if kind == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(content.encode()))
    return [buffer.getvalue()]


@pytest.mark.parametrize(
    "entries",
    [
        [("../escaped", tarfile.REGTYPE, "x")],
        [("a", tarfile.SYMTYPE, ".."), ("a/escaped", tarfile.REGTYPE, "x")],
        [("a", tarfile.SYMTYPE, "/"), ("a/tmp/escaped", tarfile.REGTYPE, "x")],
        [("a", tarfile.LNKTYPE, "../outside")],
        [("a", tarfile.SYMTYPE, ".."), ("a/escaped", tarfile.DIRTYPE, "")],
    ],
    ids=["dots", "link", "absolute link", "hard link", "directory behind a link"],
)
def test_an_entry_that_would_lie_outside_is_refused(
    tmp_path: Path, entries: list[tuple[str, bytes, str]]
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "outside").write_text("secret")

    with pytest.raises(CnmError, match="leads out of"):
        unpack(archive(*entries), str(target), as_it_is)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "target"]
    assert not os.path.exists("/tmp/escaped")


def test_a_file_replaces_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.write_text("kept")
    target.mkdir()
    (target / "a").symlink_to(outside)

    unpack(archive(("a", tarfile.REGTYPE, "new")), str(target), as_it_is)

    assert outside.read_text() == "kept"
    assert (target / "a").read_text() == "new"
    assert not (target / "a").is_symlink()


@pytest.mark.parametrize(
    ("make", "kind", "reason"),
    [
        (lambda path: path.mkdir(), tarfile.REGTYPE, "cannot overwrite directory"),
        (lambda path: path.touch(), tarfile.DIRTYPE, "cannot overwrite non-directory"),
    ],
)
def test_files_and_directories_do_not_replace_each_other(
    tmp_path: Path, make: Callable[[Path], None], kind: bytes, reason: str
) -> None:
    make(tmp_path / "a")

    with pytest.raises(CnmError, match=reason):
        unpack(archive(("a", kind, "")), str(tmp_path), as_it_is)


def test_a_damaged_archive_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(CnmError, match="cannot unpack the archive"):
        unpack([b"this is no archive at all" * 40], str(tmp_path), as_it_is)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(CnmError, match=f"cannot read {tmp_path}/nope: no such file"):
        list(packed(str(tmp_path / "nope"), "nope"))
