"""Our specification of a container against that of a real dockerd, for the same record of the same flags."""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest

from cnm.launcher.host import Host, read_host
from cnm.launcher.modes import UserMapping
from cnm.launcher.programs import Programs
from tests.support.docker_twin import Twin
from tests.support.dockerd import PROGRAMS, Dockerd, start_dockerd
from tests.support.launcher_root import make_root, pack
from tests.support.oci_differences import Difference, differences
from tests.support.private_etc import make_private
from tests.support.recording_runtime import RecordingRuntime, request
from tests.support.unpacked import ROOT, lacking, program

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

_PROFILE = ROOT / "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json"

_FLAGS: dict[str, str] = {
    "nothing": "",
    "tty and stdin": "-i -t",
    "hostname": "--hostname web --domainname example.test",
    "environment": "-e A=1 -e B=two=2 -e PATH=/bin -e HOSTNAME",
    "environment with tty": "-t -e TERM=dumb -e C=",
    "working directory": "-w /work/./new/../deep/",
    "entrypoint": "--entrypoint /bin/echo",
    "user by name": "-u app",
    "user by number": "-u 1000",
    "unknown number": "-u 777:888",
    "digits that are a name": "-u 1234",
    "user and group": "-u app:video",
    "group by number": "-u nobody:29",
    "groups added": "-u daemon --group-add video --group-add 29 --group-add 5000",
    "groups added to root": "--group-add audio",
    "memory": "-m 64m",
    "memory and swap": "-m 64m --memory-swap 100m --memory-reservation 32m",
    "unlimited swap": "-m 64m --memory-swap -1",
    "swappiness": "-m 64m --memory-swappiness 10",
    "kernel memory": "-m 64m --kernel-memory 32m",
    "oom kill disabled": "-m 64m --oom-kill-disable",
    "oom score": "--oom-score-adj 300",
    "cpus": "--cpus 1.5",
    "cpu quota": "--cpu-period 50000 --cpu-quota 25000",
    "cpu shares": "--cpu-shares 512",
    "too few shares": "--cpu-shares 1",
    "cpuset": "--cpuset-cpus 0 --cpuset-mems 0",
    "pids": "--pids-limit 50",
    "no pids limit": "--pids-limit -1",
    "blkio weight": "--blkio-weight 300",
    "blkio rates": "--device-read-bps {disk}:1mb --device-write-bps {disk}:2mb",
    "blkio operations": "--device-read-iops {disk}:100 --device-write-iops {disk}:200",
    "ulimits": "--ulimit nofile=1000:2000 --ulimit core=0 --ulimit nproc=-1",
    "device": "--device /dev/fuse",
    "device elsewhere": "--device /dev/zero:/dev/nought:r",
    "device behind a link": "--device {place}/link:/dev/elsewhere",
    "devices of a directory": "--device {place}/devices:/dev/many",
    "device rules": "--device-cgroup-rule 'c 10:* rwm' --device-cgroup-rule 'b *:3 r' --device-cgroup-rule 'a *:* m'",
    "capability added": "--cap-add NET_ADMIN --cap-add cap_sys_time",
    "capability dropped": "--cap-drop CHOWN --cap-drop net_raw",
    "all dropped": "--cap-drop ALL --cap-add NET_BIND_SERVICE",
    "all but some": "--cap-add ALL --cap-drop SYS_ADMIN",
    "default capability added": "--cap-add CHOWN",
    "capabilities of a user": "-u app --cap-add SYS_PTRACE",
    "privileged": "--privileged",
    "privileged with a device": "--privileged --device /dev/zero:/dev/nought",
    "privileged but masked": "--privileged --security-opt seccomp=unconfined",
    "no new privileges": "--security-opt no-new-privileges",
    "new privileges": "--security-opt no-new-privileges=false",
    "seccomp unconfined": "--security-opt seccomp=unconfined",
    "seccomp profile": "--security-opt seccomp={profile}",
    "labels and apparmor": "--security-opt label=disable --security-opt apparmor=unconfined",
    "nothing masked": "--security-opt systempaths=unconfined",
    "read-only root": "--read-only",
    "read-only root with tmpfs": "--read-only --tmpfs /run --tmpfs /tmp:exec,size=1m,mode=700",
    "tmpfs options": "--tmpfs /tmp:rw,exec,suid,dev,uid=1000,gid=1000,nr_inodes=100,size=1k,size=2k",
    "tmpfs mount": "--mount type=tmpfs,target=/cache,tmpfs-size=1048576,tmpfs-mode=1770",
    "read-only tmpfs mount": "--mount type=tmpfs,target=/cache,readonly,tmpfs-size=100",
    "bind": "-v {place}/bound:/bound",
    "bind of a missing directory": "-v {place}/absent/deep:/bound",
    "bind of a file": "-v {place}/file:/etc/motd:ro",
    "bind modes": "-v {shared}:/bound:ro,slave,z -v {place}/bound:/rw:rw,Z,consistent",
    "bind that propagates": "-v {shared}:/shared:rshared -v {shared}:/received:rslave",
    "bind mount": "--mount type=bind,source={place}/bound,target=/bound,readonly",
    "bind not recursive": "--mount type=bind,source={place}/bound,target=/bound,bind-nonrecursive",
    "bind mount that propagates": "--mount type=bind,source={shared},target=/bound,bind-propagation=shared",
    "bind over a file of the sandbox": "-v {place}/file:/etc/hosts:ro",
    "binds below each other": "-v {place}/bound/in:/a/b/c -v {place}/bound:/a -v {place}/bound:/a/b",
    "bind over /dev/shm": "-v {place}/bound:/dev/shm",
    "bind over /dev": "-v {place}/bound:/dev",
    "volume": "-v named:/data -v anonymous-not:/ro:ro",
    "anonymous volume": "-v /data",
    "volume mount": "--mount type=volume,source=named,target=/data,readonly",
    "shm size": "--shm-size 128m",
    "ipc of the host": "--ipc host",
    "ipc shareable": "--ipc shareable",
    "ipc private": "--ipc private",
    "no ipc": "--ipc none",
    "ipc of a container": "--ipc container:peer",
    "pid of the host": "--pid host",
    "pid of a container": "--pid container:peer",
    "uts of the host": "--uts host",
    "cgroup namespace": "--cgroupns private",
    "cgroup namespace of the host": "--cgroupns host",
    "network of the host": "--network host",
    "no network": "--network none",
    "network of a container": "--network container:peer",
    "sysctls": "--sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=1000000",
    "sysctl over a default": "--sysctl net.ipv4.ip_unprivileged_port_start=1024",
    "init": "--init",
    "init in the host's pids": "--init --pid host",
    "cgroup parent": "--cgroup-parent /cnm-test-elsewhere",
}
"""Flags of `docker run` by what they are about."""


class Reason(NamedTuple):
    """Why a difference may stay: `cases` and `where` are patterns of the case and the place."""

    cases: str
    where: str
    why: str
    so: Callable[[Any, Any], bool]
    """Of Docker's value and ours."""


_NEWER = {"CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"}


def _clipped(docker: list[str], ours: list[str]) -> bool:
    return set(ours) - _NEWER <= set(docker) and set(docker) - set(ours) <= {"CAP_SYS_RESOURCE"}


def _recursive(docker: list[str], ours: list[str]) -> bool:
    return docker == sorted("ro" if option == "rro" else option for option in ours)


_ACCEPTED = (
    Reason(
        ".*",
        "ociVersion",
        "Docker names a development version of the same specification",
        lambda docker, ours: docker == f"{ours}-dev",
    ),
    Reason(
        ".*",
        r"hooks\.prestart",
        "Docker's runtime hands the network namespace to dockerd; ours joins cnmd's by path",
        lambda docker, ours: docker[0]["args"][0] == "libnetwork-setkey" and ours is None,
    ),
    Reason(
        ".*",
        r"linux\.resources\.\w+\.(shares|weight)",
        "20.10 writes 0 for what was not given; 28 leaves it out",
        lambda docker, ours: docker == 0 and ours is None,
    ),
    Reason(
        "privileged.*|all but some",
        r"process\.capabilities\.\w+",
        "20.10 grants what the host lacks, so that the start fails, and no newer ones than AUDIT_READ; 28 does neither",
        _clipped,
    ),
    Reason(
        "unlimited swap",
        r"linux\.resources\.memory\.swap",
        "said, so that an update to it has an effect",
        lambda docker, ours: docker is None and ours == -1,
    ),
    Reason(
        ".*",
        r"mounts\..*\.options",
        "read-only binds are so with all mounts below them, as in 28",
        _recursive,
    ),
    Reason(
        "network of the host",
        r"linux\.namespaces\.network",
        "Docker joins the namespace that it is in",
        lambda docker, ours: docker.endswith("/default") and ours is None,
    ),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files, devices and a shared mount of this process' own that flags name."""
    place = tmp_path_factory.mktemp("host")
    (place / "bound" / "in").mkdir(parents=True)
    (place / "file").write_text("of the host\n")
    (place / "link").symlink_to("/dev/zero")
    (place / "devices" / "below").mkdir(parents=True)
    for name, minor in (("one", 3), ("below/two", 5)):
        os.mknod(place / "devices" / name, stat.S_IFCHR | 0o640, os.makedev(1, minor))
    (place / "shared").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", place / "shared"], check=True)
    subprocess.run(["mount", "--make-shared", place / "shared"], check=True)
    return place


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("image") / "root")


@pytest.fixture(scope="module")
def host() -> Host:
    return read_host(Programs(init=str(program("docker-init")), seccomp_profile=str(_PROFILE)))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> RecordingRuntime:
    return RecordingRuntime(tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="module")
def dockerd(
    tmp_path_factory: pytest.TempPathFactory, runtime: RecordingRuntime, root: Path
) -> Iterator[Dockerd]:
    place = tmp_path_factory.mktemp("dockerd")
    with start_dockerd(place, *runtime.flags) as daemon:
        daemon.docker("import", str(pack(root, place / "image.tar")), "image")
        daemon.docker("run", "-d", "--name", "peer", "--ipc", "shareable", "image", "sleep", "1000")
        yield daemon
        daemon.docker("rm", "-f", "peer")


class Compared(NamedTuple):
    case: str
    found: list[Difference]


@pytest.fixture(scope="module")
def compared(
    dockerd: Dockerd, runtime: RecordingRuntime, place: Path, root: Path, host: Host
) -> dict[str, Compared]:
    """By the case."""
    names = {"place": place, "profile": _PROFILE, "shared": place / "shared", "disk": _a_disk()}
    _, peer = request(dockerd, "GET", "/containers/peer/json")
    twin = Twin(dockerd, root, host, peer, dockerd.socket.parent / "root")
    found = {}
    for case, flags in _FLAGS.items():
        arguments = (part.format_map(names) for part in shlex.split(flags))
        with runtime.recorded(dockerd, *arguments, "image", "echo", "hello") as recorded:
            found[case] = Compared(case, differences(recorded.config, twin.specification(recorded)))
    return found


def _a_disk() -> str:
    return next(str(path) for path in sorted(Path("/dev").iterdir()) if path.is_block_device())


@pytest.mark.parametrize("case", _FLAGS)
def test_the_specification_is_docker_s_but_for_what_the_table_says(
    compared: dict[str, Compared], case: str
) -> None:
    left = [found for found in compared[case].found if not _reasons(case, found)]

    assert left == []


def test_every_reason_is_needed(compared: dict[str, Compared]) -> None:
    used = {
        reason for case in compared.values() for found in case.found for reason in _reasons(case.case, found)
    }

    assert set(_ACCEPTED) - used == set()


def _reasons(case: str, found: Difference) -> list[Reason]:
    return [
        reason
        for reason in _ACCEPTED
        if re.fullmatch(reason.cases, case)
        and re.fullmatch(reason.where, found.where)
        and reason.so(found.docker, found.ours)
    ]


_REMAPPED = {
    "nothing": "",
    "binds": "-v {place}/bound:/bound -v {place}/file:/etc/motd:ro",
    "binds of flagged mounts": "-v {flagged}:/flagged -v {flagged}:/twice:ro",
    "volume and tmpfs": "-v named:/data --tmpfs /tmp",
    "device": "--device /dev/zero:/dev/nought",
    "read-only root": "--read-only",
    "user": "-u app",
    "sysctls": "--sysctl net.ipv4.ip_forward=1",
}
"""Flags of containers in a user namespace."""


@pytest.fixture(scope="module")
def remapped(runtime: RecordingRuntime, place: Path, root: Path, host: Host) -> dict[str, Compared]:
    """By the case, of a dockerd that maps root to user 200000."""
    flagged = place / "flagged"
    flagged.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nosuid,nodev,noexec", "none", flagged], check=True)
    make_private()
    for file in ("/etc/subuid", "/etc/subgid"):
        Path(file).write_text("daemon:200000:65536\n")
    found = {}
    # Others than root must be able to look into it, as they may not below pytest's directory.
    with TemporaryDirectory(dir="/run") as directory, _remapping(Path(directory), runtime) as daemon:
        state = Path(directory)
        daemon.docker("import", str(pack(root, state / "image.tar")), "image")
        twin = Twin(daemon, root, host, {}, state / "root" / "200000.200000", UserMapping(200_000, 65_536))
        for case, flags in _REMAPPED.items():
            arguments = (part.format(place=place, flagged=flagged) for part in shlex.split(flags))
            with runtime.recorded(daemon, *arguments, "image", "echo", "hello") as recorded:
                found[case] = Compared(case, differences(recorded.config, twin.specification(recorded)))
    return found


def _remapping(state: Path, runtime: RecordingRuntime) -> AbstractContextManager[Dockerd]:
    state.chmod(0o755)
    return start_dockerd(state, "--userns-remap", "daemon", *runtime.flags)


@pytest.mark.parametrize("case", _REMAPPED)
def test_in_a_user_namespace_the_specification_is_docker_s_too(
    remapped: dict[str, Compared], case: str
) -> None:
    left = [found for found in remapped[case].found if not _reasons(case, found)]

    assert left == []
