"""What the launcher finds out about its machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cnm.errors import Unavailable
from cnm.launcher.host import Feature, kernel_version, read_host
from cnm.launcher.programs import Programs


def test_controllers_of_cgroup_v2_tell_what_it_can_do(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu memory pids\n")
    (tmp_path / "cpuset.cpus.effective").write_text("0-7\n")
    (tmp_path / "cpuset.mems.effective").write_text("0\n")

    host = read_host(Programs(), tmp_path)

    assert (host.cgroup_version, host.cpuset_cpus, host.cpuset_mems) == (2, "0-7", "0")
    assert {
        Feature.MEMORY,
        Feature.CPU_SHARES,
        Feature.CPU_QUOTA,
        Feature.CPUSET,
        Feature.PIDS,
    } <= host.features
    absent = {
        Feature.BLKIO_WEIGHT,
        Feature.OOM_KILL_DISABLE,
        Feature.SWAPPINESS,
        Feature.SWAP,
        Feature.CPU_REALTIME,
    }
    assert not absent & host.features


def test_files_of_cgroup_v1_tell_what_it_can_do(tmp_path: Path) -> None:
    for name in (
        "memory/memory.limit_in_bytes",
        "blkio/blkio.throttle.read_bps_device",
        "cpuset/cpuset.cpus",
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("0-3\n")

    host = read_host(Programs(), tmp_path)

    assert (host.cgroup_version, host.cpuset_cpus) == (1, "0-3")
    assert {Feature.MEMORY, Feature.BLKIO_READ_BPS, Feature.CPUSET} <= host.features
    assert not {Feature.SWAP, Feature.BLKIO_WEIGHT, Feature.PIDS} & host.features


def test_the_configured_seccomp_profile_is_read(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))

    assert read_host(Programs(seccomp_profile=str(profile))).seccomp == {"defaultAction": "SCMP_ACT_ALLOW"}
    with pytest.raises(Unavailable, match=f"seccomp profile {tmp_path}/absent cannot be read"):
        read_host(Programs(seccomp_profile=f"{tmp_path}/absent"))


@pytest.mark.parametrize(
    ("release", "version"), [("6.18.44-fc", (6, 18)), ("5.4", (5, 4)), ("weird", (0, 0))]
)
def test_a_kernel_is_told_by_two_numbers(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version
