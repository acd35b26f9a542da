"""What a create request may ask for, and what is kept of it: our answers against those of a real dockerd."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cnm.errors import CnmError, InvalidParameter
from cnm.launcher.container import Container
from cnm.launcher.host import Host, read_host
from cnm.launcher.mount_points import mount_points
from cnm.launcher.mounts import resolve
from cnm.launcher.ocispec import Inside, spec
from cnm.launcher.process import arguments, make_working_directory
from cnm.launcher.programs import Programs
from cnm.launcher.updating import updated
from cnm.launcher.users import find_user
from cnm.launcher.validation import check, check_update, settled, warnings
from cnm.wire.containers import Config, ContainerUpdate, HostConfig
from cnm.wire.lenient import decode_leniently
from tests.support.dockerd import PROGRAMS, Dockerd, start_dockerd
from tests.support.launcher_root import make_root, pack
from tests.support.recording_runtime import request
from tests.support.unpacked import ROOT, lacking, program

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

_GB = 1 << 30


def _host(**keys: Any) -> dict[str, Any]:
    return {"HostConfig": keys}


_SIX = 6 << 20


def _device(path: str) -> dict[str, str]:
    return {"PathOnHost": path, "PathInContainer": "/dev/inside", "CgroupPermissions": "rwm"}


_REFUSED: dict[str, dict[str, Any]] = {
    "little memory": _host(Memory=_SIX - 1),
    "little swap": _host(Memory=_GB, MemorySwap=_SIX),
    "swap alone": _host(MemorySwap=_GB),
    "swappiness": _host(MemorySwappiness=101),
    "little reservation": _host(MemoryReservation=1),
    "reservation over limit": _host(Memory=_SIX, MemoryReservation=_GB),
    "little kernel memory": _host(KernelMemory=1),
    "cpus and period": _host(NanoCpus=10**9, CpuPeriod=1000),
    "cpus and quota": _host(NanoCpus=10**9, CpuQuota=1000),
    "too many cpus": _host(NanoCpus=1025 * 10**9),
    "negative cpus": _host(NanoCpus=-1),
    "period": _host(CpuPeriod=999),
    "long period": _host(CpuPeriod=1_000_001),
    "quota": _host(CpuQuota=999),
    "absent cpu": _host(CpusetCpus="0,1000"),
    "no cpu list": _host(CpusetCpus="a-b"),
    "open cpu range": _host(CpusetCpus="1-"),
    "cpu beyond all": _host(CpusetCpus="9000"),
    "absent memory node": _host(CpusetMems="0-7"),
    "realtime runtime": _host(CpuRealtimePeriod=1000, CpuRealtimeRuntime=2000),
    "negative shm": _host(ShmSize=-1),
    "oom score": _host(OomScoreAdj=1001),
    "capability": _host(CapAdd=["nothing"]),
    "dropped capability": _host(CapDrop=["CAP_nothing"]),
    "capability and all": _host(CapAdd=["ALL", "x"]),
    "security option": _host(SecurityOpt=["nothing"]),
    "security option's key": _host(SecurityOpt=["nothing=1"]),
    "new privileges": _host(SecurityOpt=["no-new-privileges=perhaps"]),
    "cgroupns": _host(CgroupnsMode="weird"),
    "bind to root": _host(Binds=["/tmp:/"]),
    "relative target": _host(Binds=["/tmp:there"]),
    "bind of four": _host(Binds=["/a:/b:ro:rw"]),
    "mode": _host(Binds=["/a:/b:weird"]),
    "two modes": _host(Binds=["/a:/b:ro,rw"]),
    "mode without source": _host(Binds=["/a:ro"]),
    "no bind": _host(Binds=[":/a"]),
    "copy of a bind": _host(Binds=["/a:/b:nocopy"]),
    "volume that propagates": _host(Binds=["name:/b:rshared"]),
    "two binds": _host(Binds=["/a:/b", "/c:/b/"]),
    "bind and tmpfs": _host(Binds=["/a:/b"], Tmpfs={"/b": ""}),
    "bind and mount": _host(Binds=["/tmp:/b"], Mounts=[{"Type": "tmpfs", "Target": "/b"}]),
    "mount of nothing": _host(Mounts=[{"Type": "bind", "Target": "/b"}]),
    "mount nowhere": _host(Mounts=[{"Type": "bind", "Source": "/tmp"}]),
    "mount to root": _host(Mounts=[{"Type": "tmpfs", "Target": "/."}]),
    "mount of a kind": _host(Mounts=[{"Type": "weird", "Target": "/b"}]),
    "mount of an absent path": _host(Mounts=[{"Type": "bind", "Source": "/absent/path", "Target": "/b"}]),
    "mount of a relative path": _host(Mounts=[{"Type": "bind", "Source": "tmp", "Target": "/b"}]),
    "mount with propagation": _host(
        Mounts=[{"Type": "bind", "Source": "/tmp", "Target": "/b", "BindOptions": {"Propagation": "weird"}}]
    ),
    "mount with another's options": _host(
        Mounts=[{"Type": "bind", "Source": "/tmp", "Target": "/b", "VolumeOptions": {}}]
    ),
    "tmpfs with a source": _host(Mounts=[{"Type": "tmpfs", "Source": "/a", "Target": "/b"}]),
    "tmpfs with another's options": _host(Mounts=[{"Type": "tmpfs", "Target": "/b", "BindOptions": {}}]),
    "read-only anonymous volume": _host(Mounts=[{"Type": "volume", "Target": "/b", "ReadOnly": True}]),
    "tmpfs to root": _host(Tmpfs={"/": ""}),
    "relative tmpfs": _host(Tmpfs={"there": ""}),
    "port": _host(PortBindings={"weird/tcp": [{"HostPort": "80"}]}),
    "host port": _host(PortBindings={"80/tcp": [{"HostPort": "weird"}]}),
    "extra host": _host(ExtraHosts=["alone"]),
    "extra host's address": _host(ExtraHosts=["name:300.1.1.1"]),
    "restart policy": _host(RestartPolicy={"Name": "sometimes"}),
    "restart count": _host(RestartPolicy={"Name": "always", "MaximumRetryCount": 2}),
    "negative restart count": _host(RestartPolicy={"Name": "on-failure", "MaximumRetryCount": -2}),
    "removed and restarted": _host(AutoRemove=True, RestartPolicy={"Name": "always"}),
    "isolation": _host(Isolation="hyperv"),
    "runtime": _host(Runtime="weird"),
    "shared network": _host(NetworkMode="container:"),
    "shared network's name": {"Hostname": "me", **_host(NetworkMode="container:x")},
    "shared network's links": _host(NetworkMode="container:x", Links=["a:b"]),
    "shared network's dns": _host(NetworkMode="container:x", Dns=["10.0.0.1"]),
    "shared network's hosts": _host(NetworkMode="container:x", ExtraHosts=["a:1.1.1.1"]),
    "shared network's address": {"MacAddress": "02:00:00:00:00:01", **_host(NetworkMode="container:x")},
    "shared network's ports": _host(NetworkMode="container:x", PortBindings={"80/tcp": [{"HostPort": "80"}]}),
    "shared network's exposed ports": {"ExposedPorts": {"80/tcp": {}}, **_host(NetworkMode="container:x")},
    "shared uts": {"Hostname": "me", **_host(UTSMode="host")},
    "linked host": _host(NetworkMode="host", Links=["a:b"]),
    "working directory": {"WorkingDir": "there"},
    "signal": {"StopSignal": "SIGWEIRD"},
    "signal 0": {"StopSignal": "0"},
    "environment": {"Env": ["=value"]},
    "health interval": {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1}},
    "health timeout": {"Healthcheck": {"Test": ["CMD", "true"], "Timeout": 1}},
    "health retries": {"Healthcheck": {"Test": ["CMD", "true"], "Retries": -1}},
    "health start": {"Healthcheck": {"Test": ["CMD", "true"], "StartPeriod": 1}},
    "no command": {"Cmd": []},
}
"""Bodies that dockerd refuses, by what they are about."""

_OTHER_WORDS = {
    "restart policy": "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', "
    "or 'unless-stopped'",
    "restart count": "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    "negative restart count": "invalid restart policy: maximum retry count cannot be negative",
    "runtime": "unknown or invalid runtime name: weird",
    "isolation": "invalid isolation (hyperv): linux only supports 'default'",
    "shared network": "invalid network mode: invalid container format container:<name|id>",
    "signal": "invalid signal: SIGWEIRD",
    "signal 0": "invalid signal: 0",
    "no command": "no command specified",
    "group added": "unable to find group nobody-here: no matching entries in group file",
    "directory below a file": "Cannot mkdir: /etc/passwd/below is not a directory",
    "seccomp profile": "Decoding seccomp profile failed: Expecting property name enclosed in double quotes: line 1 "
    "column 2 (char 1)",
}
"""Ours, by the case: those of Docker 28 where 20.10 has others; 20.10 tells a path of its own, and Go's JSON errors."""

_TAKEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "no limit of processes": _host(PidsLimit=-1),
    "limits": _host(
        Memory=_GB,
        MemoryReservation=_SIX,
        MemorySwappiness=7,
        NanoCpus=1_500_000_000,
        PidsLimit=9,
        CpusetCpus="0",
    ),
    "swap": _host(Memory=_GB, MemorySwap=-1),
    "kernel's own swappiness": _host(MemorySwappiness=-1),
    "kernel memory": _host(Memory=_GB, KernelMemory=_SIX),
    "no oom kills": _host(OomKillDisable=True),
    "weight": _host(BlkioWeight=300),
    "weight out of range": _host(BlkioWeight=5),
    "weight of a device": _host(BlkioWeightDevice=[{"Path": "/dev/null", "Weight": 100}]),
    "few shares": _host(CpuShares=1),
    "many shares": _host(CpuShares=10**6),
    "privileged": _host(Privileged=True),
    "nothing masked": _host(MaskedPaths=[], ReadonlyPaths=[]),
    "ipc": _host(IpcMode="host", ShmSize=1 << 20),
    "cgroup namespace": _host(CgroupnsMode="private"),
    "published on the host's network": _host(
        NetworkMode="host", PortBindings={"80/tcp": [{"HostPort": "80"}]}
    ),
}
"""Bodies that dockerd takes."""

_KEPT = (
    *(
        "memory",
        "memory_swap",
        "memory_reservation",
        "memory_swappiness",
        "nano_cpus",
        "pids_limit",
        "cpu_shares",
    ),
    *(
        "cpuset_cpus",
        "kernel_memory",
        "oom_kill_disable",
        "blkio_weight",
        "shm_size",
        "ipc_mode",
        "cgroupns_mode",
    ),
    "readonly_paths",
)

_OUR_WARNING = "This host does not allow "
"""Docker says nothing and the container fails."""


_NOT_STARTED: dict[str, dict[str, Any]] = {
    "user": {"User": "nobody-here"},
    "user of a group": {"User": "app:nobody-here"},
    "user out of range": {"User": "4294967296"},
    "negative user": {"User": "-1"},
    "group out of range": {"User": "app:4294967296"},
    "group added": _host(GroupAdd=["nobody-here"]),
    "group added out of range": _host(GroupAdd=["4294967296"]),
    "directory that is a file": {"WorkingDir": "/etc/passwd"},
    "directory below a file": {"WorkingDir": "/etc/passwd/below"},
    "absent device": _host(Devices=[_device("/dev/absent")]),
    "device that is a file": _host(Devices=[_device("/proc/version")]),
    "device that is an empty directory": _host(Devices=[_device("/proc/self/net/stat")]),
    "device rule": _host(DeviceCgroupRules=["c 1:1  rwm"]),
    "device rule's number": _host(DeviceCgroupRules=["c 99999999999999999999:1 rwm"]),
    "tmpfs option": _host(Tmpfs={"/tmp": "weird"}),
    "tmpfs option with a value": _host(Tmpfs={"/tmp": "weird=1"}),
    "seccomp profile": _host(SecurityOpt=["seccomp={"]),
    "seccomp profile that contradicts itself": _host(
        SecurityOpt=['seccomp={"defaultAction":"A","architectures":["B"],"archMap":[{"architecture":"C"}]}']
    ),
    "seccomp rule that contradicts itself": _host(
        SecurityOpt=['seccomp={"defaultAction":"A","syscalls":[{"name":"a","names":["b"],"action":"B"}]}']
    ),
    "bind that is not shared": _host(Binds=["/tmp:/b:rshared"]),
    "disk": _host(BlkioDeviceReadBps=[{"Path": "/dev/absent", "Rate": 1}]),
}
"""Bodies of which dockerd finds out only with the root file system, mostly when the container starts."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_root(tmp_path_factory.mktemp("image") / "root")


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Dockerd]:
    place = tmp_path_factory.mktemp("dockerd")
    with start_dockerd(place) as daemon:
        daemon.docker("import", str(pack(root, place / "image.tar")), "image")
        yield daemon


@pytest.fixture(scope="module")
def host() -> Host:
    profile = ROOT / "usr/share/gocode/src/github.com/docker/docker/profiles/seccomp/default.json"
    return read_host(Programs(init=str(program("docker-init")), seccomp_profile=str(profile)))


def _records(body: dict[str, Any]) -> tuple[Config, HostConfig]:
    config = {key: value for key, value in body.items() if key != "HostConfig"}
    return (
        decode_leniently(msgspec.json.encode(config), Config),
        decode_leniently(msgspec.json.encode(body.get("HostConfig", {})), HostConfig),
    )


def _body(of: dict[str, Any]) -> dict[str, Any]:
    return {"Image": "image", "Cmd": ["true"], **of}


@pytest.mark.parametrize("case", _REFUSED)
def test_a_wrong_request_is_refused_in_docker_s_words(case: str, dockerd: Dockerd, host: Host) -> None:
    body = _body(_REFUSED[case])
    status, answer = request(dockerd, "POST", "/containers/create", body)
    assert status >= 400, answer

    theirs = answer["message"].strip()
    assert _verdict(*_records(body), host) == (400, _OTHER_WORDS.get(case, theirs))


def _verdict(config: Config, host_config: HostConfig, host: Host) -> tuple[int, str]:
    try:
        arguments(config)
        check(config, host_config, host)
    except CnmError as error:
        return error.status, str(error)
    return 201, ""


_UPDATES: dict[str, dict[str, Any]] = {
    "swap alone": {"MemorySwap": _GB},
    "little memory": {"Memory": 1},
    "swap below memory": {"Memory": _GB, "MemorySwap": _SIX},
    "cpus and quota": {"NanoCpus": 10**9, "CpuQuota": 1000},
    "cpus over a quota": {"NanoCpus": 10**9},
    "memory over swap": {"Memory": 4 * _GB},
    "restart policy": {"RestartPolicy": {"Name": "always"}},
    "quota": {"CpuQuota": 2000},
    "all": {"Memory": _GB, "MemorySwap": 3 * _GB, "CpuShares": 7, "PidsLimit": 5, "CpusetCpus": "0"},
    "no limit of processes": {"PidsLimit": -1},
    "nothing": {},
}
"""Bodies of updates."""


@pytest.mark.parametrize("case", _UPDATES)
def test_an_update_is_taken_or_refused_as_docker_does(case: str, dockerd: Dockerd, host: Host) -> None:
    body = _body(_host(Memory=2 * _GB, MemorySwap=2 * _GB, CpuQuota=1000, AutoRemove=True, PidsLimit=3))
    _, made = request(dockerd, "POST", "/containers/create", body)
    place = f"/containers/{made['Id']}"
    status, answer = request(dockerd, "POST", f"{place}/update", _UPDATES[case])
    _, inspect = request(dockerd, "GET", f"{place}/json")
    request(dockerd, "DELETE", place)
    _, theirs = _records(inspect)

    update = decode_leniently(msgspec.json.encode(_UPDATES[case]), ContainerUpdate)
    _, before = _records(body)
    ours, refusal = _updated(settled(before, host), update, host)

    words = "" if status == 200 else answer["message"].strip()
    assert refusal == words.removeprefix(f"Cannot update container {made['Id']}: ")
    assert {name: getattr(ours, name) or None for name in _KEPT} == {
        name: getattr(theirs, name) or None for name in _KEPT
    }


def _updated(before: HostConfig, update: ContainerUpdate, host: Host) -> tuple[HostConfig, str]:
    try:
        check_update(update, host)
        return updated(before, update), ""
    except CnmError as error:
        return before, str(error)


@pytest.mark.parametrize("case", _NOT_STARTED)
def test_what_cannot_start_is_told_in_docker_s_words(
    case: str, dockerd: Dockerd, host: Host, root: Path
) -> None:
    status, answer = request(dockerd, "POST", "/containers/create", _body(_NOT_STARTED[case]))
    if status == 201:
        container = answer["Id"]
        status, answer = request(dockerd, "POST", f"/containers/{container}/start")
        request(dockerd, "DELETE", f"/containers/{container}")
    assert status >= 400

    config, host_config = _records(_body(_NOT_STARTED[case]))
    with pytest.raises(InvalidParameter) as refused:
        _start(config, host_config, host, str(root))

    theirs = answer["message"].strip()
    assert str(refused.value) == _OTHER_WORDS.get(case, theirs)


def _start(config: Config, host_config: HostConfig, host: Host, root: str) -> None:
    """As the engine would, up to the specification."""
    check(config, host_config, host)
    make_working_directory(root, config)
    user = find_user(root, config.user or "", host_config.group_add or ())
    mounts = resolve(mount_points(config, host_config), lambda point: "/", host)
    container = Container(
        id="0" * 64,
        name="c",
        created=0,
        image="",
        layers=(),
        config=config,
        host=host_config,
        networks={},
        args=arguments(config),
    )
    spec(container, Inside(root, "", "c", user, mounts, {}, "/c"), host)


@pytest.mark.parametrize("case", _TAKEN)
def test_what_is_kept_and_warned_of_is_docker_s(case: str, dockerd: Dockerd, host: Host) -> None:
    body = _body(_TAKEN[case])
    status, answer = request(dockerd, "POST", "/containers/create", body)
    assert status == 201, answer
    _, inspect = request(dockerd, "GET", f"/containers/{answer['Id']}/json")
    request(dockerd, "DELETE", f"/containers/{answer['Id']}")
    _, theirs = _records(inspect)

    config, host_config = _records(body)
    check(config, host_config, host)
    ours = settled(host_config, host)
    said = [text for text in warnings(host_config, host) if not text.startswith(_OUR_WARNING)]

    assert {name: getattr(ours, name) or None for name in _KEPT} == {
        name: getattr(theirs, name) or None for name in _KEPT
    }
    assert said == (answer["Warnings"] or [])


def test_all_that_docker_masks_is_masked(dockerd: Dockerd, host: Host) -> None:
    _, answer = request(dockerd, "POST", "/containers/create", _body({}))
    _, inspect = request(dockerd, "GET", f"/containers/{answer['Id']}/json")

    assert set(inspect["HostConfig"]["MaskedPaths"]) <= set(host.masked_paths)
