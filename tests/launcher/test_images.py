"""The image store: the same images, texts and answers as a real dockerd, with the same archives."""

from __future__ import annotations

import bz2
import fcntl
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.launcher.container import Container
from cnm.launcher.image_config import nanoseconds
from cnm.launcher.image_index import ImageIndex, hidden_name
from cnm.launcher.image_notes import ImageNotes
from cnm.launcher.images import Images
from cnm.launcher.programs import Programs
from cnm.launcher.removal import User
from cnm.launcher.repo_digests import RepoDigests
from cnm.launcher.rootfs import Rootfs
from cnm.launcher.storage import Storage
from cnm.wire.containers import Config, HostConfig
from tests.support.dockerd import Dockerd, start_dockerd
from tests.support.engine_archives import ask
from tests.support.image_store import (
    NOBODY,
    PROGRAMS,
    add_image,
    busybox_tar,
    directory,
    programs,
    store,
    tar,
    text,
)
from tests.support.private_etc import make_private
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(
    bool(reason := lacking(*PROGRAMS, "dockerd", "containerd", "docker")), reason=reason
)


@pytest.fixture
def images(tmp_path: Path) -> Images:
    return store(tmp_path)


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    with start_dockerd(tmp_path_factory.mktemp("dockerd"), "--iptables=false", "--bridge=none") as running:
        yield running


class Saved(NamedTuple):
    """Images of dockerd's, and archives of them."""

    archive: Path
    """All of them."""
    single: tuple[Path, ...]
    """One image each, which do not say whose child it is."""
    ids: dict[str, str]


@pytest.fixture(scope="module")
def saved(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """base:1 (busybox), family:1 and family:2 (one image on top of base's layer), and one without a name."""
    place = tmp_path_factory.mktemp("saved")
    (place / "bb.tar").write_bytes(busybox_tar())
    changes = ("--change", 'CMD ["sh"]', "--change", "ENV A=b")
    dockerd.docker("import", *changes, str(place / "bb.tar"), "base:1")
    run = ("run", "--network", "none", "--name")
    dockerd.docker(*run, "maker", "base:1", "sh", "-c", "echo x >/made; rm /bin/vi")
    dockerd.docker("commit", "maker", "family:1")
    dockerd.docker("tag", "family:1", "family:2")
    dockerd.docker(*run, "other", "base:1", "touch", "/other")
    nameless = dockerd.docker("commit", "other")
    dockerd.docker("rm", "maker", "other")
    groups = {"base": ("base:1",), "family": ("family:1", "family:2"), "nameless": (nameless,)}
    archives = {name: place / f"{name}.tar" for name in groups}
    for name, wanted in groups.items():
        dockerd.docker("save", "-o", str(archives[name]), *wanted)
    dockerd.docker("save", "-o", str(place / "all.tar"), "base:1", *groups["family"], nameless)
    ids = {name: dockerd.docker("inspect", "-f", "{{.Id}}", name) for name in ("base:1", "family:1")}
    return Saved(place / "all.tar", tuple(archives.values()), {**ids, "nameless": nameless})


def _load(images: Images, archive: Path) -> list[str]:
    with archive.open("rb") as file:
        return images.load(file)


def test_what_docker_saved_is_loaded_with_the_same_ids(images: Images, saved: Saved) -> None:
    lines = _load(images, saved.archive)

    names = [f"Loaded image: {name}" for name in ("base:1", "family:1", "family:2")]
    assert sorted(lines) == [f"Loaded image ID: {saved.ids['nameless']}", *names]
    assert images.find("base:1").id == saved.ids["base:1"]
    assert images.find("family:2") == images.find("family:1")
    assert images.find("family:1").names == ("docker.io/library/family:1", "docker.io/library/family:2")
    assert images.find(saved.ids["nameless"]).names == ()


def test_a_loaded_image_says_what_docker_says_of_it(images: Images, dockerd: Dockerd, saved: Saved) -> None:
    _load(images, saved.archive)
    theirs = json.loads(dockerd.docker("image", "inspect", "family:1"))[0]

    image = images.find("family:1")

    assert image.id == theirs["Id"]
    assert list(image.diff_ids) == theirs["RootFS"]["Layers"]
    assert (image.architecture, image.os, image.author) == (theirs["Architecture"], "linux", theirs["Author"])
    assert image.config.env == theirs["Config"]["Env"]
    assert image.config.cmd == theirs["Config"]["Cmd"]
    assert len(image.layers) == len(image.history) == 2
    assert image.created == nanoseconds(theirs["Created"])


@pytest.mark.parametrize("number", [0, 1, 2], ids=["one name", "two names", "no name"])
def test_loading_tells_the_lines_of_dockerd(
    images: Images, dockerd: Dockerd, saved: Saved, number: int
) -> None:
    theirs = dockerd.docker("load", "-i", str(saved.single[number])).splitlines()

    assert sorted(_load(images, saved.single[number])) == sorted(theirs)


def test_a_name_of_localhost_is_left_alone_by_a_short_one(images: Images, saved: Saved) -> None:
    ident = add_image(images, "localhost/base:1")

    _load(images, saved.archive)

    assert images.find("localhost/base:1").id == ident
    assert images.find("base:1").names == ("docker.io/library/base:1",)


def test_an_archive_that_was_compressed_is_loaded(images: Images, saved: Saved) -> None:
    assert "Loaded image: base:1" in images.load(io.BytesIO(gzip.compress(saved.archive.read_bytes(), 1)))


def test_an_archive_of_oci_is_loaded_with_its_name(images: Images, tmp_path: Path) -> None:
    archive = _oci_archive(tmp_path, "team/app:3")

    assert _load(images, archive) == ["Loaded image: team/app:3"]
    assert images.find("team/app:3").config.cmd == ["sh"]
    assert images.all()[0].names == ("docker.io/team/app:3",)


def _oci_archive(place: Path, name: str) -> Path:
    layout = place / "oci"
    (layout / "blobs" / "sha256").mkdir(parents=True)

    def blob(content: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (layout / "blobs" / "sha256" / digest).write_bytes(content)
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(content)}

    plain = tar(directory("etc"), text("etc/f", "1"))
    prefix = "application/vnd.oci.image"
    layer = blob(gzip.compress(plain), f"{prefix}.layer.v1.tar+gzip")
    diff = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    config = {"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}, "history": []}
    config["rootfs"] = {"type": "layers", "diff_ids": [diff]}
    described = blob(json.dumps(config).encode(), f"{prefix}.config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{prefix}.manifest.v1+json",
        "config": described,
        "layers": [layer],
    }
    top = blob(json.dumps(manifest).encode(), f"{prefix}.manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": name}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    with tarfile.open(place / "oci.tar", "w") as archive:
        for path in sorted(layout.rglob("*")):
            archive.add(path, str(path.relative_to(layout)), recursive=False)
    return place / "oci.tar"


_COMPRESSED = ("a gzip with a changed byte", "a bzip2 with one", "an xz with one")


def _damaged(compress: Callable[[bytes], bytes]) -> bytes:
    """In the middle of what was compressed, so that its blocks are wrong and not only its checksum."""
    content = compress(tar(text("f", "".join(map(str, range(9000))))))
    at = len(content) // 2
    return content[:at] + bytes(each ^ 0xFF for each in content[at : at + 20]) + content[at + 20 :]


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"junk" * 500,
        tar(text("x", "1")),
        gzip.compress(b"x")[:10],
        _damaged(gzip.compress),
        _damaged(bz2.compress),
        _damaged(lzma.compress),
    ],
    ids=["nothing", "junk", "a tar of something else", "the beginning of a gzip", *_COMPRESSED],
)
def test_what_is_no_archive_of_images_is_refused_and_leaves_nothing(
    images: Images, tmp_path: Path, archive: bytes
) -> None:
    with pytest.raises(InvalidParameter):
        images.load(io.BytesIO(archive))

    assert images.all() == []
    assert os.listdir(tmp_path / "storage" / "incoming") == []


def test_a_load_writes_nothing_outside_the_store(images: Images, saved: Saved) -> None:
    """podman would unpack it in /var/tmp, where what a kill leaves stays."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", "/var/tmp"], check=True)
    try:
        lines = _load(images, saved.archive)
    finally:
        subprocess.run(["umount", "/var/tmp"], check=True)

    assert len(lines) == 4


def test_a_name_moves_to_the_image_that_is_loaded_later(images: Images, saved: Saved) -> None:
    old = add_image(images, "base:1")

    _load(images, saved.archive)

    assert images.find("base:1").id == saved.ids["base:1"]
    assert images.find(old).names == ()


CHANGES = [
    *('CMD ["a", "b"]', "ENTRYPOINT /run.sh $A", "ENV A=1 B='two words'", "EXPOSE 80 90-91/udp"),
    *(
        'LABEL x=y z="$A"',
        "USER 5:6",
        "VOLUME /data",
        "WORKDIR /srv",
        "ONBUILD RUN make",
        "HEALTHCHECK CMD curl x",
    ),
]


def test_an_import_with_changes_is_dockers(images: Images, dockerd: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "bb.tar").write_bytes(busybox_tar())
    flags = [word for change in CHANGES for word in ("--change", change)]
    dockerd.docker("import", "-m", "why", *flags, str(tmp_path / "bb.tar"), "changed:1")
    theirs = json.loads(dockerd.docker("image", "inspect", "changed:1"))[0]

    ident = images.import_tar(io.BytesIO(busybox_tar()), "changed:1", CHANGES, "why")

    image = images.find("changed:1")
    assert image.id == ident
    assert list(image.diff_ids) == theirs["RootFS"]["Layers"]
    assert (image.comment, image.architecture) == (theirs["Comment"], theirs["Architecture"])
    assert _said(msgspec.to_builtins(image.config)) == _said(theirs["Config"])


def _said(config: dict[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in config.items() if value not in (None, "", False, [], {}, 0)}
    if "Healthcheck" in found:
        found["Healthcheck"] = _said(found["Healthcheck"])
    return found


@pytest.mark.parametrize(
    "change",
    [
        *(
            "RUN x",
            "USER",
            "#",
            "EXPOSE x",
            "ENV A",
            "ENV =1",
            "ENV A=1 B",
            "ONBUILD ONBUILD x",
            "ONBUILD FROM x",
        ),
        *("HEALTHCHECK x", "HEALTHCHECK CMD", 'VOLUME [""]', "WORKDIR", "LABEL a='b"),
    ],
)
def test_a_wrong_change_is_refused_as_by_dockerd(images: Images, dockerd: Dockerd, change: str) -> None:
    theirs = ask(dockerd.socket, "POST", "/images/create", tar(), fromSrc="-", changes=change)

    with pytest.raises(InvalidParameter) as refused:
        images.import_tar(io.BytesIO(tar()), "", [change], "")

    assert theirs.status == 400
    assert str(refused.value) == theirs.message
    assert images.all() == []


def test_an_import_takes_compressed_tars_and_no_name(images: Images) -> None:
    ident = images.import_tar(io.BytesIO(gzip.compress(tar(text("f", "1")))), "", [], "")

    assert images.find(ident).names == ()
    assert images.find(ident[:19]).id == ident


@pytest.mark.parametrize(
    "junk",
    [
        b"junk" * 500,
        gzip.compress(tar(text("f", "1")))[:40],
        tar(text("f", "x" * 9000))[:4000],
        _damaged(gzip.compress),
        _damaged(bz2.compress),
        _damaged(lzma.compress),
    ],
    ids=["no tar", "compressed and cut off", "cut off", *_COMPRESSED],
)
def test_an_import_of_something_else_is_refused_and_leaves_nothing(
    images: Images, tmp_path: Path, junk: bytes
) -> None:
    with pytest.raises(InvalidParameter):
        images.import_tar(io.BytesIO(junk), "x", [], "")

    assert images.all() == []
    assert os.listdir(tmp_path / "storage" / "incoming") == []


@pytest.mark.parametrize(
    "reference",
    [
        *(
            "nope",
            "nope:tag",
            "localhost:5000/nope",
            "family",
            "a" * 64,
            f"sha256:{'b' * 64}",
            "abcdef123456",
        ),
        *(f"base@sha256:{'c' * 64}", "Upper", "a b", "a:b:c", "-x", "docker.io/library/nope:1", "sha256:abc"),
    ],
)
def test_an_image_that_is_not_there_is_missed_in_dockers_words(
    images: Images, dockerd: Dockerd, saved: Saved, reference: str
) -> None:
    _load(images, saved.archive)
    theirs = ask(dockerd.socket, "DELETE", "/images/" + reference.replace(" ", "%20"))

    with pytest.raises(CnmError) as missed:
        images.find(reference)

    assert (missed.value.status, str(missed.value)) == (theirs.status, theirs.message)


def test_an_image_is_found_by_every_way_of_naming_it(images: Images, saved: Saved) -> None:
    _load(images, saved.archive)
    ident = saved.ids["base:1"]
    digits = ident.removeprefix("sha256:")
    digest = f"sha256:{'d' * 64}"
    images.add_digest(ident, f"docker.io/library/base@{digest}")

    ways = [
        *("base:1", "library/base:1", "docker.io/library/base:1", "index.docker.io/library/base:1"),
        *(ident, digits, digits[:12], f"sha256:{digits[:12]}", f"base@{digest}", f"base:whatever@{digest}"),
    ]

    assert {images.find(way).id for way in ways} == {ident}


def test_tags_name_and_move(images: Images) -> None:
    one, two = add_image(images, "one"), add_image(images, "two", tar(text("f", "2")))

    images.tag("one", "shared:x")
    assert images.find("shared:x").id == one
    images.tag(two, "shared:x")

    assert images.find("shared:x").id == two
    assert images.find("one").names == ("docker.io/library/one:latest",)
    with pytest.raises(NotFound, match="No such image: nope:latest"):
        images.tag("nope", "x")
    with pytest.raises(InvalidParameter, match="refusing to create a tag with a digest reference"):
        images.tag("one", f"x@sha256:{'a' * 64}")


class Case(NamedTuple):
    """What is removed, and what containers there are: images by state."""

    reference: str
    force: bool = False
    stopped: str = ""
    running: str = ""


REMOVALS = {
    "a name of two": Case("family:1"),
    "the only name": Case("base:1"),
    "an id with a name": Case("base:1 id"),
    "an id with two names": Case("family:1 id"),
    "an id with two names, forced": Case("family:1 id", True),
    "an id without a name": Case("nameless id"),
    "a name while a stopped container uses it": Case("base:1", stopped="base:1"),
    "a name while a stopped container uses it, forced": Case("base:1", True, stopped="base:1"),
    "a name while a running container uses it": Case("base:1", running="base:1"),
    "a name while a running container uses it, forced": Case("base:1", True, running="base:1"),
    "an id while a stopped container uses it": Case("base:1 id", stopped="base:1"),
    "an id while a stopped container uses it, forced": Case("base:1 id", True, stopped="base:1"),
    "an id while a running container uses it, forced": Case("base:1 id", True, running="base:1"),
    "a name of two while a container uses it": Case("family:1", stopped="family:1"),
}


@pytest.mark.parametrize("case", REMOVALS.values(), ids=REMOVALS)
def test_removing_answers_as_dockerd_does(images: Images, dockerd: Dockerd, saved: Saved, case: Case) -> None:
    name, _, is_id = case.reference.partition(" ")
    reference = saved.ids[name] if is_id else name
    _load_singly(dockerd, images, saved)
    users = _containers(dockerd, case)
    used = {images.find(image).id: found for image, found in users.items()}
    try:
        theirs = ask(dockerd.socket, "DELETE", f"/images/{reference}", force="1" if case.force else "0")
        try:
            removed = images.remove(reference, force=case.force, in_use=lambda image: used.get(image, []))
            ours: tuple[int, Any] = (200, msgspec.to_builtins(removed))
        except CnmError as error:
            ours = (error.status, str(error))
    finally:
        for found in users.values():
            dockerd.docker("rm", "-f", *(user.id for user in found))

    assert ours == (theirs.status, theirs.message or json.loads(theirs.body))
    assert _seen(images) == _their_images(dockerd)


def _load_singly(dockerd: Dockerd, images: Images, saved: Saved) -> None:
    """The same three images in both, and nothing else."""
    while found := dockerd.docker("images", "-aq", "--no-trunc").split():
        for image in dict.fromkeys(found):
            ask(dockerd.socket, "DELETE", f"/images/{image}", force="1")
    for archive in saved.single:
        dockerd.docker("load", "-i", str(archive))
        _load(images, archive)


def _containers(dockerd: Dockerd, case: Case) -> dict[str, list[User]]:
    found: dict[str, list[User]] = {}
    if case.stopped:
        found[case.stopped] = [User(dockerd.docker("create", case.stopped, "sh"), False)]
    if case.running:
        run = ("run", "-d", "--network", "none", case.running, "sleep", "1000")
        found[case.running] = [User(dockerd.docker(*run), True)]
    return found


def _seen(images: Images) -> dict[str, set[str]]:
    return {
        image.id: {name.removeprefix("docker.io/library/") for name in image.names} for image in images.all()
    }


def _their_images(dockerd: Dockerd) -> dict[str, set[str]]:
    found = json.loads(ask(dockerd.socket, "GET", "/images/json", all="1").body)
    return {image["Id"]: set(image["RepoTags"] or ()) - {"<none>:<none>"} for image in found}


def test_an_image_that_is_removed_under_a_stopped_container_keeps_its_layers_until_that_is_gone(
    images: Images, tmp_path: Path
) -> None:
    ident = add_image(images, "used", tar(text("f", "1")))
    layers = images.find("used").layers
    used = {ident: [User("a" * 64, False)]}

    images.remove("used", force=True, in_use=lambda image: used.get(image, []))

    assert images.all() == []
    images.forget(lambda image: used.get(image, []))
    place = tmp_path / "c"
    place.mkdir()
    rootfs = Rootfs(str(place), str(tmp_path / "storage"), layers)
    assert Path(rootfs.mount(), "f").read_text() == "1"
    rootfs.remove()
    images.forget(NOBODY)
    assert not (tmp_path / "storage" / "overlay" / layers[0]).exists()


def test_a_removal_that_was_interrupted_shows_the_image_as_it_was(images: Images, saved: Saved) -> None:
    _load(images, saved.archive)
    ident = saved.ids["base:1"]

    images.tag(ident, hidden_name(ident))

    assert images.find("base:1").names == ("docker.io/library/base:1",)
    images.forget(NOBODY)
    assert images.find(ident).names == ("docker.io/library/base:1",)


def test_an_image_that_was_removed_is_there_again_once_it_is_loaded(images: Images, saved: Saved) -> None:
    _load(images, saved.archive)
    used = {saved.ids["base:1"]: [User("a" * 64, False)]}
    images.remove("base:1", force=True, in_use=lambda image: used.get(image, []))

    _load(images, saved.archive)

    assert images.find("base:1").names == ("docker.io/library/base:1",)


def _container(images: Images, reference: str, **config: Any) -> Container:
    image = images.find(reference)
    return Container(
        id="c" * 64,
        name="c",
        created=0,
        image=image.id,
        layers=image.layers,
        config=msgspec.structs.replace(image.config, **config),
        host=HostConfig(),
        networks={},
        args=(),
    )


@pytest.fixture
def rootfs(images: Images, tmp_path: Path) -> Iterator[Rootfs]:
    add_image(images, "bb", changes=["CMD sh"])
    made = _rootfs(images, tmp_path, "bb", "one")
    yield made
    made.remove()


def _rootfs(images: Images, tmp_path: Path, reference: str, name: str) -> Rootfs:
    place = tmp_path / name
    place.mkdir()
    made = Rootfs(str(place), str(tmp_path / "storage"), images.find(reference).layers)
    made.mount()
    return made


def test_a_commit_keeps_everything_that_files_are(images: Images, rootfs: Rootfs, tmp_path: Path) -> None:
    root = Path(rootfs.path)
    (root / "srv").mkdir(mode=0o2750)
    os.chmod(root / "srv", 0o2750)
    (root / "srv" / "f").write_text("content")
    os.chown(root / "srv" / "f", 1000, 2000)
    os.chmod(root / "srv" / "f", 0o4711)
    os.link(root / "srv" / "f", root / "srv" / "same")
    os.setxattr(root / "srv" / "f", "user.note", b"\xff\x00binary")
    os.setxattr(
        root / "srv" / "same",
        "security.capability",
        bytes.fromhex("01000002002000000000000000000000" + "0" * 8),
    )
    os.mknod(root / "srv" / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mkfifo(root / "srv" / "pipe")
    os.symlink("../nowhere", root / "srv" / "link")
    (root / "srv" / ("ü" * 100)).write_text("long")
    (root / "bin" / "vi").unlink()
    shutil.rmtree(root / "var")
    shutil.rmtree(root / "tmp")
    (root / "tmp").mkdir()
    os.utime(root / "srv" / "f", (1_500_000_000, 1_500_000_000))

    ident = images.commit(_container(images, "bb"), rootfs.upper, "kept", "me", "why", ["LABEL a=b"])

    image = images.find("kept")
    assert (image.id, image.author, image.comment, image.config.labels) == (ident, "me", "why", {"a": "b"})
    assert image.parent == images.find("bb").id
    assert image.layers[:-1] == images.find("bb").layers
    again = _rootfs(images, tmp_path, "kept", "two")
    try:
        assert _facts(Path(again.path)) == _facts(root)
        assert not os.path.lexists(f"{again.path}/bin/vi")
        assert not os.path.lexists(f"{again.path}/var")
        assert again.changes() == []
    finally:
        again.remove()


def _facts(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        name, status = str(path.relative_to(root)), path.lstat()
        if name.startswith(("dev", "etc")) or name == ".dockerenv":
            continue
        linked = inodes.setdefault(status.st_ino, name) if status.st_nlink > 1 and not path.is_dir() else ""
        attributes = {
            a: os.getxattr(path, a, follow_symlinks=False) for a in os.listxattr(path, follow_symlinks=False)
        }
        found[name] = (
            *(oct(status.st_mode), status.st_uid, status.st_gid, status.st_rdev, attributes, linked),
            path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else b"",
            None if path.is_dir() else int(status.st_mtime),
        )
    return found


def test_a_commit_of_no_changes_adds_no_layer(images: Images, rootfs: Rootfs) -> None:
    images.commit(_container(images, "bb"), rootfs.upper, "same", "", "", [])

    assert images.find("same").layers == images.find("bb").layers
    assert images.find("same").history[-1].empty_layer


def test_commits_upon_commits_are_read_back_and_parents_are_kept(images: Images, rootfs: Rootfs) -> None:
    Path(rootfs.path, "one").touch()
    first = images.commit(_container(images, "bb"), rootfs.upper, "first", "", "", [])

    with pytest.raises(CnmError) as refused:
        images.remove(images.find("bb").id, force=True, in_use=NOBODY)
    short = images.find("bb").id[7:19]
    assert str(refused.value) == (
        f"conflict: unable to delete {short} (cannot be forced) - image has dependent child images"
    )
    gone = images.remove("bb", force=False, in_use=NOBODY)
    assert [entry.untagged for entry in gone] == ["bb:latest"]
    gone = images.remove("first", force=False, in_use=NOBODY)
    assert gone[0].untagged == "first:latest"
    assert gone[1].deleted == first
    assert images.all() == []


def test_a_commit_has_the_config_that_the_client_sends(images: Images, rootfs: Rootfs) -> None:
    container = _container(images, "bb", cmd="sleep 1", env=["A=1"])

    images.commit(container, rootfs.upper, "mine", "", "", ["USER 5"], Config(env=["B=2"], cmd=["x"]))
    images.commit(container, rootfs.upper, "plain", "", "", [])

    mine = images.find("mine").config
    assert (mine.env, mine.cmd, mine.user) == (["B=2", "A=1"], ["x"], "5")
    assert images.find("plain").config.cmd == ["sleep 1"]


def test_a_commit_of_a_container_whose_image_is_gone_is_refused(images: Images, rootfs: Rootfs) -> None:
    container = msgspec.structs.replace(_container(images, "bb"), image=f"sha256:{'0' * 64}")

    with pytest.raises(NotFound, match="No such image: sha256:000"):
        images.commit(container, rootfs.upper, "x", "", "", [])


def test_a_second_store_sees_what_the_first_one_changes(images: Images, tmp_path: Path) -> None:
    other = store(tmp_path)
    assert other.all() == []

    add_image(images, "seen", tar(text("f", "1")))

    assert [image.names for image in other.all()] == [("docker.io/library/seen:latest",)]


def test_a_store_may_move(images: Images, tmp_path: Path) -> None:
    add_image(images, "first", tar(text("f", "1")))
    (tmp_path / "storage").rename(tmp_path / "elsewhere")

    moved = Images(str(tmp_path / "elsewhere"), str(tmp_path / "other"), programs())
    add_image(moved, "second", tar(text("f", "2")))

    assert {image.names[0] for image in moved.all()} == {
        f"docker.io/library/{name}:latest" for name in ("first", "second")
    }


def test_reading_goes_on_while_podman_writes_and_holds_its_locks(images: Images, tmp_path: Path) -> None:
    add_image(images, "first", tar(text("f", "1")))
    failures: list[BaseException] = []
    ended = threading.Event()

    def read() -> None:
        notes = RepoDigests(str(tmp_path / "digests")), ImageNotes(str(tmp_path / "parents"), str)
        mine = ImageIndex(Storage(str(tmp_path / "storage")), *notes)
        while not ended.is_set():
            try:
                assert any(image.names == ("docker.io/library/first:latest",) for image in mine.images())
            except BaseException as error:  # noqa: BLE001 - told by the test
                failures.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(3):
            add_image(images, f"more{number}", tar(text("f", str(number))))
            images.remove(f"more{number}", force=False, in_use=NOBODY)
    finally:
        ended.set()
        reader.join()
    assert failures == []
    with (tmp_path / "storage" / "overlay-images" / "images.lock").open("r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        assert images.find("first").names


_IMPORT = """
import sys
from pathlib import Path
from tests.support.image_store import add_image, store
add_image(store(Path(sys.argv[1])), "killed", Path(sys.argv[2]).read_bytes())
"""


@pytest.mark.parametrize(
    "moment", ["incoming/*/layer", "incoming/*storage*", "overlay/*/diff/big", "overlay-layers/*.gz"]
)
def test_an_import_that_is_killed_leaves_nothing_that_counts(tmp_path: Path, moment: str) -> None:
    (tmp_path / "big.tar").write_bytes(tar(text("big", "x" * 60_000_000)))
    root = tmp_path / "storage"
    command = [sys.executable, "-c", _IMPORT, str(tmp_path), str(tmp_path / "big.tar")]
    with subprocess.Popen(command, start_new_session=True) as process:
        while not list(root.glob(moment)):
            assert process.poll() is None, f"it ended before there was {moment}"
        os.killpg(process.pid, signal.SIGKILL)

    images = store(tmp_path)
    images.settle()

    assert os.listdir(root / "incoming") == []
    assert all(image.layers for image in images.all())
    ident = add_image(images, "again", (tmp_path / "big.tar").read_bytes())
    assert images.find("again").id == ident
    for image in images.all():
        images.remove(image.id, force=False, in_use=NOBODY)
    assert [path for path in (root / "overlay").iterdir() if len(path.name) == 64] == []


def test_a_damaged_list_says_which(images: Images, tmp_path: Path) -> None:
    add_image(images, "x", tar(text("f", "1")))
    path = tmp_path / "storage" / "overlay-images" / "images.json"
    path.write_text(path.read_text()[:50])

    with pytest.raises(CnmError, match=r"the image store's list .*images\.json is damaged"):
        images.all()


def test_podman_that_is_absent_is_named_with_the_remedy(tmp_path: Path) -> None:
    images = Images(str(tmp_path / "s"), str(tmp_path / "r"), Programs(podman="/nowhere/podman"))

    with pytest.raises(CnmError, match="/nowhere/podman is not installed: install it"):
        images.import_tar(io.BytesIO(tar(text("f", "1"))), "x", [], "")
    assert os.listdir(tmp_path / "s" / "incoming") == []


def test_nothing_of_the_hosts_settings_counts(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_private()
    settings = Path("/etc/containers")
    settings.mkdir(exist_ok=True)
    (settings / "policy.json").write_text('{"default": [{"type": "reject"}]}')
    for name in ("storage.conf", "containers.conf", "registries.conf"):
        (settings / name).write_text("this is = not [ toml")
    for name, value in {"STORAGE_DRIVER": "vfs", "CONTAINER_HOST": "tcp://192.0.2.1:1"}.items():
        monkeypatch.setenv(name, value)
    try:
        add_image(images, "x", tar(text("f", "1")))
        images.remove("x", force=False, in_use=NOBODY)
    finally:
        shutil.rmtree(settings)


def test_roots_of_user_namespaces_reach_the_layers(images: Images, tmp_path: Path) -> None:
    layer = images.find(add_image(images, "x", tar(text("f", "1")))).layers[0]

    for path in (tmp_path / "storage", tmp_path / "storage/overlay", tmp_path / "storage/overlay" / layer):
        assert stat.S_IMODE(path.stat().st_mode) & 0o711 == 0o711


def test_nothing_stays_mounted_also_where_the_disk_is_full(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(small)], check=True)
    images = Images(str(small / "storage"), str(tmp_path / "run"), programs())
    try:
        with pytest.raises(CnmError, match="no space left on device"):
            add_image(images, "x", busybox_tar())

        assert os.listdir(small / "storage" / "incoming") == []
        assert images.all() == []
        assert f"{small}/" not in Path("/proc/self/mountinfo").read_text()
    finally:
        subprocess.run(["umount", str(small)], check=True)
