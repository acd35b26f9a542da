"""Builds that begin with images of registries: with passwords, renewed, and with a registry that dies meanwhile."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host
from tests.support import building
from tests.support import dockerd as docker_lab
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.building import Project, rest
from tests.support.cut_wire import Wire, wire
from tests.support.dockerd import start_dockerd
from tests.support.engine_pair import ask
from tests.support.image_store import tar, text
from tests.support.launcher import Launcher
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.registry_images import layer, put_image
from tests.support.small_containers import eventually
from tests.support.unpacked import environment, lacking, program

_WIRE_PORT, _PORT = 5001, 5000
_SETTINGS = f'insecure-registries = ["127.0.0.1:{_WIRE_PORT}"]\n'
_LARGE = 4 << 20


@dataclass
class Stage:
    """A launcher and a dockerd, a registry with passwords, and one without that the launcher reaches by a wire."""

    launcher: Launcher
    private: Registry
    plain: Registry
    wire: Wire
    host: Host
    theirs: str
    """Socket of the dockerd."""

    @property
    def base(self) -> str:
        """What is in the private one: busybox, and a layer more."""
        return f"{self.private.name}/team/base:1"

    def push(self, config: Path, says: str) -> None:
        """`base` is another now; here there is none."""
        docker, options = self.launcher.docker, ("--config", str(config))
        docker("run", "--name", "maker", "busybox", "sh", "-c", f"echo {says} >/says")
        docker("commit", "maker", self.base)
        docker("rm", "maker")
        docker(*options, "push", self.base)
        docker("rmi", self.base)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := lacking(*lab.PROGRAMS, *registries.PROGRAMS, *docker_lab.PROGRAMS):
        pytest.skip(reason)
    with ExitStack() as stack:
        place, beside = (
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp"))) for _ in range(2)
        )
        launcher = stack.enter_context(lab.running(place, config=_SETTINGS))
        popen = launcher.cnmd.popen
        host = getattr(popen, "__self__")  # noqa: B009 - it is some host's `popen`
        private = stack.enter_context(registries.running(beside / "private", popen))
        plain = stack.enter_context(registries.running(beside / "plain", popen, port=_PORT, is_plain=True))
        made = stack.enter_context(wire(host, _WIRE_PORT, _PORT))
        options = ("--iptables=false", "--bridge=none")
        dockerd = stack.enter_context(start_dockerd(beside / "docker", *options, popen=popen))
        yield Stage(launcher, private, plain, made, host, str(dockerd.socket))


@pytest.fixture
def clean(stage: Stage) -> Iterator[Stage]:
    """What was built, and what it began with, is gone afterwards."""
    with building.built(stage.launcher):
        yield stage
        stage.wire.cut()


def _config(place: Path, stage: Stage, password: str) -> Path:
    """A folder with settings of the docker CLI."""
    place.mkdir()
    secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (place / "config.json").write_text(json.dumps({"auths": {stage.private.name: {"auth": secret}}}))
    return place


@pytest.fixture
def known(clean: Stage, tmp_path: Path) -> Path:
    """Settings with the password; `base` is there."""
    config = _config(tmp_path / "known", clean, PASSWORD)
    clean.push(config, "first")
    return config


def _project(place: Path, config: Path) -> Project:
    place.mkdir(exist_ok=True)
    return Project(place, "--config", str(config))


def test_who_has_logged_in_builds_on_a_private_image(clean: Stage, known: Path, tmp_path: Path) -> None:
    config = tmp_path / "login"
    clean.launcher.docker(
        *("--config", str(config), "login", "-u", USER, "--password-stdin", clean.private.name),
        given=PASSWORD,
    )
    project = _project(tmp_path / "project", config)
    project.write(f"FROM {clean.base}\nRUN cat /says > /said\nCMD cat /said\n")

    said = project.said(clean.launcher, "-t", "web", ".")

    assert said[:2] == [f"Step 1/3 : FROM {clean.base}", "1: Pulling from team/base"]
    assert clean.launcher.docker("run", "--rm", "web") == "first"
    digests = clean.launcher.docker("image", "inspect", "-f", "{{json .RepoDigests}}", clean.base)
    assert [each.partition("@")[0] for each in json.loads(digests)] == [clean.base.rpartition(":")[0]]
    assert list((clean.launcher.run_dir / "launcher").rglob("auth.json")) == []


def test_files_are_copied_from_a_private_image(clean: Stage, known: Path, tmp_path: Path) -> None:
    project = _project(tmp_path / "project", known)
    project.write(f"FROM busybox\nCOPY --from={clean.base} /says /said\nCMD cat /said\n")

    said = project.said(clean.launcher, "-t", "web", ".")

    assert "1: Pulling from team/base" in said
    assert clean.launcher.docker("run", "--rm", "web") == "first"


def test_a_renewed_image_is_taken_when_it_is_asked_for(clean: Stage, known: Path, tmp_path: Path) -> None:
    project = _project(tmp_path / "project", known)
    project.write(f"FROM {clean.base}\nCMD cat /says\n").said(clean.launcher, "-t", "web", ".")
    clean.launcher.docker("tag", clean.base, "kept")
    clean.push(known, "second")
    clean.launcher.docker("tag", "kept", clean.base)

    def says(*options: str) -> str:
        project.said(clean.launcher, "-t", "web", *options, ".")
        return clean.launcher.docker("run", "--rm", "web")

    assert says() == "first"
    assert says("--pull") == "second"
    assert says() == "second"
    assert says("--pull") == "second"


_SHORT = re.compile(r"[0-9a-f]{12}")


def _last_words(socket: str, config: Path, base: str, place: Path) -> tuple[int, str]:
    """Exit code and error of a build."""
    (place / "Dockerfile").write_text(f"FROM {base}\nENV A=1\n")
    done = subprocess.run(
        [program("docker"), "--config", config, "-H", f"unix://{socket}", "build", "."],
        cwd=place,
        env={**environment(), "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    "who", ["nobody", "a wrong password", "an unknown image", "an unknown tag", "no registry"]
)
def test_what_cannot_be_fetched_is_told_as_by_dockerd(
    clean: Stage, known: Path, tmp_path: Path, who: str
) -> None:
    config, base = known, clean.base
    match who:
        case "nobody":
            config = tmp_path / "nobody"
        case "a wrong password":
            config = _config(tmp_path / "wrong", clean, "wrong")
        case "an unknown image":
            base = f"{clean.private.name}/team/nope:1"
        case "an unknown tag":
            base = f"{clean.private.name}/team/base:nope"
        case _:
            base = "127.0.0.1:9/team/base:1"
    place = tmp_path / "project"
    place.mkdir()

    ours = _last_words(clean.launcher.socket, config, base, place)
    if who == "nobody":  # dockerd asks a registry on the loopback again, without TLS, and tells of that
        assert ours == (1, "no basic auth credentials")
    else:
        code, words = _last_words(clean.theirs, config, base, place)
        assert ours == (code, words.replace("http:", "https:"))
    assert rest(clean.launcher) == []


def test_other_clients_send_passwords_with_the_build(clean: Stage, known: Path) -> None:
    def built(password: str = "") -> Any:
        login = {"username": USER, "password": password} if password else {}
        header = base64.urlsafe_b64encode(
            json.dumps({"no registry": {}, clean.private.name: login}).encode()
        ).decode()
        archive = tar(text("Dockerfile", f"FROM {clean.base}\nENV A=1\n"))
        headers = {"Content-Type": "application/x-tar", "X-Registry-Config": header}
        answer = ask(clean.launcher.socket, "POST", "/v1.41/build?t=web", archive, headers)
        return json.loads(answer.body.splitlines()[-1])

    assert "unauthorized" in built("wrong")["error"] or "basic auth" in built("wrong")["error"]
    assert "basic auth" in built()["error"]
    assert built(PASSWORD) == {"stream": "Successfully tagged web:latest\n"}


def _fetching(stage: Stage, place: Path, name: str) -> tuple[Project, subprocess.Popen[bytes]]:
    """A build that stands still amid an image behind the wire; `name` is new."""
    layers = [layer("small", name.encode()), layer("l", os.urandom(_LARGE))]
    put_image(stage.host, stage.plain, name, "1", layers)
    project = _project(place / "project", place / "nobody")
    project.write(f"FROM 127.0.0.1:{_WIRE_PORT}/{name}:1\nENV A=1\n")
    stage.wire.stop_after(_LARGE // 2)
    client = project.begin(stage.launcher, ".")
    assert stage.wire.stands_still.wait(30)
    return project, client


def test_a_registry_that_dies_amid_a_build_is_told_of(clean: Stage, tmp_path: Path) -> None:
    project, client = _fetching(clean, tmp_path, "dying")

    clean.plain.stop()
    clean.wire.cut()
    said, _ = client.communicate(timeout=60)

    assert client.returncode == 1, said
    assert b" broke off: unexpected EOF" in said, said
    assert rest(clean.launcher) == []
    clean.plain.start()
    project.said(clean.launcher, "-t", "web", ".")


def test_a_client_that_goes_ends_what_its_build_fetches(clean: Stage, tmp_path: Path) -> None:
    project, client = _fetching(clean, tmp_path, "left")

    client.kill()
    client.communicate()

    eventually(lambda: building.folders(clean.launcher) == [])
    clean.wire.cut()
    project.said(clean.launcher, "-t", "web", ".")
    assert rest(clean.launcher) == []


def test_a_launcher_that_is_killed_while_a_build_fetches_leaves_nothing(clean: Stage, tmp_path: Path) -> None:
    project, client = _fetching(clean, tmp_path, "killed")

    clean.launcher.kill()
    client.communicate(timeout=20)
    clean.launcher.start()

    assert rest(clean.launcher) == []
    clean.wire.cut()
    project.said(clean.launcher, "-t", "web", ".")
