"""Limits that `docker run` and `update` set, read where the kernel keeps them; and what `docker stats` counts."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_pair import ask
from tests.support.launcher import Launcher

_CGROUPS = Path("/sys/fs/cgroup")
_V1 = not (_CGROUPS / "cgroup.controllers").exists()
pytestmark = pytest.mark.skipif(
    not _V1, reason="the limits are read from the files of cgroup v1, which this host has not"
)

_SLEEPER = ("busybox", "sleep", "1000")
_MB = 1 << 20
_DISCARDED = "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded."
_FUSE = Path("/dev/fuse")


def printed(docker: Launcher, *flags: str, script: str) -> list[str]:
    """Lines of a container that runs and goes."""
    return docker.docker("run", "--rm", *flags, "busybox", "sh", "-c", script).splitlines()


def kept(docker: Launcher, ident: str, file: str) -> str:
    """Of a container's cgroup, as the host sees it; `file` such as "cpu.shares"."""
    return (_CGROUPS / file.partition(".")[0] / docker.cgroup / ident / file).read_text().strip()


def shown(docker: Launcher, name: str) -> Any:
    return json.loads(docker.docker("inspect", name))[0]["HostConfig"]


def number(path: Path) -> str:
    """Of a device: "254:0"."""
    status = path.stat()
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


# Processors


def test_shares_and_sets_of_processors_hold(docker: Launcher) -> None:
    script = "cat /sys/fs/cgroup/cpu/cpu.shares; nproc; grep -h _allowed_list /proc/self/status"
    flags = ("--cpu-shares", "512", "--cpuset-cpus", "0", "--cpuset-mems", "0")

    assert printed(docker, *flags, script=script) == [
        *("512", "1", "Cpus_allowed_list:\t0", "Mems_allowed_list:\t0")
    ]


def test_who_wants_more_of_a_processor_is_throttled(docker: Launcher) -> None:
    script = "until grep -q 'nr_throttled [1-9]' /sys/fs/cgroup/cpu/cpu.stat; do :; done; echo throttled"

    assert printed(docker, "--cpus", "0.05", script=script) == ["throttled"]


# Disks


def a_disk() -> Path:
    found = next((path for path in sorted(Path("/dev").iterdir()) if path.is_block_device()), None)
    return found or pytest.skip("there is no block device")


def test_rates_of_a_disk_are_what_their_flags_say(docker: Launcher) -> None:
    disk = a_disk()
    asked = {"read-bps": "1mb", "write-bps": "2mb", "read-iops": "100", "write-iops": "200"}
    flags = (part for name, rate in asked.items() for part in (f"--device-{name}", f"{disk}:{rate}"))

    found = printed(docker, *flags, script="cd /sys/fs/cgroup/blkio; grep . blkio.throttle.*_device")

    rates = {"read_bps": _MB, "read_iops": 100, "write_bps": 2 * _MB, "write_iops": 200}
    assert found == [f"blkio.throttle.{name}_device:{number(disk)} {rate}" for name, rate in rates.items()]


@pytest.mark.skipif((_CGROUPS / "blkio/blkio.weight").exists(), reason="this kernel has weights of disks")
def test_a_weight_that_the_kernel_lacks_is_discarded_with_a_warning(docker: Launcher) -> None:
    done = docker.run("run", "-d", "--name", "one", "--blkio-weight", "300", *_SLEEPER)

    assert done.returncode == 0
    assert done.stderr.strip() == f"WARNING: {_DISCARDED}"
    assert shown(docker, "one")["BlkioWeight"] == 0
    assert docker.docker("update", "--blkio-weight", "200", "one").splitlines() == ["one", _DISCARDED]


# Devices


def opened(docker: Launcher, flags: tuple[str, ...], path: str, make: str = "") -> list[str]:
    """How a container can open a device: without an effect on it."""
    script = f"{make}\n(: < {path}) && echo read\n(: >> {path}) && echo written\ntrue"
    return sorted(printed(docker, *flags, script=script))


@pytest.mark.skipif(not _FUSE.exists(), reason="there is no /dev/fuse")
@pytest.mark.parametrize(
    ("access", "ways"), [("r", ["read"]), ("w", ["written"]), ("rwm", ["read", "written"])]
)
def test_a_device_is_opened_as_its_flag_allows(docker: Launcher, access: str, ways: list[str]) -> None:
    assert opened(docker, ("--device", f"{_FUSE}:/dev/inside:{access}"), "/dev/inside") == ways


@pytest.mark.skipif(not _FUSE.exists(), reason="there is no /dev/fuse")
@pytest.mark.parametrize(
    ("rule", "ways"), [("", []), ("c {fuse} r", ["read"]), ("c {fuse} w", ["written"]), ("c *:* r", ["read"])]
)
def test_a_device_that_a_container_makes_is_opened_by_a_rule_only(
    docker: Launcher, rule: str, ways: list[str]
) -> None:
    fuse = number(_FUSE)
    flags = ("--device-cgroup-rule", rule.format(fuse=fuse)) if rule else ()

    assert opened(docker, flags, "/tmp/made", f"mknod /tmp/made c {fuse.replace(':', ' ')}") == ways


# Changes


def test_an_update_changes_the_cgroup_and_what_is_told(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--name", "one", "--cpuset-cpus", "0", "--pids-limit", "9", *_SLEEPER)
    last = os.cpu_count() or 1

    docker.docker(
        *("update", "--cpu-shares", "300", "--cpuset-cpus", f"{last - 1}", "--cpuset-mems", "0"),
        *("--pids-limit", "-1", "--cpu-period", "50000", "--cpu-quota", "25000", "one"),
    )

    files = ("cpu.shares", "cpuset.cpus", "cpuset.mems", "pids.max", "cpu.cfs_period_us", "cpu.cfs_quota_us")
    assert [kept(docker, ident, file) for file in files] == [
        *("300", f"{last - 1}", "0", "max", "50000", "25000")
    ]
    found = shown(docker, "one")
    assert (found["CpuShares"], found["CpusetCpus"], found["CpuQuota"]) == (300, f"{last - 1}", 25_000)
    assert (
        "Requested CPUs are not available - requested 4000"
        in (docker.fails("update", "--cpuset-cpus", "4000", "one")[1])
    )
    assert kept(docker, ident, "cpuset.cpus") == f"{last - 1}"


# What cannot be


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (("--cpuset-cpus", "4000"), 125, "Requested CPUs are not available - requested 4000, available: 0"),
        (
            ("--cpuset-mems", "40"),
            125,
            "Requested memory nodes are not available - requested 40, available: 0",
        ),
        (("--cpuset-mems", "x"), 125, "Invalid value x for cpuset mems: invalid format: x"),
        (("--cpus", "4000"), 125, "Range of CPUs is from 0.01 to"),
        (("--cpu-shares", "-1"), 125, "invalid CPU shares (-1): value must be a positive integer"),
        (("--device-read-bps", "/dev/nosuch:1mb"), 127, "stat /dev/nosuch: no such file or directory"),
        (
            ("--device", "/dev/nosuch"),
            127,
            'error gathering device information while adding custom device "/dev/nosuch": no such file or directory',
        ),
        (
            ("--device", "/etc/passwd"),
            125,
            'error gathering device information while adding custom device "/etc/passwd": not a device node',
        ),
    ],
)
def test_a_limit_that_cannot_be_is_refused_in_docker_s_words(
    docker: Launcher, flags: tuple[str, ...], code: int, words: str
) -> None:
    found, error = docker.fails("run", "--rm", *flags, "busybox", "true")

    assert (found, words in error) == (code, True), error
    assert docker.docker("ps", "-aq") == ""


# Accounts


def counted(docker: Launcher, name: str) -> Any:
    """What it uses at this moment, in Docker's form."""
    answer = ask(docker.socket, "GET", f"/v1.41/containers/{name}/stats?stream=0&one-shot=1")
    assert answer.status == 200
    return answer.body


def test_what_is_written_to_a_disk_is_counted(docker: Launcher) -> None:
    disk = docker.place.stat().st_dev
    if not os.major(disk):
        pytest.skip("the containers' files are on no disk")
    ident = docker.docker("run", "-d", "--name", "one", *_SLEEPER)

    docker.docker("exec", "one", "dd", "if=/dev/zero", "of=/data/big", "bs=64k", "count=16", "oflag=direct")

    found = counted(docker, "one")["blkio_stats"]
    here = {"major": os.major(disk), "minor": os.minor(disk)}
    of_disk = {
        kind: {entry["op"]: entry["value"] for entry in found[kind] if entry.items() >= here.items()}
        for kind in ("io_service_bytes_recursive", "io_serviced_recursive")
    }
    assert of_disk["io_service_bytes_recursive"]["Write"] == _MB
    assert of_disk["io_serviced_recursive"]["Write"] >= 1
    lines = kept(docker, ident, "blkio.throttle.io_service_bytes").splitlines()
    said = (line.removeprefix(f"{os.major(disk)}:{os.minor(disk)} ").split() for line in lines[:-1])
    assert of_disk["io_service_bytes_recursive"] == {words[0]: int(words[1]) for words in said}
    assert docker.docker("stats", "--no-stream", "--format", "{{.BlockIO}}", "one").endswith(" / 1.05MB")


def test_bytes_are_counted_by_interface(docker: Launcher) -> None:
    for name, subnet in (("front", "10.9.0.0/24"), ("back", "10.10.0.0/24")):
        docker.docker("network", "create", "--subnet", subnet, name)
    try:
        for name in ("one", "two"):
            docker.docker("create", "--name", name, "--network", "front", *_SLEEPER)
            docker.docker("network", "connect", "back", name)
            docker.docker("start", name)
        before = counted(docker, "one")["networks"]

        there = docker.docker("inspect", "-f", "{{.NetworkSettings.Networks.back.IPAddress}}", "two")
        docker.docker("exec", "one", "ping", "-q", "-c", "3", "-i", "0.1", "-s", "1000", there)

        after = counted(docker, "one")["networks"]
        grown = {
            name: (
                after[name]["tx_bytes"] - before[name]["tx_bytes"],
                after[name]["rx_bytes"] - was["rx_bytes"],
            )
            for name, was in before.items()
        }
        assert set(grown) == {"eth0", "eth1"}
        pinged = 3 * (1000 + 8 + 20 + 14)
        assert min(grown["eth1"]) >= pinged
        assert max(grown["eth0"]) < pinged
        assert after["eth1"]["tx_packets"] - before["eth1"]["tx_packets"] >= 3
        sent = docker.docker("stats", "--no-stream", "--format", "{{.NetIO}}", "one").rpartition(" / ")[2]
        assert sent.endswith("kB")
        assert float(sent.removesuffix("kB")) * 1000 >= pinged
    finally:
        docker.clear()
        docker.docker("network", "rm", "front", "back")
