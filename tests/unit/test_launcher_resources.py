"""Limits as a runtime gets them, on hosts of either version of cgroups, and what a kernel lacks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnm.errors import InvalidParameter
from cnm.launcher.host import Feature
from cnm.launcher.limits import check_resources
from cnm.launcher.resources import linux_resources, rlimits
from cnm.launcher.validation import settled, warnings
from cnm.wire.containers import HostConfig, ThrottleDevice, Ulimit, WeightDevice
from tests.support.launcher_hosts import a_host

_MB = 1 << 20

_ALL = HostConfig(
    memory=64 * _MB,
    memory_swap=96 * _MB,
    memory_reservation=32 * _MB,
    memory_swappiness=10,
    oom_kill_disable=True,
    kernel_memory=32 * _MB,
    nano_cpus=1_500_000_000,
    cpu_shares=512,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    pids_limit=50,
    blkio_weight=300,
)


def test_everything_is_given_to_cgroup_v1() -> None:
    assert linux_resources(_ALL, a_host()) == {
        "memory": {
            "limit": 64 * _MB,
            "swap": 96 * _MB,
            "reservation": 32 * _MB,
            "swappiness": 10,
            "kernel": 32 * _MB,
            "disableOOMKiller": True,
        },
        "cpu": {"shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 50},
        "blockIO": {"weight": 300},
    }


def test_cgroup_v2_gets_what_it_has_in_the_same_units() -> None:
    # The runtime converts: shares to weights, and swap with memory to swap alone.
    assert linux_resources(_ALL, a_host(version=2)) == {
        "memory": {"limit": 64 * _MB, "swap": 96 * _MB, "reservation": 32 * _MB},
        "cpu": {"shares": 512, "quota": 150_000, "period": 100_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 50},
        "blockIO": {"weight": 300},
    }


def test_what_cgroup_v2_lacks_is_warned_of() -> None:
    assert warnings(_ALL, a_host(version=2)) == [
        "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness "
        "discarded.",
        "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. Limitation "
        "discarded.",
        "Your kernel does not support OomKillDisable. OomKillDisable discarded.",
    ]


def test_nothing_asked_is_nothing_said() -> None:
    for version in (1, 2):
        assert linux_resources(HostConfig(), a_host(version=version)) == {}
        assert warnings(HostConfig(), a_host(version=version)) == []


@pytest.mark.parametrize(("limit", "given"), [(0, -1), (-1, -1), (7, 7)])
def test_no_limit_of_processes_is_said_to_the_runtime(limit: int, given: int) -> None:
    assert linux_resources(HostConfig(pids_limit=limit), a_host()) == {"pids": {"limit": given}}


def test_memory_without_counted_swap_is_limited_alone() -> None:
    host = a_host(without=(Feature.SWAP,))

    kept = settled(HostConfig(memory=64 * _MB), host)

    assert kept.memory_swap == -1
    assert "Memory limited without swap." in warnings(HostConfig(memory=64 * _MB), host)[0]


def test_a_limit_that_is_discarded_need_not_be_right() -> None:
    check_resources(HostConfig(blkio_weight=5), a_host(without=(Feature.BLKIO_WEIGHT,)))

    with pytest.raises(InvalidParameter, match="Range of blkio weight is from 10 to 1000"):
        check_resources(HostConfig(blkio_weight=5), a_host())


def test_rates_and_weights_are_of_device_numbers() -> None:
    number = os.stat("/dev/null").st_rdev
    device = {"major": os.major(number), "minor": os.minor(number)}
    asked = HostConfig(
        blkio_weight_device=[WeightDevice(path="/dev/null", weight=100)],
        blkio_device_read_bps=[ThrottleDevice(path="/dev/null", rate=1)],
        blkio_device_write_bps=[ThrottleDevice(path="/dev/null", rate=2)],
        blkio_device_read_iops=[ThrottleDevice(path="/dev/null", rate=3)],
        blkio_device_write_iops=[ThrottleDevice(path="/dev/null", rate=4)],
    )

    assert linux_resources(asked, a_host())["blockIO"] == {
        "weightDevice": [{**device, "weight": 100}],
        "throttleReadBpsDevice": [{**device, "rate": 1}],
        "throttleWriteBpsDevice": [{**device, "rate": 2}],
        "throttleReadIOPSDevice": [{**device, "rate": 3}],
        "throttleWriteIOPSDevice": [{**device, "rate": 4}],
    }


def test_an_absent_disk_is_named(tmp_path: Path) -> None:
    asked = HostConfig(blkio_device_read_bps=[ThrottleDevice(path=f"{tmp_path}/no", rate=1)])

    with pytest.raises(InvalidParameter, match=f"^stat {tmp_path}/no: no such file or directory$"):
        linux_resources(asked, a_host())


def test_ulimits_go_over_defaults_and_minus_one_is_unlimited() -> None:
    asked = HostConfig(ulimits=[Ulimit(name="nofile", soft=1, hard=-1)])

    assert rlimits(asked, {"nofile": (5, 5), "core": (0, 0)}) == [
        {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2**64 - 1},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
    ]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Ulimit(name="files", soft=1, hard=1), "invalid ulimit type: files"),
        (
            Ulimit(name="core", soft=2, hard=1),
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (Ulimit(name="nofile", soft=1, hard=2000), "the hard limit here is 1000, and the launcher lacks"),
        (Ulimit(name="nofile", soft=-1, hard=-1), "the hard limit here is 1000, and the launcher lacks"),
    ],
)
def test_ulimits_that_cannot_be_set_are_refused(limit: Ulimit, words: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        check_resources(HostConfig(ulimits=[limit]), a_host(hard_limits={"nofile": 1000}))

    assert words in str(refused.value)


def test_ulimits_within_the_host_s_are_taken() -> None:
    asked = HostConfig(
        ulimits=[Ulimit(name="nofile", soft=1, hard=1000), Ulimit(name="core", soft=-1, hard=-1)]
    )

    check_resources(asked, a_host(hard_limits={"nofile": 1000}))
