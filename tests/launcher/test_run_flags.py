"""Flags of `docker run` about names, addresses, kernel settings and mounts: what a container has of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host
from tests.support.dns_server import DnsServer, serving
from tests.support.launcher import Launcher
from tests.support.small_containers import eventually
from tests.support.unpacked import environment

_SLEEPER = ("busybox", "sleep", "1000")
_NEWER_CLI = Path("/usr/local/bin/docker")
"""Of version 25 or newer, which tells each network by itself."""


@pytest.fixture(scope="module")
def networks(launcher: Launcher) -> Iterator[Launcher]:
    launcher.docker("network", "create", "--subnet", "10.9.0.0/24", "front")
    launcher.docker("network", "create", "--subnet", "10.10.0.0/24", "back")
    launcher.docker("run", "--rm", "busybox", "true")  # from now on the network bridge has addresses
    yield launcher
    launcher.clear()
    launcher.docker("network", "rm", "front", "back")


def printed(docker: Launcher, *flags: str, script: str) -> list[str]:
    """Lines that a container says on both streams, whatever it ends with."""
    done = docker.run("run", "--rm", *flags, "busybox", "sh", "-c", f"exec 2>&1\n{script}")
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


def inspected(docker: Launcher, name: str) -> Any:
    return json.loads(docker.docker("inspect", name))[0]


# Names


def host_of(docker: Launcher) -> Host:
    assert docker.process is not None
    return Host("host", f"/proc/{docker.process.pid}/ns/net")


def gateway(docker: Launcher, network: str) -> str:
    return docker.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network)


@pytest.mark.parametrize(("network", "own"), [("front", True), ("bridge", False)])
@pytest.mark.usefixtures("networks")
def test_names_are_asked_of_the_server_with_the_domains_and_options_given(
    docker: Launcher, network: str, own: bool
) -> None:
    address = gateway(docker, network)
    server = DnsServer(address, {"far.away.example": address})
    flags = ("--dns", address, "--dns-search", "nowhere.example", "--dns-search", "example")
    options = ("--dns-opt", "ndots:3", "--dns-opt", "attempts:1")
    script = "grep -v '^#' /etc/resolv.conf; ping -c 1 -w 5 far.away"

    with serving(host_of(docker), server):
        said = printed(docker, "--network", network, *flags, *options, script=script)

    assert [line for line in said if line][:3] == [
        f"nameserver {'127.0.0.11' if own else address}",
        *("search nowhere.example example", "options ndots:3 attempts:1"),
    ]
    assert f"PING far.away ({address}): 56 data bytes" in said
    asked = list(dict.fromkeys(name for name, _ in server.asked))
    assert asked == ["far.away.nowhere.example", "far.away.example"]


def test_a_name_of_few_dots_is_asked_as_it_is_where_they_are_enough(
    networks: Launcher, docker: Launcher
) -> None:
    address = gateway(networks, "front")
    server = DnsServer(address, {"far.away": address})

    with serving(host_of(docker), server):
        printed(
            docker,
            *("--network", "front", "--dns", address, "--dns-search", "example", "--dns-opt", "ndots:1"),
            script="ping -c 1 -w 5 far.away",
        )

    assert {name for name, _ in server.asked} == {"far.away"}


def test_no_domain_is_searched_where_that_is_said(docker: Launcher) -> None:
    said = printed(docker, "--dns", "192.0.2.1", "--dns-search", ".", script="cat /etc/resolv.conf")

    assert [line for line in said if line.startswith(("search", "nameserver"))] == ["nameserver 192.0.2.1"]


# Addresses


@pytest.mark.parametrize("network", ["bridge", "front"])
@pytest.mark.usefixtures("networks")
def test_an_interface_has_the_address_asked_for(docker: Launcher, network: str) -> None:
    asked = ("--network", network, "--mac-address", "02:00:00:00:00:09")
    docker.docker("run", "-d", "--name", "one", *asked, *_SLEEPER)

    assert docker.docker("exec", "one", "cat", "/sys/class/net/eth0/address") == "02:00:00:00:00:09"
    assert inspected(docker, "one")["NetworkSettings"]["Networks"][network]["MacAddress"] == (
        "02:00:00:00:00:09"
    )
    docker.docker("restart", "-t", "0", "one")
    assert docker.docker("exec", "one", "cat", "/sys/class/net/eth0/address") == "02:00:00:00:00:09"


@pytest.mark.parametrize("network", ["host", "none"])
def test_there_is_no_address_for_an_interface_that_is_not(docker: Launcher, network: str) -> None:
    asked = ("--network", network, "--mac-address", "02:00:00:00:00:09")

    code, error = docker.fails("run", "--rm", *asked, "busybox", "true")

    assert (code, "conflicting options: mac-address and the network mode" in error) == (125, True)


def newer(docker: Launcher, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(_NEWER_CLI), "-H", f"unix://{docker.socket}", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not _NEWER_CLI.exists(), reason=f"no docker CLI at {_NEWER_CLI}")
def test_each_network_has_its_own_names_and_addresses(networks: Launcher, docker: Launcher) -> None:
    done = newer(
        docker,
        *("run", "-d", "--name", "two"),
        *("--network", "name=front,alias=eins,alias=first,ip=10.9.0.77,mac-address=02:00:00:00:00:0a"),
        *("--network", "name=back,alias=zwei,ip=10.10.0.77,gw-priority=1"),
        *_SLEEPER,
    )
    assert done.returncode == 0, done.stderr
    links = docker.docker("exec", "two", "ip", "-o", "addr")
    assert {"10.9.0.77/24", "10.10.0.77/24"} <= set(links.split())
    assert docker.docker("exec", "two", "cat", "/sys/class/net/eth0/address") == "02:00:00:00:00:0a"
    assert "default via 10.10.0.1" in docker.docker("exec", "two", "ip", "route")

    for network, names, others in (
        ("front", {"two": "10.9.0.77", "eins": "10.9.0.77", "first": "10.9.0.77"}, ["zwei"]),
        ("back", {"two": "10.10.0.77", "zwei": "10.10.0.77"}, ["eins", "first"]),
    ):
        script = "; ".join(f"ping -c 1 -w 5 {name} | head -1" for name in [*names, *others])
        said = printed(docker, "--network", network, script=script)
        assert said == [
            *(f"PING {name} ({address}): 56 data bytes" for name, address in names.items()),
            *(f"ping: bad address '{name}'" for name in others),
        ]


@pytest.mark.skipif(not _NEWER_CLI.exists(), reason=f"no docker CLI at {_NEWER_CLI}")
def test_an_address_outside_its_network_is_refused(networks: Launcher, docker: Launcher) -> None:
    asked = ("--network", "name=front", "--network", "name=back,ip=192.0.2.7")

    done = newer(docker, "run", "--rm", *asked, "busybox", "true")

    assert done.returncode == 125
    words = "invalid config for network back: no configured subnet contains IP address 192.0.2.7"
    assert words in done.stderr.replace("\n", " ")
    assert docker.docker("ps", "-aq") == ""


# The kernel's settings, and the first process


def test_settings_of_its_own_namespaces_are_those_asked_for(docker: Launcher) -> None:
    flags = ("net.ipv4.ip_forward=0", "net.core.somaxconn=99", "kernel.msgmax=9000")

    assert printed(
        docker,
        *(part for flag in flags for part in ("--sysctl", flag)),
        script="cd /proc/sys; cat net/ipv4/ip_forward net/core/somaxconn kernel/msgmax",
    ) == ["0", "99", "9000"]


@pytest.mark.parametrize(
    ("setting", "code", "words"),
    [
        ("net.nosuch=1", 127, "open /proc/sys/net/nosuch: no such file or directory: unknown"),
        ("net.ipv4.ip_forward=x", 125, "write /proc/sys/net/ipv4/ip_forward: invalid argument: unknown"),
        ("kernel.panic=9", 125, "sysctl 'kernel.panic=9' is not whitelisted"),
    ],
)
def test_a_setting_that_there_is_not_stops_the_start(
    docker: Launcher, setting: str, code: int, words: str
) -> None:
    found, error = docker.fails("run", "--rm", "--sysctl", setting, "busybox", "true")

    assert (found, words in error) == (code, True), error
    assert docker.docker("ps", "-aq") == ""


def test_init_is_the_first_process_and_passes_signals_on(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "--init", *_SLEEPER)

    assert docker.docker("exec", "one", "cat", "/proc/1/comm") == "docker-init"
    docker.docker("stop", "-t", "20", "one")  # of which a first process without a handler would know nothing
    assert inspected(docker, "one")["State"]["ExitCode"] == 143


def test_a_health_check_that_cannot_be_run_fails(docker: Launcher) -> None:
    checked = ("--health-cmd", "true", "--health-interval", "0.1s", "--health-retries", "2")
    docker.docker(
        "run",
        "-d",
        "--name",
        "one",
        *checked,
        "busybox",
        "busybox",
        "sh",
        "-c",
        "rm /bin/sh; exec sleep 1000",
    )

    eventually(lambda: inspected(docker, "one")["State"]["Health"]["Status"] == "unhealthy")

    probe = inspected(docker, "one")["State"]["Health"]["Log"][-1]
    assert probe["ExitCode"] == -1
    assert 'exec: "/bin/sh": stat /bin/sh: no such file or directory' in probe["Output"]


# Mounts


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a file, of the host."""
    (tmp_path / "file").write_text("of the host\n")
    return tmp_path


_WRITES = "cat /bound/file; (echo more >> /bound/file); touch /bound/new; rm /bound/file"


@pytest.mark.parametrize(
    "flags", [("-v", "{}:/bound:ro"), ("--mount", "type=bind,source={},target=/bound,readonly")]
)
def test_a_read_only_bind_is_read_and_not_written(
    docker: Launcher, place: Path, flags: tuple[str, ...]
) -> None:
    said = printed(docker, *(flag.format(place) for flag in flags), script=_WRITES)

    assert said[0] == "of the host"
    assert [line.rpartition(": ")[2] for line in said[1:]] == ["Read-only file system"] * 3
    assert {path.name: path.read_text() for path in place.iterdir()} == {"file": "of the host\n"}


def test_a_bind_is_written_where_nothing_else_is_said(docker: Launcher, place: Path) -> None:
    printed(
        docker,
        "-v",
        f"{place}:/bound",
        "-v",
        f"{place}/file:/etc/motd",
        script="echo more >> /etc/motd; mv /bound/file /bound/moved",
    )

    assert {path.name: path.read_text() for path in place.iterdir()} == {"moved": "of the host\nmore\n"}


def test_what_is_mounted_below_a_read_only_bind_is_read_only_too(docker: Launcher, place: Path) -> None:
    (place / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place / "below"], check=True)
    try:
        said = printed(docker, "-v", f"{place}:/bound:ro", script="touch /bound/below/x")
    finally:
        subprocess.run(["umount", place / "below"], check=True)

    assert said == ["touch: /bound/below/x: Read-only file system"]


_FILL = (
    "grep ' /cache ' /proc/mounts | cut -d' ' -f3,4; stat -c %a /cache; "
    "dd if=/dev/zero of=/cache/big bs=1M count=2 2>&1 | head -1"
)


@pytest.mark.parametrize(
    ("flags", "options", "mode"),
    [
        (("--mount", "type=tmpfs,target=/cache,tmpfs-size=1m,tmpfs-mode=700"), "noexec", "700"),
        (("--tmpfs", "/cache:size=1m,exec"), "exec", "1777"),
    ],
)
def test_a_tmpfs_has_its_size_its_mode_and_its_options(
    docker: Launcher, flags: tuple[str, ...], options: str, mode: str
) -> None:
    mounted, found, refused = printed(docker, *flags, script=_FILL)

    kind, words = mounted.split()
    assert kind == "tmpfs"
    assert {"nosuid", "nodev", "size=1024k"} <= set(words.split(","))
    assert ("noexec" in words.split(",")) == (options == "noexec")
    assert (found, refused) == (mode, "dd: error writing '/cache/big': No space left on device")


def test_a_tmpfs_is_empty_at_each_start_and_not_written_where_it_is_read_only(docker: Launcher) -> None:
    mounts = ("--mount", "type=tmpfs,target=/data", "--mount", "type=tmpfs,target=/ro,readonly")
    docker.docker("create", "--name", "one", *mounts, "busybox", "sh", "-c", "ls /data; touch /data/x /ro/x")

    for _ in range(2):
        done = docker.run("start", "-a", "one")
        assert (done.stdout, done.stderr) == ("", "touch: /ro/x: Read-only file system\n")


_HINT = (
    "not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)
_BIND = 'invalid mount config for type "bind"'


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "-v {0}:relative",
            "invalid volume specification: '{0}:relative': "
            + _BIND
            + ": invalid mount path: 'relative' mount path must be absolute",
        ),
        (
            "-v {0}:/",
            "invalid volume specification: '{0}:/': "
            + _BIND
            + ": invalid specification: destination can't be '/'",
        ),
        ("-v {0}:/bound:nosuch", "invalid mode: nosuch"),
        ("-v {0}:/bound:ro,rw", "invalid mode: ro,rw"),
        ("-v {0}:/bound -v {0}/below:/bound", "Duplicate mount point: /bound"),
        ("-v {0}:/bound:shared", "path {0} is mounted on {1} but it is not a shared mount"),
        ("-v {0}:/etc/passwd", _HINT),
        ("-v {0}/file:/etc", _HINT),
        ("-v {0}/file/below:/bound", _HINT),
        (
            "--mount type=bind,source={0}/nosuch,target=/bound",
            _BIND + ": bind source path does not exist: {0}/nosuch",
        ),
        (
            "--mount type=bind,source={0},target=bound",
            _BIND + ": invalid mount path: 'bound' mount path must be absolute",
        ),
        (
            "--mount type=bind,source=bound,target=/bound",
            _BIND + ": invalid mount path: 'bound' mount path must be absolute",
        ),
        ("--mount type=bind,target=/bound", _BIND + ": field Source must not be empty"),
        (
            "--mount type=bind,source={0},target=/bound,bind-propagation=nosuch",
            _BIND + ": invalid propagation mode: nosuch",
        ),
        (
            "--mount type=nosuch,source={0},target=/bound",
            'invalid mount config for type "nosuch": mount type unknown',
        ),
        (
            "--mount type=tmpfs,source={0},target=/bound",
            'invalid mount config for type "tmpfs": field Source must not be specified',
        ),
        ("--tmpfs relative", "invalid mount path: 'relative' mount path must be absolute"),
        ("--tmpfs /", "invalid specification: destination can't be '/'"),
        ("--tmpfs /t:nosuch", 'invalid tmpfs option ["nosuch"]'),
        ("--tmpfs /t:size=x", "data: size=x: invalid argument: unknown"),
    ],
)
def test_a_mount_that_cannot_be_is_refused_in_docker_s_words_and_leaves_nothing(
    docker: Launcher, place: Path, flags: str, words: str
) -> None:
    code, error = docker.fails("run", "--rm", *flags.format(place).split(), "busybox", "true")

    mount = place
    while not mount.is_mount():
        mount = mount.parent
    assert (code, words.format(place, mount) in error) == (125, True), error
    assert docker.docker("ps", "-aq") == ""


def test_a_mount_of_the_wrong_kind_ends_a_container_with_127_until_it_is_right(
    docker: Launcher, place: Path
) -> None:
    docker.docker("create", "--name", "one", "-v", f"{place}/file:/data", "busybox", "ls", "/data")

    assert _HINT in docker.fails("start", "one")[1]

    state = inspected(docker, "one")["State"]
    assert (state["Status"], state["ExitCode"]) == ("created", 127)
    assert state["Error"].endswith(_HINT)
    (place / "file").unlink()
    (place / "file").mkdir()
    assert docker.docker("start", "-a", "one") == ""
