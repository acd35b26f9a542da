"""The docker CLI prints the same of a registry whether dockerd or the launcher asks it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import dockerd as docker_lab
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.dockerd import make_image, start_dockerd
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.unpacked import environment, lacking, program

_IMAGE = "team/base:1"
_NORMAL = ((re.compile(r"\b[0-9a-f]{64}\b"), "<digest>"), (re.compile(r"\b[0-9a-f]{12}\b"), "<layer>"))
_OURS_LEAVES_OUT = re.compile(r"^\S+: Verifying Checksum\n|(?<=<digest>) size: \d+$", re.MULTILINE)
"""podman does not tell when it begins to check, nor how large a manifest was."""


@dataclass
class Pair:
    """Sockets of both; each has passwords of its own below `place`."""

    registry: Registry
    place: Path
    ours: str
    theirs: str

    def said(self, *words: str, given: str = "") -> tuple[tuple[int, str], tuple[int, str]]:
        """Exit code and output of both, ids and digests by what they are."""
        return self._said("ours", self.ours, words, given), self._said("theirs", self.theirs, words, given)

    def _said(self, side: str, socket: str, words: tuple[str, ...], given: str) -> tuple[int, str]:
        done = subprocess.run(
            [program("docker"), "--config", self.place / side, "-H", f"unix://{socket}", *words],
            env=environment(),
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        text = done.stdout.replace(f"{self.place}/{side}", "<config>")
        for pattern, name in _NORMAL:
            text = pattern.sub(name, text)
        return done.returncode, _OURS_LEAVES_OUT.sub("", text)

    def name(self, image: str) -> str:
        return f"{self.registry.name}/{image}"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Both have the same image, from the registry, and are logged in there."""
    if reason := lacking(*lab.PROGRAMS, *docker_lab.PROGRAMS, *registries.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder)) as launcher,
    ):
        place, popen = Path(folder), launcher.cnmd.popen
        with (
            registries.running(place / "registry", popen) as registry,
            start_dockerd(place / "docker", "--iptables=false", "--bridge=none", popen=popen) as dockerd,
        ):
            pair = Pair(registry, place, launcher.socket, str(dockerd.socket))
            _log_in(pair)
            name = pair.name(_IMAGE)
            dockerd.docker("tag", make_image(dockerd), name)
            code, said = pair._said("theirs", pair.theirs, ("push", name), "")
            assert code == 0, said
            dockerd.docker("rmi", "busybox", name)
            yield pair


def _log_in(pair: Pair) -> None:
    ours, theirs = pair.said(
        "login", "--username", USER, "--password-stdin", pair.registry.name, given=PASSWORD
    )
    assert ours == theirs
    assert ours[0] == 0


def test_images_come_and_go_with_the_same_words(pair: Pair) -> None:
    name = pair.name(_IMAGE)
    repository = pair.name("team/base")
    (digest,) = _digest(pair, name)
    for words in (
        ("pull", name),
        ("pull", name),
        ("pull", "--all-tags", repository),
        (
            "images",
            "--digests",
            "--no-trunc",
            "--format",
            "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}",
            repository,
        ),
        ("image", "inspect", "-f", "{{.Id}} {{.RepoTags}} {{.RepoDigests}} {{.RootFS}}", name),
        ("rmi", name),
        ("pull", f"{repository}@{digest}"),
        ("images", "--digests", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}", repository),
        ("images", "--filter", "dangling=true", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}"),
        ("image", "inspect", "-f", "{{.Id}} {{.RepoTags}} {{.RepoDigests}}", f"{repository}@{digest}"),
        ("rmi", f"{repository}@{digest}"),
    ):
        ours, theirs = pair.said(*words)
        assert (words, ours) == (words, theirs)
        assert ours[0] == 0


def test_a_push_is_told_alike(pair: Pair) -> None:
    """podman compresses the layers that it sends anew: a digest may be another than dockerd's."""
    name = pair.name(_IMAGE)
    pair.said("pull", name)

    ours, theirs = pair.said("push", name)

    pair.said("rmi", name)
    assert ours == theirs
    assert ours[0] == 0


def _digest(pair: Pair, name: str) -> tuple[str, ...]:
    """Of the manifest, as the launcher finds it."""
    command = [str(program("docker")), "--config", f"{pair.place}/ours", "-H", f"unix://{pair.ours}"]
    said = subprocess.run([*command, "pull", name], env=environment(), capture_output=True, text=True).stdout
    subprocess.run([*command, "rmi", name], env=environment(), capture_output=True, check=True)
    return tuple(line.removeprefix("Digest: ") for line in said.splitlines() if line.startswith("Digest: "))


@pytest.mark.parametrize(
    "words",
    [
        ("pull", "team/base:nope"),
        ("pull", "team/nope:1"),
        ("pull", "--all-tags", "team/nope"),
        ("pull", "team/base@sha256:" + "0" * 64),
        ("push", "team/nope:1"),
        ("push", "--all-tags", "team/nope"),
    ],
)
def test_what_is_not_there_is_told_alike(pair: Pair, words: tuple[str, ...]) -> None:
    *verb, image = words

    ours, theirs = pair.said(*verb, pair.name(image))

    assert ours == theirs
    assert ours[0] == 1


def test_wrong_passwords_are_told_alike(pair: Pair) -> None:
    ours, theirs = pair.said("login", "-u", USER, "--password-stdin", pair.registry.name, given="wrong")

    assert ours == theirs
    assert ours[0] == 1


def test_a_push_of_a_stranger_is_told_alike(pair: Pair) -> None:
    name = pair.name(_IMAGE)
    pair.said("pull", name)
    pair.said("logout", pair.registry.name)

    ours, theirs = pair.said("push", name)

    _log_in(pair)
    pair.said("rmi", name)
    assert ours[1].splitlines()[-1] == theirs[1].splitlines()[-1] == "no basic auth credentials"
