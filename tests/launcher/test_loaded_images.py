"""Images that clients load and run; and how an image with several names is listed."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest

from tests.docker.test_cli_containers import Cli
from tests.support.image_store import busybox_tar, entry, tar, text
from tests.support.launcher import Launcher


def _saved(*names: str, said: str) -> tuple[str, bytes]:
    """The id of an image of one layer, and an archive of it as `docker save` writes it."""
    layer = busybox_tar()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh", "-c", "echo $SAID"], "Env": ["PATH=/bin", f"SAID={said}"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "a test"}],
    }
    content = json.dumps(config)
    digits = hashlib.sha256(content.encode()).hexdigest()
    manifest = [{"Config": f"{digits}.json", "RepoTags": list(names), "Layers": ["layer.tar"]}]
    members = (
        text(f"{digits}.json", content),
        (entry("layer.tar"), layer),
        text("manifest.json", json.dumps(manifest)),
    )
    return f"sha256:{digits}", tar(*members)


@pytest.fixture
def images(docker: Launcher) -> Iterator[Launcher]:
    """What was loaded goes again."""
    yield docker
    docker.clear()
    docker.run("rmi", *(f"team/{name}" for name in ("cli:1", "cli:2", "py:1", "ours:1")))


def test_the_docker_cli_loads_an_image_from_a_file_and_runs_it(images: Launcher, tmp_path: Path) -> None:
    ident, archive = _saved("team/cli:1", "team/cli:2", said="by the CLI")
    (tmp_path / "saved.tar").write_bytes(archive)

    said = images.docker("load", "-i", str(tmp_path / "saved.tar"))

    assert said.splitlines() == ["Loaded image: team/cli:1", "Loaded image: team/cli:2"]
    assert images.docker("image", "inspect", "-f", "{{.Id}}", "team/cli:2") == ident
    assert images.docker("run", "--rm", "team/cli:1") == "by the CLI"


def test_docker_py_loads_an_image_and_runs_it(images: Launcher) -> None:
    ident, archive = _saved("team/py:1", said="by docker-py")
    with contextlib.closing(docker_py.DockerClient(f"unix://{images.socket}", version="1.41")) as client:
        (loaded,) = client.images.load(archive)

        assert (loaded.id, loaded.tags) == (ident, ["team/py:1"])
        assert client.containers.run(loaded, remove=True) == b"by docker-py\n"


def test_cnmctl_loads_an_image_from_its_input_and_runs_it(images: Launcher) -> None:
    cnmctl = Cli(images)
    _, archive = _saved("team/ours:1", said="by cnmctl")

    loaded = cnmctl.said("load", typed=archive)

    assert loaded == (0, "Loaded image: team/ours:1\n", "")
    assert cnmctl.said("run", "--rm", "team/ours:1") == (0, "by cnmctl\n", "")


def test_what_is_no_image_is_refused_and_leaves_none(images: Launcher, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive")
    before = images.docker("images", "-aq")

    code, error = images.fails("load", "-i", str(tmp_path / "text"))

    assert code == 1
    assert error.strip()
    assert images.docker("images", "-aq") == before


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
