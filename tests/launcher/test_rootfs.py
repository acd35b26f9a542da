"""A container's root file system, and what changed in it: Docker's diff as a real dockerd has it."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError
from cnm.launcher.changes import Kind
from cnm.launcher.images import Images
from cnm.launcher.rootfs import Rootfs
from tests.support.dockerd import Dockerd, start_dockerd
from tests.support.engine_archives import ask
from tests.support.image_store import PROGRAMS, add_image, directory, store, symlink, tar, text
from tests.support.unpacked import lacking, program

pytestmark = pytest.mark.skipif(
    bool(reason := lacking(*PROGRAMS, "dockerd", "containerd", "docker")), reason=reason
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rootfs")


@pytest.fixture(scope="module")
def images(place: Path) -> Images:
    images = store(place)
    add_image(images, "bb")
    add_image(images, "tree", TREE)
    return images


@pytest.fixture
def rootfs(images: Images, place: Path, tmp_path: Path) -> Iterator[Rootfs]:
    made = Rootfs(str(tmp_path), str(place / "storage"), images.find("bb").layers)
    yield made
    made.remove()


def test_it_is_the_image_with_dockers_own_files(rootfs: Rootfs) -> None:
    root = Path(rootfs.mount())

    assert (root / "bin/busybox").read_bytes() == program("busybox").read_bytes()
    assert (root / "etc/passwd").read_text().startswith("root:")
    assert os.readlink(root / "etc/mtab") == "/proc/mounts"
    assert all(
        (root / name).is_file() for name in ("etc/hosts", "etc/resolv.conf", ".dockerenv", "dev/console")
    )
    assert all((root / name).is_dir() for name in ("dev/pts", "dev/shm", "proc", "sys"))
    assert stat.S_IMODE(root.stat().st_mode) == 0o755


def test_mounting_twice_is_mounting_once(rootfs: Rootfs) -> None:
    assert rootfs.mount() == rootfs.mount()

    assert Path("/proc/self/mountinfo").read_text().count(f" {rootfs.path} ") == 1


def test_what_is_written_stays_over_mounts_and_goes_with_it(rootfs: Rootfs, tmp_path: Path) -> None:
    Path(rootfs.mount(), "etc/new").write_text("kept")
    rootfs.unmount()
    rootfs.unmount()
    assert not os.path.exists(f"{rootfs.path}/etc")

    assert Path(rootfs.mount(), "etc/new").read_text() == "kept"

    rootfs.remove()
    rootfs.remove()
    assert os.listdir(tmp_path) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


def test_the_image_is_not_changed(rootfs: Rootfs, images: Images, place: Path, tmp_path: Path) -> None:
    root = Path(rootfs.mount())
    (root / "etc/passwd").write_text("mine")
    (root / "bin/vi").unlink()

    (tmp_path / "other").mkdir()
    other = Rootfs(str(tmp_path / "other"), str(place / "storage"), images.find("bb").layers)
    path = other.mount()
    assert Path(path, "etc/passwd").read_text().startswith("root:")
    assert os.path.lexists(f"{path}/bin/vi")
    other.remove()


def test_a_program_inside_finds_its_files(rootfs: Rootfs) -> None:
    done = subprocess.run(
        ["chroot", rootfs.mount(), "/bin/cat", "/etc/passwd"], capture_output=True, check=True
    )

    assert done.stdout.startswith(b"root:")


def test_directories_of_the_image_keep_mode_owner_and_time_under_dockers_files(
    images: Images, place: Path, tmp_path: Path
) -> None:
    etc, file = directory("etc", 0o2750)[0], text("etc/x", "1")
    etc.uid, etc.gid = 7, 8
    images.import_tar(io.BytesIO(tar((etc, b""), file)), "odd", [], "")
    made = Rootfs(str(tmp_path), str(place / "storage"), images.find("odd").layers)

    status = os.stat(f"{made.mount()}/etc")

    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o2750, 7, 8)
    assert status.st_mtime == 1_600_000_000
    assert Path(made.path, "etc/x").read_text() == "1"
    made.remove()


@pytest.mark.parametrize("with_links", [True, False], ids=["short links", "links lost"])
def test_an_image_of_many_layers_is_mounted(
    images: Images, place: Path, tmp_path: Path, with_links: bool
) -> None:
    """127 is as many as Docker takes; 40 without short links, which a power cut can lose."""
    count = 127 if with_links else 40
    storage = tmp_path / "storage"
    names = [f"{number:064x}" for number in range(count)]
    (storage / "overlay" / "l").mkdir(parents=True)
    for number, name in enumerate(names):
        diff = storage / "overlay" / name / "diff"
        diff.mkdir(parents=True)
        (diff / f"f{number}").touch()
        (diff / "last").write_text(str(number))
        if with_links:
            (storage / "overlay" / name / "link").write_text(f"{number:026d}")
            (storage / "overlay" / "l" / f"{number:026d}").symlink_to(f"../{name}/diff")
    made = Rootfs(str(tmp_path), str(storage), names)

    root = made.mount()

    assert len([name for name in os.listdir(root) if name.startswith("f")]) == count
    assert Path(root, "last").read_text() == str(count - 1)
    assert made.changes() == []
    made.remove()


def test_a_layer_that_is_missing_is_an_error_that_names_the_root(place: Path, tmp_path: Path) -> None:
    made = Rootfs(str(tmp_path), str(place / "storage"), ["0" * 64])

    with pytest.raises(CnmError, match=f"cannot mount the root file system {tmp_path}/rootfs: "):
        made.mount()

    made.remove()
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def dockerd(place: Path) -> Iterator[Dockerd]:
    (place / "bb.tar").write_bytes(TREE)
    with start_dockerd(place / "dockerd", "--iptables=false", "--bridge=none") as running:
        running.docker("import", str(place / "bb.tar"), "tree")
        yield running


TREE = tar(
    *(directory(name) for name in ("bin", "d", "d/sub", "d/sub/deep", "e", "etc", "tmp", "full")),
    *(text(name, "content") for name in ("d/f", "d/g", "d/sub/x", "d/sub/deep/y", "e/f", "full/a", "full/b")),
    symlink("d/l", "f"),
    text("etc/passwd", "root:x:0:0::/:/bin/sh\n"),
)


def _replace_directory(root: Path) -> None:
    shutil.rmtree(root / "full")
    (root / "full").mkdir()
    (root / "full" / "b").write_text("again")


def _restore(root: Path) -> None:
    """Written anew, with the same size and time: no difference for Docker, although overlayfs holds a copy."""
    path = root / "d/f"
    status = path.stat()
    path.write_text("CONTENT")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda root: None,
    "a new file": lambda root: (root / "d/new").touch(),
    "a new file in the root": lambda root: (root / "new").touch(),
    "new directories": lambda root: (root / "a/b/c").mkdir(parents=True),
    "a file is written": lambda root: (root / "d/sub/x").write_text("other"),
    "a file is written and looks as before": _restore,
    "a file is touched": lambda root: os.utime(root / "d/f"),
    "a file gets another mode": lambda root: os.chmod(root / "d/f", 0o600),
    "a file gets another owner": lambda root: os.chown(root / "d/f", 1, 1),
    "a file gets the mode that it has": lambda root: os.chmod(root / "d/f", 0o644),
    "a directory gets another mode": lambda root: os.chmod(root / "d/sub", 0o700),
    "a directory gets another time": lambda root: os.utime(root / "d/sub"),
    "a file is deleted": lambda root: (root / "d/f").unlink(),
    "a file comes and goes": lambda root: ((root / "d/new").touch(), (root / "d/new").unlink()),
    "a directory is deleted": lambda root: shutil.rmtree(root / "d/sub"),
    "a directory is replaced": _replace_directory,
    "a directory becomes a file": lambda root: (shutil.rmtree(root / "full"), (root / "full").touch()),
    "a file becomes a directory": lambda root: (
        (root / "d/f").unlink(),
        (root / "d/f/in").mkdir(parents=True),
    ),
    "a file becomes a symlink": lambda root: ((root / "d/f").unlink(), (root / "d/f").symlink_to("g")),
    "a symlink leads elsewhere": lambda root: ((root / "d/l").unlink(), (root / "d/l").symlink_to("g")),
    "a file is moved": lambda root: (root / "d/f").rename(root / "e/moved"),
    "a file is moved over another": lambda root: (root / "d/f").rename(root / "e/f"),
    "a device": lambda root: os.mknod(root / "e/null", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
    "a hard link": lambda root: os.link(root / "d/f", root / "d/hard"),
    "an attribute": lambda root: os.setxattr(root / "d/f", "user.x", b"1"),
    "a capability": lambda root: os.setxattr(
        root / "d/f", "security.capability", bytes.fromhex("01000002002000000000000000000000" + "0" * 8)
    ),
    "one of Docker's own files": lambda root: (root / "etc/hosts").write_text("x"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_changes_are_those_that_dockerd_tells(
    images: Images, dockerd: Dockerd, place: Path, tmp_path: Path, case: str
) -> None:
    ours = Rootfs(str(tmp_path), str(place / "storage"), images.find("tree").layers)
    container = dockerd.docker("create", "tree", "sh")
    theirs = dockerd.docker("inspect", "-f", "{{.GraphDriver.Data.MergedDir}}", container)
    layers = dockerd.docker(
        "inspect",
        "-f",
        "lowerdir={{.GraphDriver.Data.LowerDir}},upperdir={{.GraphDriver.Data.UpperDir}}"
        ",workdir={{.GraphDriver.Data.WorkDir}}",
        container,
    )
    os.makedirs(theirs, exist_ok=True)
    subprocess.run(["mount", "-t", "overlay", "-o", layers, "overlay", theirs], check=True)
    try:
        CHANGES[case](Path(theirs))
    finally:
        subprocess.run(["umount", theirs], check=True)
    CHANGES[case](Path(ours.mount()))

    found = ask(dockerd.socket, "GET", f"/containers/{container}/changes").body

    told = sorted((change["Path"], change["Kind"]) for change in json.loads(found) or [])
    assert [(change.path, change.kind.number) for change in ours.changes()] == told
    ours.remove()


def test_changes_and_size_without_ever_being_mounted_are_none(rootfs: Rootfs) -> None:
    assert (rootfs.changes(), rootfs.size()) == ([], 0)


def test_the_size_is_what_was_written_each_file_once(rootfs: Rootfs) -> None:
    root = Path(rootfs.mount())
    (root / "tmp/f").write_bytes(b"x" * 1000)
    os.link(root / "tmp/f", root / "tmp/same")
    (root / "tmp/g").write_bytes(b"y" * 24)
    (root / "bin/vi").unlink()

    assert rootfs.size() == 1024
    assert Kind.DELETED in {change.kind for change in rootfs.changes()}


def _nest(top: str, depth: int) -> None:
    directory = os.open(top, os.O_PATH)
    for _ in range(depth):
        os.mkdir("d", dir_fd=directory)
        inner = os.open("d", os.O_PATH, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)


def test_directories_however_deep_are_deleted(rootfs: Rootfs, tmp_path: Path) -> None:
    _nest(f"{rootfs.mount()}/tmp", 3000)
    Path(rootfs.path, "deleted-0").mkdir()

    for question in (rootfs.changes, rootfs.size):
        with pytest.raises(CnmError, match="cannot tell the"):
            question()

    rootfs.remove()
    assert os.listdir(tmp_path) == []


def test_changes_are_told_while_files_come_and_go(rootfs: Rootfs, tmp_path: Path) -> None:
    root, ended = Path(rootfs.mount()), threading.Event()
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "secret").touch()

    def write() -> None:
        while not ended.is_set():
            (root / "x/y").mkdir(parents=True)
            (root / "x/y/f").touch()
            shutil.rmtree(root / "x")
            (root / "x").symlink_to(tmp_path / "host")
            (root / "x").unlink()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = {change.path for _ in range(300) for change in rootfs.changes()}
        sizes = {rootfs.size() for _ in range(100)}
    finally:
        ended.set()
        writer.join()
    assert found <= {"/x", "/x/y", "/x/y/f"}
    assert found
    assert sizes <= {0, len(str(tmp_path / "host"))}


def test_an_image_with_a_symlink_for_etc_is_mounted(images: Images, place: Path, tmp_path: Path) -> None:
    add_image(
        images,
        "links",
        tar(directory("real"), symlink("etc", "real"), text("real/x", "1")),
    )
    made = Rootfs(str(tmp_path), str(place / "storage"), images.find("links").layers)

    assert Path(made.mount(), "etc/hosts").is_file()
    assert made.changes() == []
    made.remove()
