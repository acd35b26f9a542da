"""Images that clients load and run; and how an image with several names is listed."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from tests.docker.test_cli_containers import Cli
from tests.support.image_archives import Archive, archive
from tests.support.image_store import busybox_tar, tar, text
from tests.support.launcher import Launcher
from tests.support.launcher_left import left


def _saved(*names: str, said: str) -> Archive:
    """An image of one layer, as `docker save` writes it."""
    config = {"Cmd": ["sh", "-c", "echo $SAID"], "Env": ["PATH=/bin", f"SAID={said}"]}
    return archive(*names, layers=[busybox_tar()], config=config)


@pytest.fixture
def images(docker: Launcher) -> Iterator[Launcher]:
    """What was loaded goes again."""
    yield docker
    docker.clear()
    docker.run("rmi", *(f"team/{name}" for name in ("cli:1", "cli:2", "py:1", "ours:1")))


def test_the_docker_cli_loads_an_image_from_a_file_and_runs_it(images: Launcher, tmp_path: Path) -> None:
    ident, content = _saved("team/cli:1", "team/cli:2", said="by the CLI")
    (tmp_path / "saved.tar").write_bytes(content)

    said = images.docker("load", "-i", str(tmp_path / "saved.tar"))

    assert said.splitlines() == ["Loaded image: team/cli:1", "Loaded image: team/cli:2"]
    assert images.docker("image", "inspect", "-f", "{{.Id}}", "team/cli:2") == ident
    assert images.docker("run", "--rm", "team/cli:1") == "by the CLI"


def test_docker_py_loads_an_image_and_runs_it(images: Launcher) -> None:
    ident, content = _saved("team/py:1", said="by docker-py")
    with contextlib.closing(docker_py.DockerClient(f"unix://{images.socket}", version="1.41")) as client:
        (loaded,) = client.images.load(content)

        assert (loaded.id, loaded.tags) == (ident, ["team/py:1"])
        assert client.containers.run(loaded, remove=True) == b"by docker-py\n"


def test_cnmctl_loads_an_image_from_its_input_and_runs_it(images: Launcher) -> None:
    cnmctl = Cli(images)
    _, content = _saved("team/ours:1", said="by cnmctl")

    loaded = cnmctl.said("load", typed=content)

    assert loaded == (0, "Loaded image: team/ours:1\n", "")
    assert cnmctl.said("run", "--rm", "team/ours:1") == (0, "by cnmctl\n", "")


_LAYERS = [tar(text("etc/one", "1" * 5000)), tar(text("etc/two", "2" * 5000))]
_SOUND = archive("team/cli:1", layers=_LAYERS).content
_ZIPPED = gzip.compress(_SOUND, 6, mtime=0)


def _swapped(content: bytes, old: bytes, new: bytes) -> bytes:
    assert (content.count(old), len(new)) == (1, len(old))
    return content.replace(old, new)


def _flipped(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


DAMAGED = {
    "no archive": (b"no archive", "the archive of images cannot be read"),
    "nothing": (b"", "the archive of images cannot be read"),
    "another tar": (tar(text("x", "1")), "unrecognized image format"),
    "a layer that is not what its digest says": (
        archive("team/cli:1", layers=_LAYERS, claimed=[_LAYERS[0], tar(text("x", "y"))]).content,
        'invalid diffID for a layer: expected "sha256:',
    ),
    "cut off amid a layer": (
        _SOUND[: _SOUND.index(b"2" * 500) + 500],
        "the archive of images cannot be read",
    ),
    "without its last layer": (
        archive("team/cli:1", layers=_LAYERS[:1], claimed=_LAYERS).content,
        "invalid manifest, layers length mismatch: expected 2, got 1",
    ),
    "a gzip with a changed byte": (
        _flipped(_ZIPPED, len(_ZIPPED) // 2),
        "the archive cannot be decompressed",
    ),
    "a gzip that was cut off": (_ZIPPED[: len(_ZIPPED) // 2], "the archive cannot be decompressed"),
    "a gzip with a changed checksum": (
        _flipped(_ZIPPED, len(_ZIPPED) - 7),
        "the archive cannot be decompressed",
    ),
}


@pytest.mark.parametrize("how", DAMAGED)
def test_what_is_damaged_is_refused_leaves_nothing_and_the_next_load_works(
    images: Launcher, tmp_path: Path, how: str
) -> None:
    content, words = DAMAGED[how]
    (tmp_path / "damaged").write_bytes(content)
    (tmp_path / "sound").write_bytes(_SOUND)
    before = images.docker("images", "-aq")

    code, error = images.fails("load", "-i", str(tmp_path / "damaged"))

    assert (code, words in error) == (1, True), error
    assert "internal error" not in error
    assert len(error.splitlines()) == 1
    assert images.docker("images", "-aq") == before
    assert left(images) == []
    assert "Traceback" not in images.log
    assert images.docker("load", "-i", str(tmp_path / "sound")) == "Loaded image: team/cli:1"


def test_an_image_is_what_its_configuration_is_and_not_what_its_file_is_called(
    images: Launcher, tmp_path: Path
) -> None:
    changed = _swapped(_SOUND, b'"Cmd": ["sh"]', b'"Cmd": ["ls"]')
    (tmp_path / "changed").write_bytes(changed)

    images.docker("load", "-i", str(tmp_path / "changed"))

    form = "{{.Id}} {{.Config.Cmd}}"
    ident, _, command = images.docker("image", "inspect", "-f", form, "team/cli:1").partition(" ")
    assert command == "[ls]"
    assert ident != archive("team/cli:1", layers=_LAYERS).id


def test_an_image_is_listed_with_those_of_its_names_that_are_asked_for(images: Launcher) -> None:
    for name in ("team/cli:1", "team/cli:2", "team/py:1"):
        images.docker("tag", "busybox", name)

    def listed(*words: str) -> list[str]:
        return sorted(images.docker("images", "--format", "{{.Repository}}:{{.Tag}}", *words).splitlines())

    assert listed("team/cli") == ["team/cli:1", "team/cli:2"]
    assert listed("team/cli:2") == ["team/cli:2"]
    assert listed("team/*") == ["team/cli:1", "team/cli:2", "team/py:1"]
    assert listed("*") == ["busybox:latest"]
    assert listed("nope") == []
