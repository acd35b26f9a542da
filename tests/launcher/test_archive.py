"""Files into and out of containers: the same as a real dockerd does with a container of the same image."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from cnm.errors import CnmError, Forbidden, InvalidParameter, NotFound
from cnm.launcher import archive
from cnm.launcher.archive import Rules
from cnm.launcher.images import Images
from cnm.launcher.rootfs import Rootfs
from tests.support.dockerd import Dockerd, start_dockerd
from tests.support.engine_archives import OLD, ask, listing
from tests.support.image_store import (
    PROGRAMS,
    Member,
    add_image,
    directory,
    entry,
    hard_link,
    store,
    symlink,
    tar,
    text,
)
from tests.support.odd_archives import NO_FILES, NO_HEADERS
from tests.support.unpacked import lacking, program

pytestmark = pytest.mark.skipif(
    bool(reason := lacking(*PROGRAMS, "dockerd", "containerd", "docker")), reason=reason
)

_LONG = "n" * 150


def _node(name: str, kind: bytes, major: int = 0, minor: int = 0) -> Member:
    info = entry(name, kind=kind, mode=0o640)
    info.devmajor, info.devminor = major, minor
    return info, b""


def _owned(name: str, user: int, group: int) -> Member:
    info = entry(name, mode=0o4755)
    info.uid, info.gid = user, group
    return info, b"owned"


SCENE = tar(
    *(directory(name) for name in ("bin", "d", "d/sub", "e", "etc")),
    directory("empty", 0o1777),
    text("d/f", "hello"),
    hard_link("d/h", "d/f"),
    text("d/sub/deep", "deep"),
    text("d/ü x", "not ascii"),
    symlink("d/l", "f"),
    symlink("d/abs", "/etc/passwd"),
    symlink("d/up", "../e"),
    text("e/x", "in e"),
    text("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
    *(
        symlink(name, to)
        for name, to in (("ld", "d"), ("lf", "d/f"), ("broken", "nowhere/x"), ("loop", "loop"))
    ),
    symlink("out", "../../../etc/passwd"),
    _node("null", tarfile.CHRTYPE, 1, 3),
    _node("fifo", tarfile.FIFOTYPE),
    text(_LONG, "a long name"),
    _owned("owned", 1000, 2000),
)


class Pair(NamedTuple):
    """The same files in a container of dockerd and in a root file system of ours."""

    dockerd: Dockerd
    container: str
    root: str


class Stage(NamedTuple):
    dockerd: Dockerd
    images: Images
    place: Path

    def new(self, name: str) -> tuple[Pair, Rootfs]:
        self.dockerd.docker("create", "--name", name, "scene", "sh")
        place = self.place / name
        place.mkdir()
        rootfs = Rootfs(str(place), str(self.place / "storage"), self.images.find("scene").layers)
        return Pair(self.dockerd, name, rootfs.mount()), rootfs


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    place = tmp_path_factory.mktemp("archive")
    (place / "scene.tar").write_bytes(SCENE)
    with start_dockerd(place / "dockerd", "--iptables=false", "--bridge=none") as dockerd:
        dockerd.docker("import", str(place / "scene.tar"), "scene")
        images = store(place)
        add_image(images, "scene", SCENE)
        yield Stage(dockerd, images, place)


@pytest.fixture(scope="module")
def kept(stage: Stage) -> Iterator[Pair]:
    """For tests that only read."""
    pair, rootfs = stage.new("kept")
    yield pair
    rootfs.remove()


@pytest.fixture
def pair(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Pair]:
    found, rootfs = stage.new(f"c{abs(hash(request.node.name)):x}")
    yield found
    rootfs.remove()


READ = [
    *("/d", "d", "/d/", "/d/.", "/d/f", "//d//f", "/d/../e", "/d/h", "/d/l", "/d/abs", "/d/up", "d/ü x"),
    *(
        "/ld",
        "/ld/",
        "/ld/.",
        "/ld/f",
        "/lf",
        "/broken",
        "/out",
        "/null",
        "/fifo",
        "/empty",
        "/empty/",
        "/owned",
    ),
    *("/", "/.", "..", f"/{_LONG}", "/.dockerenv", "/etc/mtab", "/dev/console"),
]


@pytest.mark.parametrize("path", READ)
def test_what_is_read_is_what_dockerd_reads(kept: Pair, path: str) -> None:
    theirs = ask(kept.dockerd.socket, "GET", f"/containers/{kept.container}/archive", path=path)

    found, stream = archive.read(kept.root, path, container=kept.container)

    told = {**msgspec.to_builtins(found), "mtime": None}
    assert told == {**theirs.path_stat, "mtime": None}
    assert listing(b"".join(stream)) == listing(theirs.body)
    assert archive.stat(kept.root, path, container=kept.container) == found


def test_a_time_is_told_with_its_fraction(kept: Pair) -> None:
    path = Path(kept.root, "e/x")
    assert archive.stat(kept.root, "/e/x", container="c").mtime == "2020-09-13T12:26:40Z"
    os.utime(path, ns=(0, OLD * 10**9 + 120_000_000))

    assert archive.stat(kept.root, "/e/x", container="c").mtime == "2023-11-14T22:13:20.12Z"
    os.utime(path, (1_600_000_000, 1_600_000_000))


@pytest.mark.parametrize(
    "path", ["/nope", "/nope/x", "nope", "/broken/", "/d/f/", "/d/f/.", "/d/f/x", "/lf/", "/loop"]
)
def test_what_cannot_be_read_is_refused_as_by_dockerd(kept: Pair, path: str) -> None:
    theirs = ask(kept.dockerd.socket, "GET", f"/containers/{kept.container}/archive", path=path)

    with pytest.raises(CnmError) as refused:
        archive.read(kept.root, path, container=kept.container)

    assert refused.value.status == theirs.status
    assert str(refused.value).partition(" /")[0] == theirs.message.partition(" /")[0]
    assert str(refused.value).rpartition(": ")[2].partition(" /")[0] == _ending(theirs.message)


def _ending(message: str) -> str:
    """Without the paths of dockerd's own directories."""
    return message.rpartition(": ")[2].partition(" /")[0]


WRITTEN: dict[str, tuple[str, bytes]] = {
    "a file": ("/d", tar(text("new", "1"))),
    "over a file": ("/d", tar(text("f", "longer than before"))),
    "over one of two hard links": ("/d", tar(text("h", "alone"))),
    "over a symlink": ("/d", tar(text("l", "no link"))),
    "over a device": ("/", tar(text("null", "a file"))),
    "through a symlink to a directory": ("/ld", tar(text("new", "1"))),
    "into contents": ("/e/.", tar(text("new", "1"))),
    "into a directory with a slash": ("/e/", tar(text("new", "1"))),
    "missing parents": ("/", tar(text("a/b/c", "1"))),
    "a directory": ("/empty", tar(directory("dd", 0o700), text("dd/f", "1"))),
    "a directory over one": ("/", tar(directory("d", 0o711), text("d/new", "1"))),
    "a directory over a file": ("/d", tar(directory("f", 0o700))),
    "a file over a directory": ("/", tar(text("d", "1"))),
    "a symlink over a directory": ("/", tar(symlink("d", "e"))),
    "symlinks": ("/", tar(symlink("s1", "../x"), symlink("s2", "/abs"), symlink("s3", "nowhere"))),
    "hard links": ("/e", tar(hard_link("hl", "x"), hard_link("hl2", "/x"))),
    "an absolute name": ("/e", tar(text("/abs", "1"))),
    "devices": ("/e", tar(_node("zero", tarfile.CHRTYPE, 1, 5), _node("b", tarfile.BLKTYPE, 7, 0))),
    "a pipe": ("/e", tar(_node("p", tarfile.FIFOTYPE))),
    "an owner and a set-user-id bit": ("/e", tar(_owned("o", 5, 6))),
    "long names": ("/e", tar(text(f"{_LONG}/{_LONG}", "1"))),
    "the directory itself": ("/e", tar(directory(".", 0o700), text("./dot", "1"))),
    "nothing": ("/e", b""),
    "compressed": ("/e", gzip.compress(tar(text("gz", "1")))),
    "a symlink that was there, on the way": ("/", tar(text("ld/through", "1"))),
    "an absolute symlink on the way": ("/", tar(symlink("td", "/e"), text("td/through", "1"))),
    "a name that leaves and comes back": ("/e", tar(text("../e/back", "1"))),
}


@pytest.mark.parametrize("case", WRITTEN)
@pytest.mark.parametrize("keep_kind", [False, True], ids=["", "noOverwriteDirNonDir"])
def test_what_is_written_is_what_dockerd_writes(pair: Pair, case: str, keep_kind: bool) -> None:
    path, data = WRITTEN[case]

    theirs, ours = _write_both(pair, path, data, keep_kind)

    assert (ours is None, theirs == "") in ((True, True), (False, False)), (ours, theirs)
    assert _all_ours(pair) == _all_theirs(pair)


REFUSED: dict[str, tuple[str, bytes]] = {
    "into a file": ("/d/f", tar(text("new", "1"))),
    "into nothing": ("/nope", tar(text("new", "1"))),
    "into a broken symlink": ("/broken", tar(text("new", "1"))),
    "out by a name": ("/e", tar(text("../out", "1"))),
    "out by a name, later": ("/e", tar(text("sub/../../out", "1"))),
    "out by a symlink": ("/e", tar(symlink("s", "../x"))),
    "out by a hard link": ("/e", tar(hard_link("h", "../d/f"))),
    "no archive": ("/e", b"junk" * 1000),
    "half an archive": ("/e", tar(text("half", "x" * 1000))[:1000]),
    "an unknown kind": ("/e", tar(_node("k", b"Z"))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_may_not_be_written_is_refused_in_dockers_words(pair: Pair, case: str) -> None:
    path, data = REFUSED[case]

    theirs, ours = _write_both(pair, path, data, False)

    assert theirs.replace("(exit status 1)", "") == str(ours)


@pytest.mark.parametrize("case", NO_HEADERS)
def test_what_is_no_header_is_refused_in_dockers_words(pair: Pair, case: str) -> None:
    theirs, ours = _write_both(pair, "/e", NO_HEADERS[case], False)

    assert isinstance(ours, InvalidParameter)
    assert str(ours).partition(": '")[0] == theirs.replace("(exit status 1)", "")


@pytest.mark.parametrize("case", NO_FILES)
def test_owners_and_devices_that_nothing_has_are_refused(pair: Pair, case: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid tar header: '/e/odd'"):
        archive.write(pair.root, "/e", io.BytesIO(NO_FILES[case]), container="c")


def _write_both(pair: Pair, path: str, data: bytes, keep_kind: bool) -> tuple[str, CnmError | None]:
    query = {"noOverwriteDirNonDir": "1"} if keep_kind else {}
    theirs = ask(
        pair.dockerd.socket, "PUT", f"/containers/{pair.container}/archive", data, path=path, **query
    )
    try:
        rules = Rules(no_overwrite_dir_non_dir=keep_kind)
        archive.write(pair.root, path, io.BytesIO(data), container=pair.container, rules=rules)
    except CnmError as error:
        return theirs.message, error
    return theirs.message, None


def _all_ours(pair: Pair) -> dict[str, tuple[object, ...]]:
    return listing(b"".join(archive.export(pair.root)))


def _all_theirs(pair: Pair) -> dict[str, tuple[object, ...]]:
    return listing(ask(pair.dockerd.socket, "GET", f"/containers/{pair.container}/export").body)


def test_an_export_is_dockers(kept: Pair) -> None:
    assert _all_ours(kept) == _all_theirs(kept)


def test_everything_can_be_given_to_one_user(pair: Pair) -> None:
    rules = Rules(owner=(12, 34))
    archive.write(pair.root, "/e", io.BytesIO(tar(_owned("o", 5, 6))), container="c", rules=rules)

    status = os.stat(f"{pair.root}/e/o")
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (12, 34, 0o4755)


def test_capabilities_of_a_file_go_out_and_in(pair: Pair) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(f"{pair.root}/d/f", "security.capability", capability)

    _, stream = archive.read(pair.root, "/d/f", container="c")
    archive.write(pair.root, "/e", io.BytesIO(b"".join(stream)), container="c")

    assert os.getxattr(f"{pair.root}/e/f", "security.capability") == capability


def test_a_read_only_root_takes_nothing(stage: Stage, pair: Pair) -> None:
    stage.dockerd.docker("create", "--read-only", "--name", "ro", "scene", "sh")
    theirs = ask(stage.dockerd.socket, "PUT", "/containers/ro/archive", tar(text("n", "1")), path="/d")

    with pytest.raises(Forbidden) as refused:
        archive.write(pair.root, "/d", io.BytesIO(tar(text("n", "1"))), container="ro", read_only=True)

    assert str(refused.value) == theirs.message
    assert not os.path.exists(f"{pair.root}/d/n")


def test_a_symlink_never_leads_out_of_the_root(pair: Pair, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "s").write_text("of the host")
    os.symlink(secret, f"{pair.root}/evil")
    os.symlink("/proc/self/root" + str(secret), f"{pair.root}/evil2")

    for path in ("/evil/s", "/evil/", "/evil2/s", "/evil/../../../../.." + str(secret) + "/s"):
        with pytest.raises(NotFound):
            archive.read(pair.root, path, container="c")
    with pytest.raises(NotFound):
        archive.write(pair.root, "/evil", io.BytesIO(tar(text("n", "1"))), container="c")
    with pytest.raises(CnmError):
        archive.write(pair.root, "/", io.BytesIO(tar(text("evil/n", "1"))), container="c")
    assert sorted(os.listdir(secret)) == ["s"]


def test_a_link_of_proc_is_not_followed(pair: Pair) -> None:
    """Through /proc/PID/root a running container's /proc is seen, and with it the host's root."""
    with pytest.raises(CnmError):
        archive.read("/", f"/proc/{os.getpid()}/root/etc/", container="c")


def test_directories_that_are_swapped_for_symlinks_meanwhile_lead_nowhere(pair: Pair, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "f").write_text("of the host")
    swapped, ended = Path(pair.root, "swap"), threading.Event()
    swapped.mkdir()
    (swapped / "f").write_text("inside")

    def swap() -> None:
        link, away = Path(pair.root, "link"), Path(pair.root, "away")
        while not ended.is_set():
            link.symlink_to(secret)
            swapped.rename(away)
            link.rename(swapped)
            swapped.unlink()
            away.rename(swapped)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(300):
            _meanwhile(pair.root)
    finally:
        ended.set()
        thread.join()
    assert sorted(os.listdir(secret)) == ["f"]


def _meanwhile(root: str) -> None:
    with contextlib.suppress(CnmError):
        _, stream = archive.read(root, "/swap/", container="c")
        assert b"of the host" not in b"".join(stream)
    with contextlib.suppress(CnmError):
        archive.write(root, "/swap", io.BytesIO(tar(text("written", "1"))), container="c")


def test_a_file_that_shrinks_while_it_is_read_keeps_the_archive_whole(pair: Pair) -> None:
    big = Path(pair.root, "e/big")
    big.write_bytes(b"x" * 1_000_000)

    _, stream = archive.read(pair.root, "/e", container="c")
    pieces = [next(stream)]
    while not pieces[-1].startswith(b"x"):
        pieces.append(next(stream))
    os.truncate(big, 10)
    pieces.extend(stream)

    found = listing(b"".join(pieces))
    assert "e/x" in found
    assert len(found["e/big"][-1]) == 1_000_000  # type: ignore[arg-type]


def test_a_reader_that_stops_leaves_no_descriptor_open(pair: Pair) -> None:
    before = len(os.listdir("/proc/self/fd"))

    _, stream = archive.read(pair.root, "/", container="c")
    next(stream)
    stream.close()  # type: ignore[attr-defined]

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def running(pair: Pair) -> Iterator[int]:
    """A process with the root as its own, and a mount in it that only it sees; its pid."""
    mounts = "mount -t tmpfs none /empty && mount -t tmpfs -o ro none /d/sub"
    script = f"{mounts} && echo inside >/empty/f && echo ready && cat"
    shell = [pair.root, "/bin/busybox", "sh", "-c", script]
    Path(pair.root, "bin/busybox").write_bytes(program("busybox").read_bytes())
    os.chmod(f"{pair.root}/bin/busybox", 0o755)
    for applet in ("mount", "cat"):
        os.symlink("busybox", f"{pair.root}/bin/{applet}")
    command = ["unshare", "--mount", "chroot", *shell]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        assert process.stdin is not None
        process.stdin.close()


def test_a_running_containers_mounts_are_read_and_written(pair: Pair, running: int) -> None:
    root = f"/proc/{running}/root"

    archive.write(root, "/empty", io.BytesIO(tar(text("new", "1"))), container="c")
    _, stream = archive.read(root, "/empty", container="c")

    assert sorted(listing(b"".join(stream))) == ["empty", "empty/f", "empty/new"]
    assert os.listdir(f"{pair.root}/empty") == []


def test_a_mount_that_is_read_only_takes_nothing(running: int) -> None:
    with pytest.raises(Forbidden, match="mounted volume is marked read-only"):
        archive.write(f"/proc/{running}/root", "/d/sub", io.BytesIO(tar(text("n", "1"))), container="c")


def test_a_tree_too_deep_to_be_named_ends_the_archive_with_an_error(pair: Pair) -> None:
    deep = os.open(f"{pair.root}/e", os.O_PATH)
    for _ in range(30):
        os.mkdir(_LONG, dir_fd=deep)
        deeper = os.open(_LONG, os.O_PATH, dir_fd=deep)
        os.close(deep)
        deep = deeper
    os.close(deep)

    _, stream = archive.read(pair.root, "/e", container="c")

    with pytest.raises(CnmError, match="cannot read /e: file name too long"):
        b"".join(stream)


def test_an_archive_too_deep_is_refused(pair: Pair) -> None:
    with pytest.raises(CnmError, match=r"nested too deeply|file name too long"):
        archive.write(pair.root, "/e", io.BytesIO(tar(text("d/" * 1500 + "f", "1"))), container="c")


def test_an_entry_that_is_the_directory_itself_does_not_replace_it(pair: Pair) -> None:
    with pytest.raises(InvalidParameter, match="cannot overwrite directory"):
        archive.write(pair.root, "/", io.BytesIO(tar(text(".", "1"))), container="c")
