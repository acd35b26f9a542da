"""Our specifications under the real runc, looked at from inside the container."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnm.launcher.capabilities import NAMES
from cnm.launcher.host import Host, read_host
from cnm.launcher.modes import UserMapping
from cnm.launcher.programs import Programs
from cnm.launcher.resources import linux_resources
from cnm.launcher.validation import warnings
from cnm.wire.containers import (
    BindOptions,
    Config,
    DeviceMapping,
    HostConfig,
    Mount,
    ThrottleDevice,
    Ulimit,
)
from tests.support.runc_box import RuncBox, runc_box, user_namespace
from tests.support.unpacked import ROOT, lacking, program

_PROGRAMS = ("runc", "busybox", "docker-init")
pytestmark = pytest.mark.skipif(bool(lacking(*_PROGRAMS)), reason=lacking(*_PROGRAMS))

_PROFILE = ROOT / "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json"
_STATUS = "cat /proc/self/status"
_MB = 1 << 20


@pytest.fixture(scope="module")
def host() -> Host:
    return read_host(Programs(init=str(program("docker-init")), seccomp_profile=str(_PROFILE)))


@pytest.fixture(scope="module")
def box(host: Host) -> Iterator[RuncBox]:
    with runc_box(host) as box:
        yield box


@pytest.fixture
def v1(host: Host) -> None:
    if host.cgroup_version != 1:
        pytest.skip("the limits are read from the files of cgroup v1, which this host has not")


def _a_disk() -> str:
    """One that this process may open itself."""
    return next(
        str(path) for path in sorted(Path("/dev").iterdir()) if path.is_block_device() and _opens(path)
    )


def _opens(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True


def _fields(status: str) -> dict[str, str]:
    """Of /proc/PID/status."""
    return dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))


def test_a_container_has_docker_s_fourteen_capabilities_and_seccomp(box: RuncBox) -> None:
    found = _fields(box.run(_STATUS).output)

    sets = {kind: found[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}
    none, fourteen = "0" * 16, "00000000a80425fb"
    assert sets == {"Inh": none, "Prm": fourteen, "Eff": fourteen, "Bnd": fourteen, "Amb": none}
    assert (found["Seccomp"], found["NoNewPrivs"]) == ("2", "0")


def test_another_user_has_capabilities_to_gain_and_none_yet(box: RuncBox) -> None:
    found = _fields(box.run(_STATUS, Config(user="app")).output)

    assert (found["CapEff"], found["CapBnd"]) == ("0" * 16, "00000000a80425fb")
    assert (found["Uid"].split()[0], found["Gid"].split()[0], found["Groups"].strip()) == (
        "1000",
        "1001",
        "29 44 1001",
    )


def test_capabilities_are_added_and_dropped(box: RuncBox) -> None:
    asked = HostConfig(cap_add=["NET_ADMIN"], cap_drop=["ALL"])

    assert (
        _fields(box.run(_STATUS, host=asked).output)["CapEff"] == f"{1 << NAMES.index('CAP_NET_ADMIN'):016x}"
    )


def test_docker_s_profile_refuses_what_it_has_no_capability_for(box: RuncBox) -> None:
    asked = HostConfig(security_opt=["seccomp=unconfined"])

    confined = box.run("unshare -U true")
    free = box.run("grep Seccomp: /proc/self/status; unshare -U true && echo done", host=asked)

    assert confined.code != 0
    assert "Operation not permitted" in confined.output
    assert free.output.split() == ["Seccomp:", "0", "done"]


def test_a_profile_of_one_s_own_is_applied(box: RuncBox) -> None:
    profile = (
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",'
        ' "errnoRet": 28}]}'
    )

    outcome = box.run("mkdir /tmp/made", host=HostConfig(security_opt=[f"seccomp={profile}"]))

    assert "No space left on device" in outcome.output


def test_a_privileged_container_has_all_that_the_host_allows(box: RuncBox, host: Host) -> None:
    asked = HostConfig(privileged=True)
    outcome = box.run(f"{_STATUS}; touch /sys/kernel/x; ls /dev; mount | grep -c ' /proc/'", host=asked)

    found = _fields(outcome.output)
    allowed = sum(1 << NAMES.index(name) for name in host.capabilities)
    assert (int(found["CapEff"], 16), found["Seccomp"]) == (allowed, "0")
    assert "Read-only file system" not in outcome.output
    disks = {path.name for path in Path("/dev").iterdir() if path.is_block_device()}
    assert disks <= set(outcome.output.split())
    assert outcome.output.splitlines()[-1] == "0"


def test_a_privileged_container_that_gets_less_is_warned_of(host: Host) -> None:
    lacking_here = [name for name in NAMES if name not in host.capabilities]

    said = [text for text in warnings(HostConfig(privileged=True), host) if "does not allow" in text]

    assert bool(said) == bool(lacking_here)
    assert all(name in said[0] for name in lacking_here)


def test_paths_are_masked_and_read_only(box: RuncBox) -> None:
    outcome = box.run(
        "wc -c < /proc/interrupts; ls /sys/firmware | wc -l; echo 1 > /proc/sys/vm/drop_caches;"
        " touch /sys/x; touch /sys/fs/cgroup/pids/x"
    )

    assert outcome.output.split()[:2] == ["0", "0"]
    assert outcome.output.count("Read-only file system") == 3


def test_unmasked_paths_are_there(box: RuncBox) -> None:
    asked = HostConfig(masked_paths=[], readonly_paths=[])

    assert int(box.run("wc -c < /proc/interrupts", host=asked).output) > 0


@pytest.mark.usefixtures("v1")
def test_limits_are_in_the_container_s_cgroup(box: RuncBox) -> None:
    asked = HostConfig(
        memory=64 * _MB,
        memory_swap=96 * _MB,
        memory_reservation=32 * _MB,
        memory_swappiness=10,
        nano_cpus=1_500_000_000,
        cpu_shares=512,
        cpuset_cpus="0",
        pids_limit=50,
        blkio_weight=300,
    )
    files = {
        "memory/memory.limit_in_bytes": 64 * _MB,
        "memory/memory.memsw.limit_in_bytes": 96 * _MB,
        "memory/memory.soft_limit_in_bytes": 32 * _MB,
        "memory/memory.swappiness": 10,
        "cpu/cpu.cfs_quota_us": 150_000,
        "cpu/cpu.cfs_period_us": 100_000,
        "cpu/cpu.shares": 512,
        "cpuset/cpuset.cpus": 0,
        "pids/pids.max": 50,
    }

    outcome = box.run(f"cd /sys/fs/cgroup; cat {' '.join(files)}", host=asked)

    assert dict(zip(files, map(int, outcome.output.split()), strict=True)) == files


@pytest.mark.usefixtures("v1")
def test_rates_of_a_disk_are_in_the_cgroup(box: RuncBox) -> None:
    disk = _a_disk()
    number = os.stat(disk).st_rdev
    asked = HostConfig(
        blkio_device_read_bps=[ThrottleDevice(path=disk, rate=_MB)],
        blkio_device_write_iops=[ThrottleDevice(path=disk, rate=100)],
    )

    outcome = box.run(
        "cd /sys/fs/cgroup/blkio; cat blkio.throttle.read_bps_device blkio.throttle.write_iops_device",
        host=asked,
    )

    name = f"{os.major(number)}:{os.minor(number)}"
    assert outcome.output.splitlines() == [f"{name} {_MB}", f"{name} 100"]


@pytest.mark.usefixtures("v1")
def test_an_update_changes_what_it_names(box: RuncBox, host: Host) -> None:
    with box.running(HostConfig(memory=64 * _MB, memory_swap=64 * _MB, pids_limit=10)) as (container, _):
        changed = HostConfig(memory=128 * _MB, memory_swap=-1, pids_limit=0, cpu_shares=256)
        box.runc("update", "--resources", "-", container, given=linux_resources(changed, host))

        def value(file: str) -> str:
            hierarchy = file.partition(".")[0]
            return Path(f"/sys/fs/cgroup/{hierarchy}{box.parent}/{container}/{file}").read_text().strip()

        assert value("memory.limit_in_bytes") == str(128 * _MB)
        assert int(value("memory.memsw.limit_in_bytes")) > 1 << 60
        assert (value("pids.max"), value("cpu.shares")) == ("max", "256")


def test_limits_of_cgroup_v2_hold(box: RuncBox, host: Host) -> None:
    if host.cgroup_version != 2:
        pytest.skip(
            "this host's controllers are in cgroup v1: only the resources given to the runtime are compared"
        )
    asked = HostConfig(memory=64 * _MB, memory_swap=96 * _MB, pids_limit=50, nano_cpus=500_000_000)

    outcome = box.run("cd /sys/fs/cgroup; cat memory.max memory.swap.max pids.max cpu.max", host=asked)

    assert outcome.output.split() == [str(64 * _MB), str(32 * _MB), "50", "50000", "100000"]


def test_who_takes_too_much_memory_is_killed(box: RuncBox) -> None:
    asked = HostConfig(memory=16 * _MB, memory_swap=16 * _MB)

    assert box.run("exec dd if=/dev/zero of=/dev/null bs=64M count=1", host=asked).code == 137


def test_more_processes_than_allowed_cannot_start(box: RuncBox) -> None:
    outcome = box.run("sleep 9 & sleep 9 & sleep 9 & sleep 9 & sleep 9 &", host=HostConfig(pids_limit=3))

    assert "fork" in outcome.output


def test_a_read_only_root_has_writable_tmpfs(box: RuncBox) -> None:
    asked = HostConfig(readonly_rootfs=True, tmpfs={"/tmp": "size=1m,exec"})

    outcome = box.run("touch /x; touch /tmp/x && echo made; grep ' /tmp ' /proc/mounts", host=asked)

    refused, made, mounted = outcome.output.splitlines()
    assert "Read-only file system" in refused
    assert made == "made"
    assert {"size=1024k", "nosuid", "nodev"} <= set(mounted.split()[3].split(","))
    assert "noexec" not in mounted


def test_no_new_privileges(box: RuncBox) -> None:
    asked = HostConfig(security_opt=["no-new-privileges"])

    assert _fields(box.run(_STATUS, host=asked).output)["NoNewPrivs"] == "1"


def test_sysctls_are_docker_s_and_those_asked_for(box: RuncBox) -> None:
    asked = HostConfig(
        network_mode="bridge", sysctls={"net.ipv4.ip_forward": "1", "kernel.shmmax": "1000000"}
    )
    files = "net/ipv4/ping_group_range net/ipv4/ip_unprivileged_port_start net/ipv4/ip_forward kernel/shmmax"

    outcome = box.run(f"cd /proc/sys; cat {files}", host=asked)

    assert outcome.output.split() == ["0", "2147483647", "0", "1", "1000000"]


def test_a_device_that_was_asked_for_is_there(box: RuncBox) -> None:
    asked = HostConfig(devices=[DeviceMapping(path_on_host="/dev/zero", path_in_container="/dev/nought")])

    assert box.run("head -c 3 /dev/nought | wc -c", host=asked).output == "3"


def test_a_device_can_be_made_and_opened_only_by_a_rule(box: RuncBox) -> None:
    disk = os.stat(_a_disk()).st_rdev
    name = f"{os.major(disk)} {os.minor(disk)}"
    script = f"rm -f /tmp/disk; mknod /tmp/disk b {name}; : < /tmp/disk && echo opened"

    denied = box.run(script)
    allowed = box.run(script, host=HostConfig(device_cgroup_rules=[f"b {name.replace(' ', ':')} r"]))

    assert "Operation not permitted" in denied.output
    assert allowed.output == "opened"


def test_ulimits_and_the_oom_score(box: RuncBox) -> None:
    asked = HostConfig(ulimits=[Ulimit(name="nofile", soft=100, hard=200)], oom_score_adj=300)

    outcome = box.run("ulimit -n; ulimit -H -n; cat /proc/self/oom_score_adj", host=asked)

    assert outcome.output.split() == ["100", "200", "300"]


def test_directory_home_and_hostname(box: RuncBox) -> None:
    outcome = box.run(
        "pwd; hostname; echo $HOME $HOSTNAME $PATH", Config(working_dir="/made/for/it", user="app")
    )

    directory, name, variables = outcome.output.splitlines()
    assert directory == "/made/for/it"
    assert variables == f"/home/app {name} /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def test_init_is_the_first_process(box: RuncBox) -> None:
    outcome = box.run("cat /proc/1/comm; echo $$", host=HostConfig(init=True))

    first, own = outcome.output.split()
    assert first == "docker-init"
    assert own != "1"


def test_shm_has_the_size_asked_for(box: RuncBox) -> None:
    outcome = box.run("df -k /dev/shm | tail -1", host=HostConfig(shm_size=3 * _MB))

    assert outcome.output.split()[1] == str(3 << 10)


@contextmanager
def _mounted_tmpfs(place: Path, options: str) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def _read_only_bind(source: Path, target: str) -> Mount:
    """Of what is below it, nothing is."""
    options = BindOptions(read_only_non_recursive=True)
    return Mount(type="bind", source=str(source), target=target, read_only=True, bind_options=options)


def test_a_read_only_bind_is_so_below_it_too(box: RuncBox, tmp_path: Path) -> None:
    recursive = HostConfig(binds=[f"{tmp_path}:/bound:ro"])
    shallow = HostConfig(mounts=[_read_only_bind(tmp_path, "/bound")])
    script = "touch /bound/x; touch /bound/below/x"
    with _mounted_tmpfs(tmp_path / "below", "mode=755"):
        outcomes = [box.run(script, host=asked).output for asked in (recursive, shallow)]

    assert [output.count("Read-only file system") for output in outcomes] == [2, 1]


def test_a_missing_source_of_a_volume_flag_is_made(box: RuncBox, tmp_path: Path) -> None:
    outcome = box.run("echo hello > /bound/file", host=HostConfig(binds=[f"{tmp_path}/new/one:/bound"]))

    assert outcome.code == 0
    assert (tmp_path / "new/one/file").read_text() == "hello\n"


def test_processes_of_another_container_are_seen(box: RuncBox) -> None:
    with box.running() as (_, pid):
        paths = {kind: f"/proc/{pid}/ns/{kind}" for kind in ("pid", "ipc", "uts")}
        asked = HostConfig(pid_mode="container:other", ipc_mode="container:other")

        outcome = box.run("cat /proc/1/cmdline; readlink /proc/self/ns/ipc", host=asked, namespaces=paths)

        command, ipc = outcome.output.split("\0sleep\0")[-1].partition("1000\0")[1:]
        assert command == "1000\0"
        assert ipc.strip() == os.readlink(paths["ipc"])


def test_the_host_s_processes_are_seen(box: RuncBox) -> None:
    outcome = box.run(
        "readlink /proc/self/ns/pid", host=HostConfig(pid_mode="host"), namespaces={"pid": "host"}
    )

    assert outcome.output == os.readlink("/proc/self/ns/pid")


def test_a_cgroup_namespace_hides_where_the_container_is(box: RuncBox) -> None:
    outcome = box.run("cat /proc/self/cgroup", host=HostConfig(cgroupns_mode="private"))

    assert box.parent not in outcome.output
    assert re.search(r"memory:/$|^0::/$", outcome.output, re.MULTILINE)


def test_root_inside_a_user_namespace_is_nobody_outside(box: RuncBox) -> None:
    mapping = UserMapping(200_000, 65_536)
    own = box.root.parent / "own"
    own.mkdir(exist_ok=True)
    subprocess.run(["cp", "-a", f"{box.root}/.", own], check=True)
    subprocess.run(["chown", "-R", "200000:200000", own], check=True)
    # A user namespace may not take the flags of the host's mount away, and a bind without them would do so.
    flagged = _mounted_tmpfs(box.root.parent / "flagged", "nosuid,nodev,noexec,mode=755")
    with user_namespace(box, mapping) as paths, flagged as source:
        outcome = box.run(
            "id -u; cat /proc/self/uid_map; touch /made; ls /sys/class/net; ip link set lo up && echo up;"
            " head -c 3 /dev/zero | wc -c; ls /dev/mqueue; grep -o ' /flagged .* ro,nosuid,nodev,noexec' /proc/mounts",
            host=HostConfig(
                userns_mode="private:200000:65536",
                cap_add=["NET_ADMIN"],
                mounts=[_read_only_bind(source, "/flagged")],
            ),
            rootfs=str(own),
            netns=paths["net"],
            namespaces={"user": paths["user"]},
            userns=mapping,
        )

    assert outcome.output.split() == [
        "0",
        "0",
        "200000",
        "65536",
        "lo",
        "up",
        "3",
        *["/flagged", "tmpfs", "ro,nosuid,nodev,noexec"],
    ]
    assert (own / "made").stat().st_uid == 200_000
