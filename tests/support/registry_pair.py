"""A dockerd and a launcher beside the same registry, asked the same by the docker CLI."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from netns_fixtures import Host
from tests.support import dockerd as docker_lab
from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.dockerd import make_image, start_dockerd
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.unpacked import environment, program

PROGRAMS = (*lab.PROGRAMS, *docker_lab.PROGRAMS, *registries.PROGRAMS)
IMAGE = "team/base:1"
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
    host: Host

    def said(self, *words: str, given: str = "") -> tuple[tuple[int, str], tuple[int, str]]:
        """Exit code and output of both, ids and digests by what they are."""
        return self.alone("ours", *words, given=given), self.alone("theirs", *words, given=given)

    def alone(self, side: str, *words: str, given: str = "") -> tuple[int, str]:
        """The same of one of them, "ours" or "theirs"."""
        code, text = self.raw(side, *words, given=given)
        text = text.replace(f"{self.place}/{side}", "<config>")
        for pattern, name in _NORMAL:
            text = pattern.sub(name, text)
        return code, _OURS_LEAVES_OUT.sub("", text)

    def raw(self, side: str, *words: str, given: str = "") -> tuple[int, str]:
        """The same as it is told."""
        socket = self.ours if side == "ours" else self.theirs
        done = subprocess.run(
            [program("docker"), "--config", self.place / side, "-H", f"unix://{socket}", *words],
            env=environment(),
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    def done(self, side: str, *words: str) -> str:
        """What one of them tells, as it is, of what must succeed."""
        code, text = self.raw(side, *words)
        assert code == 0, f"{side}: docker {' '.join(words)}: {text}"
        return text

    def name(self, image: str) -> str:
        return f"{self.registry.name}/{image}"


@contextmanager
def paired(config: str = "") -> Iterator[Pair]:
    """Both have the same image, from the registry, and are logged in there. `config` is the launcher's."""
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder), config=config) as launcher,
    ):
        place, popen = Path(folder), launcher.cnmd.popen
        host = getattr(popen, "__self__")  # noqa: B009 - it is some host's `popen`
        with (
            registries.running(place / "registry", popen) as registry,
            start_dockerd(place / "docker", "--iptables=false", "--bridge=none", popen=popen) as dockerd,
        ):
            pair = Pair(registry, place, launcher.socket, str(dockerd.socket), host)
            log_in(pair)
            name = pair.name(IMAGE)
            dockerd.docker("tag", make_image(dockerd), name)
            code, said = pair.alone("theirs", "push", name)
            assert code == 0, said
            dockerd.docker("rmi", "busybox", name)
            yield pair


def log_in(pair: Pair) -> None:
    ours, theirs = pair.said(
        "login", "--username", USER, "--password-stdin", pair.registry.name, given=PASSWORD
    )
    assert ours == theirs
    assert ours[0] == 0
