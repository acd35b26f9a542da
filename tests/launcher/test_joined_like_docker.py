"""Links and other containers' namespaces: the same commands give the same as with a real dockerd."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from netns_fixtures import Topology
from tests.support.dockerd import PROGRAMS, Dockerd, make_image, start_dockerd
from tests.support.launcher import Launcher
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

Daemon = Launcher | Dockerd
_SLEEPER = ("busybox", "sleep", "1000")


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """With the image busybox."""
    with (
        Topology({"hosts": {"theirs": {}}}) as topology,
        start_dockerd(tmp_path_factory.mktemp("d"), popen=topology.hosts["theirs"].popen) as daemon,
    ):
        make_image(daemon)
        yield daemon


def clear(daemon: Daemon) -> None:
    if idents := daemon.docker("ps", "-aq").split():
        daemon.docker("rm", "-f", *idents)


@pytest.fixture
def both(docker: Launcher, dockerd: Dockerd) -> Iterator[tuple[Launcher, Dockerd]]:
    """Ours and theirs, without containers."""
    yield docker, dockerd
    clear(dockerd)


def plain(text: str) -> str:
    """Without what differs from one daemon to the next: addresses and ids."""
    without = re.sub(r"172\.\d+\.\d+\.\d+", "ADDRESS", text)
    return re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "ID", without)


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--expose", "80"),
        ("--expose", "53/udp", "--expose", "53"),
        ("--expose", "80-81", "--expose", "90"),
        ("--expose", "80-83", "--expose", "90/udp", "--expose", "91/udp", "--expose", "92/udp"),
        ("--hostname", "store", "-e", "A=b=c", "-e", "LONG-NAME=x", "--expose", "7000-7002/udp"),
    ],
)
def test_a_linked_container_is_told_the_same(
    both: tuple[Launcher, Dockerd], options: tuple[str, ...]
) -> None:
    found = []
    for daemon in both:
        daemon.docker("run", "-d", "--name", "db", *options, *_SLEEPER)
        daemon.docker("run", "-d", "--name", "web", "--link", "db:my-db", *_SLEEPER)
        environment = plain(daemon.docker("exec", "web", "env")).splitlines()
        told = {line for line in environment if line.startswith("MY_DB")}
        hosts = [
            line
            for line in plain(daemon.docker("exec", "web", "cat", "/etc/hosts")).splitlines()
            if "db" in line
        ]
        links = daemon.docker("inspect", "--format", "{{json .HostConfig.Links}}", "web")
        found.append((told, hosts, links))

    ours, theirs = found
    assert ours == theirs


@pytest.mark.parametrize(
    "arguments",
    [
        ("--pid", "container:idle"),
        ("--pid", "container:nosuch"),
        ("--ipc", "container:idle"),
        ("--ipc", "container:nosuch"),
        ("--ipc", "container:private"),
        ("--network", "container:idle"),
        ("--network", "container:nosuch"),
        ("--link", "idle:x"),
        ("--link", "nosuch:x"),
        ("--link", "apart:x"),
        ("--link", "on-host:x"),
        ("--uts", "host", "--hostname", "x"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_joined_is_told_in_the_same_words(
    both: tuple[Launcher, Dockerd], arguments: tuple[str, ...]
) -> None:
    found = []
    for daemon in both:
        daemon.docker("create", "--name", "idle", *_SLEEPER)
        daemon.docker("run", "-d", "--name", "private", *_SLEEPER)
        daemon.docker("run", "-d", "--name", "apart", "--network", "none", *_SLEEPER)
        daemon.docker("run", "-d", "--name", "on-host", "--network", "host", *_SLEEPER)
        with pytest.raises(RuntimeError) as refused:
            daemon.docker("run", "--name", "one", *arguments, "busybox", "true")
        found.append(plain(re.search("Error response from daemon: (.*)", str(refused.value))[1]))  # type: ignore[index]

    ours, theirs = found
    assert ours.rstrip(".") == theirs.rstrip(".")


@pytest.mark.parametrize(
    "mode",
    [
        ("--ipc", "shareable"),
        ("--ipc", "none"),
        ("--ipc", "host"),
        ("--uts", "host"),
        ("--cgroupns", "private"),
    ],
)
def test_devices_and_names_are_the_same(both: tuple[Launcher, Dockerd], mode: tuple[str, ...]) -> None:
    mounts = "grep -E ' /dev/(shm|mqueue) ' /proc/mounts | sed 's/^[^ ]* //'"
    show = f"{mounts}; cut -d: -f1,3 /proc/self/cgroup | grep -c /$"
    found = [
        daemon.docker("run", "--rm", *mode, "busybox", "sh", "-c", f"{show}; true").splitlines()
        for daemon in both
    ]

    assert found[0] == found[1]
