"""The same commands about volumes to the launcher and to a real dockerd 20.10, by the same docker CLI."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from tests.support.dockerd import PROGRAMS, start_dockerd
from tests.support.launcher import IMAGE, Launcher
from tests.support.launcher_root import make_root, pack
from tests.support.unpacked import environment, lacking, program

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

_SAME = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<short>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"/\S+/(launcher|root)/volumes/"), "<volumes>/"),
    (re.compile(r"/\S+/(overlay2/<id>/merged|containers/<id>/rootfs)"), "<root>"),
)


class Both(NamedTuple):
    ours: str
    theirs: str
    """Sockets."""

    def run(self, *arguments: str, version: str = "1.41") -> tuple[tuple[int, str], tuple[int, str]]:
        """(exit code, all that is printed, made comparable) of each."""
        return self._one(self.ours, arguments, version), self._one(self.theirs, arguments, version)

    def _one(self, socket: str, arguments: Sequence[str], version: str) -> tuple[int, str]:
        done = subprocess.run(
            [program("docker"), "-H", f"unix://{socket}", *arguments],
            env={**environment(), "DOCKER_API_VERSION": version},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        text = done.stdout.strip()
        for pattern, name in _SAME:
            text = pattern.sub(name, text)
        return done.returncode, text


@pytest.fixture(scope="module")
def both(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both with the image busybox, and `filled`, which has a volume and files."""
    place = tmp_path_factory.mktemp("d")
    with start_dockerd(place, "--iptables=false", "--bridge=none") as dockerd:
        archive = pack(make_root(place / "image"), place / "image.tar")
        dockerd.docker("import", "--change", 'CMD ["sh"]', str(archive), IMAGE)
        both = Both(launcher.socket, str(dockerd.socket))
        _make_images(both)
        yield both


def _make_images(both: Both) -> None:
    script = "mkdir -p /data /made; echo x >/data/x; chown 7:8 /data; chmod 1777 /data; ln /data/x /data/y"
    for command in (
        ("run", "--network", "none", "--name", "maker", IMAGE, "sh", "-c", script),
        ("commit", "--change", "VOLUME /made", "maker", "filled"),
        ("rm", "maker"),
    ):
        assert [code for code, _ in both.run(*command)] == [0, 0], both.run(*command)


_RUN = ("run", "--rm", "--network", "none")
_CREATE = ("create", "--network", "none")
_OPTIONS = ("-o", "type=tmpfs", "-o", "device=tmpfs")

SCENES = {
    "create and remove": (
        ("volume", "create", "one"),
        ("volume", "create", "one"),
        ("volume", "create", "--label", "a=b", "--label", "c", "labelled"),
        ("volume", "create", *_OPTIONS, "-o", "o=size=1m,uid=7", "fast"),
        ("volume", "ls"),
        ("volume", "ls", "--filter", "label=a"),
        ("volume", "ls", "--filter", "label=a=c"),
        ("volume", "ls", "--filter", "name=on"),
        ("volume", "ls", "-q", "--filter", "driver=local"),
        ("volume", "rm", "one", "nosuch", "fast"),
        ("volume", "rm", "-f", "nosuch", "labelled"),
    ),
    "what is refused": (
        ("volume", "create", "x"),
        ("volume", "create", "a/b"),
        ("volume", "create", "--driver", "nosuch", "one"),
        ("volume", "create", "-o", "nosuch=x", "one"),
        ("volume", "create", "-o", "type=tmpfs", "one"),
        ("volume", "create", "-o", "o=bind", "one"),
        ("volume", "create", "-o", "device=/x", "one"),
        ("volume", "create", "-o", "size=1m", "one"),
        ("volume", "inspect", "nosuch"),
        (*_CREATE, "--volumes-from", "nosuch", IMAGE),
        (*_CREATE, "--volumes-from", "nosuch:bad", IMAGE),
        (*_CREATE, "-v", "a/b:/x", IMAGE),
        (*_CREATE, "-v", "one:/data/x", "filled"),
        ("volume", "ls", "-q"),
        ("volume", "rm", "one"),
    ),
    "in use": (
        (*_CREATE, "--name", "user", "-v", "data:/d", "-v", "/anonymous", IMAGE),
        ("volume", "rm", "data"),
        ("volume", "rm", "-f", "data"),
        ("volume", "ls", "--filter", "dangling=true"),
        ("volume", "ls", "-q", "--filter", "dangling=false"),
        ("rm", "-v", "user"),
        ("volume", "ls", "-q"),
        ("volume", "prune", "-f"),
        ("volume", "prune", "-f"),
    ),
    "copy-up": (
        (*_RUN, "-v", "data:/data", "filled", "stat", "-c", "%a %u %g %h %n", "/data", "/data/x", "/data/y"),
        (*_RUN, "-v", "data:/elsewhere", "filled", "ls", "/elsewhere"),
        (*_RUN, "-v", "other:/data:nocopy", "filled", "stat", "-c", "%a %u %g", "/data"),
        (*_RUN, "-v", "none:/nosuch", "filled", "stat", "-c", "%a %u %g", "/nosuch"),
        (*_RUN, "-v", "/data", "filled", "cat", "/data/x"),
        ("volume", "ls", "-q"),
        ("volume", "prune", "-f"),
    ),
    "from others": (
        (*_CREATE, "--name", "store", "-v", "/data", "-v", "named:/named", "--tmpfs", "/tmp", "filled"),
        (*_CREATE, "--name", "chained", "--volumes-from", "store:ro", "-v", "mine:/named", IMAGE),
        ("inspect", "-f", "{{range .Mounts}}{{.Destination}} {{.RW}} {{.Mode}};{{end}}", "chained"),
        (*_RUN, "--volumes-from", "chained", IMAGE, "touch", "/data/new"),
        (*_RUN, "--volumes-from", "chained", IMAGE, "cat", "/data/x"),
        ("rm", "-v", "store"),
        ("volume", "ls", "-q", "--filter", "name=named"),
        ("rm", "-v", "chained"),
        ("volume", "ls", "-q"),
        ("volume", "rm", "named", "mine"),
    ),
    "devices": (
        ("volume", "create", "-o", "type=none", "-o", "device=/nosuch", "-o", "o=bind", "bound"),
        (*_CREATE, "--name", "cc", "-v", "bound:/b", IMAGE),
        (*_CREATE, "--name", "dd", "-v", "bound:/b:nocopy", IMAGE),
        ("start", "dd"),
        ("rm", "dd"),
        ("volume", "rm", "bound"),
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_commands_say_and_do_the_same(scene: str, both: Both) -> None:
    told = [(command, *both.run(*command)) for command in SCENES[scene]]

    different = [each for each in told if _lines(each[1]) != _lines(each[2])]

    assert not different, "\n".join(map(str, different))


def _lines(answer: tuple[int, str]) -> tuple[int, list[str]]:
    """In any order, where Docker has none."""
    return answer[0], sorted(part for line in answer[1].splitlines() for part in line.split(";"))


def test_inspect_is_like_docker_s_but_for_who_uses_it(both: Both) -> None:
    both.run("volume", "create", "--label", "a=b", *_OPTIONS, "one")
    ours, theirs = (json.loads(text)[0] for _, text in both.run("volume", "inspect", "one"))
    both.run("volume", "rm", "one")

    assert ours.pop("Status")["UsedBy"] == []
    assert ours == theirs


def test_events_are_like_docker_s(both: Both) -> None:
    since = str(time.time())
    both.run(*_RUN, "-v", "data:/d:ro", "-v", "/anonymous", IMAGE, "true")
    both.run("volume", "rm", "data")
    both.run("volume", "prune", "-f")

    flags = (
        "--since",
        since,
        "--until",
        str(time.time()),
        "--filter",
        "type=volume",
        "--format",
        "{{json .}}",
    )
    ours, theirs = (sorted(map(_event, text.splitlines())) for _, text in both.run("events", *flags))

    assert ours == theirs


def _event(line: str) -> str:
    told = json.loads(line)
    return json.dumps({key: told[key] for key in ("Type", "Action", "Actor")}, sort_keys=True)
