"""What a container may not do and what a flag lets it do, with whose namespaces an exec has: seen from the inside."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from cnm.launcher.capabilities import NAMES
from tests.support.engine_pair import ask
from tests.support.launcher import Launcher
from tests.support.launcher_api import Api

_SLEEPER = ("busybox", "sleep", "1000")
_STATUS = ("cat", "/proc/self/status")
_NONE, _FOURTEEN = 0, 0xA80425FB


def _mask(*names: str) -> int:
    return sum(1 << NAMES.index(f"CAP_{name}") for name in names)


def _fields(status: str) -> dict[str, str]:
    """Of /proc/PID/status."""
    return dict(re.findall(r"^(\w+):\s*(.*)$", status, re.MULTILINE))


def capabilities(status: str) -> dict[str, int]:
    """Masks by their kind."""
    found = _fields(status)
    return {kind: int(found[f"Cap{kind}"], 16) for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")}


def _of_the_host() -> int:
    return int(_fields(Path("/proc/self/status").read_text())["CapBnd"], 16)


def ran(docker: Launcher, *flags: str, script: str) -> str:
    """What a container says on both streams, whatever it ends with."""
    return docker.run("run", "--rm", *flags, "busybox", "sh", "-c", f"exec 2>&1\n{script}").stdout


# Capabilities and seccomp


def test_a_container_and_its_execs_have_docker_s_fourteen_capabilities_and_seccomp(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", "cat /proc/self/status; sleep 1000")

    inside = docker.docker("exec", "one", *_STATUS)
    docker.docker("kill", "one")
    for status in (docker.docker("logs", "one"), inside):
        assert capabilities(status) == {
            **dict.fromkeys(("Prm", "Eff", "Bnd"), _FOURTEEN),
            **dict.fromkeys(("Inh", "Amb"), _NONE),
        }
        assert (_fields(status)["Seccomp"], _fields(status)["NoNewPrivs"]) == ("2", "0")


@pytest.mark.parametrize(
    ("flags", "mask"),
    [
        (("--cap-add", "NET_ADMIN", "--cap-add", "cap_sys_time"), _FOURTEEN | _mask("NET_ADMIN", "SYS_TIME")),
        (("--cap-drop", "CHOWN", "--cap-drop", "net_raw"), _FOURTEEN & ~_mask("CHOWN", "NET_RAW")),
        (("--cap-drop", "ALL", "--cap-add", "NET_BIND_SERVICE"), _mask("NET_BIND_SERVICE")),
        (("--cap-add", "ALL", "--cap-drop", "SYS_ADMIN"), _of_the_host() & ~_mask("SYS_ADMIN")),
    ],
)
def test_capabilities_are_those_asked_for(docker: Launcher, flags: tuple[str, ...], mask: int) -> None:
    found = capabilities(docker.docker("run", "--rm", *flags, "busybox", *_STATUS))

    assert (found["Eff"], found["Bnd"]) == (mask, mask)


def test_what_needs_a_capability_is_done_with_it_only(docker: Launcher) -> None:
    script = "chown 1 /tmp && echo owned; ip link set lo down && echo down"

    assert ran(docker, script=script).splitlines() == [
        *("owned", "ip: SIOCSIFFLAGS: Operation not permitted")
    ]
    assert ran(docker, "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN", script=script).splitlines() == [
        *("chown: /tmp: Operation not permitted", "down")
    ]


@pytest.mark.skipif(
    not set(NAMES) - {name for bit, name in enumerate(NAMES) if _of_the_host() >> bit & 1},
    reason="this host lacks no capability",
)
def test_what_the_host_lacks_is_refused_by_name_and_kept_from_the_privileged_with_a_warning(
    docker: Launcher,
) -> None:
    lacking = [name for bit, name in enumerate(NAMES) if not _of_the_host() >> bit & 1]

    code, error = docker.fails("run", "--rm", "--cap-add", lacking[0], "busybox", "true")
    done = docker.run("run", "--rm", "--privileged", "busybox", "true")

    assert code == 125
    assert (
        "invalid CapAdd: capability not supported by your kernel or not available in the current environment: "
        f'"{lacking[0]}"'
    ) in error
    assert done.returncode == 0
    assert done.stderr.strip() == (
        f"WARNING: This host does not allow {', '.join(lacking)}: the privileged container runs without."
    )


def test_seccomp_refuses_what_docker_s_profile_does_and_nothing_when_unconfined(docker: Launcher) -> None:
    script = "grep Seccomp: /proc/self/status; unshare -U true && echo done"

    assert ran(docker, script=script).splitlines() == [
        *("Seccomp:\t2", "unshare: unshare(0x10000000): Operation not permitted")
    ]
    assert ran(docker, "--security-opt", "seccomp=unconfined", script=script).splitlines() == [
        *("Seccomp:\t0", "done")
    ]


def test_a_profile_of_one_s_own_is_applied(docker: Launcher, tmp_path: Path) -> None:
    call = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]}))

    said = ran(docker, "--security-opt", f"seccomp={profile}", script="mkdir /tmp/made; echo on")

    assert said.splitlines() == ["mkdir: can't create directory '/tmp/made': No space left on device", "on"]


def test_no_new_privileges_can_be_gained_where_that_is_said(docker: Launcher) -> None:
    said = docker.docker("run", "-d", "--name", "one", "--security-opt", "no-new-privileges", *_SLEEPER)

    pid = docker.docker("inspect", "-f", "{{.State.Pid}}", said)
    statuses = (Path(f"/proc/{pid}/status").read_text(), docker.docker("exec", "one", *_STATUS))

    assert [_fields(status)["NoNewPrivs"] for status in statuses] == ["1", "1"]


def test_another_user_has_no_capabilities_yet(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "-u", "app", *_SLEEPER)

    own, root = (docker.docker("exec", *flags, "one", *_STATUS) for flags in ((), ("-u", "root")))

    assert (capabilities(own)["Eff"], capabilities(own)["Bnd"]) == (_NONE, _FOURTEEN)
    assert (_fields(own)["Uid"].split()[0], _fields(root)["Uid"].split()[0]) == ("1000", "0")


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("nosuch", 'Invalid --security-opt: "nosuch"'),
        ("nosuch=x", 'invalid --security-opt 2: "nosuch=x"'),
        ("no-new-privileges=x", 'invalid --security-opt 2: "no-new-privileges=x"'),
        ("seccomp=/nosuch.json", "opening seccomp profile (/nosuch.json) failed"),
    ],
)
def test_an_option_that_there_is_not_is_refused(docker: Launcher, option: str, words: str) -> None:
    code, error = docker.fails("run", "--rm", "--security-opt", option, "busybox", "true")

    assert (code, words in error) == (125, True), error


# Paths


def paths(docker: Launcher, kind: str) -> list[str]:
    """ "MaskedPaths" or "ReadonlyPaths" of a container by default."""
    ident = docker.docker("create", "busybox")
    found: list[str] = json.loads(docker.docker("inspect", ident))[0]["HostConfig"][kind]
    return found


_SIZES = """
for path in {}; do
    if [ -d $path ]; then echo $(ls -A $path | wc -l)
    elif [ -e $path ]; then echo $(head -c 100 $path | wc -c)
    fi
done
"""


def test_paths_that_tell_of_the_host_are_empty(docker: Launcher) -> None:
    script = _SIZES.format(" ".join(paths(docker, "MaskedPaths")))

    masked = ran(docker, script=script).split()
    there = ran(docker, "--security-opt", "systempaths=unconfined", script=script).split()

    assert set(masked) == {"0"}
    assert len(there) == len(masked)
    assert set(there) != {"0"}


def test_paths_that_change_the_host_cannot_be_written(docker: Launcher) -> None:
    known = {path for path in paths(docker, "ReadonlyPaths") if Path(path).exists()}
    writes = ("(: > /proc/sys/kernel/domainname)", "(: > /proc/sys/vm/swappiness)", "mkdir /sys/x")

    said = ran(docker, script=f"mount; {'; '.join(writes)}")

    found = re.findall(r"^\S+ on (\S+) type (\S+) \((ro|rw),", said, re.MULTILINE)
    ways = {path: way for path, _, way in found}
    assert {path: ways.get(path) for path in known} == dict.fromkeys(known, "ro")
    assert {way for _, kind, way in found if kind in ("sysfs", "cgroup", "cgroup2")} == {"ro"}
    refused = [line for line in said.splitlines() if "can't create" in line]
    assert len(refused) == len(writes)
    assert all(line.endswith("Read-only file system") for line in refused)


def test_a_privileged_container_may_do_all_that_the_host_allows(docker: Launcher) -> None:
    said = ran(
        docker,
        "--privileged",
        script="cat /proc/self/status; mount -t tmpfs none /tmp && echo mounted; mkdir /sys/x; ls /dev; mount",
    )

    assert capabilities(said)["Eff"] == _of_the_host()
    assert _fields(said)["Seccomp"] == "0"
    assert "mounted" in said.splitlines()
    assert "mkdir: can't create directory '/sys/x': Operation not permitted" in said
    assert {path.name for path in Path("/dev").iterdir() if path.is_block_device()} <= set(said.split())
    assert re.findall(r"\(ro,.*\)$", said, re.MULTILINE) == []
    assert " on /proc/" not in said


def test_a_read_only_container_writes_to_its_tmpfs_only(docker: Launcher) -> None:
    script = "for f in /x /etc/hosts /etc/resolv.conf /tmp/x /dev/shm/x; do touch $f && echo $f; done"
    docker.docker("run", "-d", "--name", "one", "--read-only", "--tmpfs", "/tmp", *_SLEEPER)

    done = docker.run("exec", "one", "sh", "-c", script)

    assert done.stdout.split() == ["/tmp/x", "/dev/shm/x"]
    assert done.stderr.count("Read-only file system") == 3
    assert docker.run("cp", __file__, "one:/etc/copied").stderr.strip() == (
        "Error response from daemon: container rootfs is marked read-only"
    )


# Execs


def namespaces(process: str) -> dict[str, str]:
    """By their kind, of a process of this machine."""
    place = f"/proc/{process}/ns"
    return {kind: os.readlink(f"{place}/{kind}") for kind in os.listdir(place)}


def entered(docker: Launcher, name: str) -> dict[str, str]:
    """Those that an exec is in."""
    script = "cd /proc/self/ns; for kind in *; do echo $kind $(readlink $kind); done"
    lines = docker.docker("exec", name, "sh", "-c", script).splitlines()
    return {words[0]: words[1] for words in map(str.split, lines)}


def pid(docker: Launcher, name: str) -> str:
    return docker.docker("inspect", "-f", "{{.State.Pid}}", name)


_OWN = frozenset(("mnt", "uts", "ipc", "pid", "pid_for_children", "net"))


@pytest.mark.parametrize(
    ("flags", "own"),
    [
        ((), _OWN),
        (("--cgroupns", "private"), _OWN | {"cgroup"}),
        (("--pid", "host", "--ipc", "host", "--uts", "host", "--network", "host"), {"mnt"}),
        (("--pid", "container:peer", "--ipc", "container:peer", "--network", "container:peer"), _OWN),
    ],
)
def test_an_exec_is_in_every_namespace_of_its_container(
    docker: Launcher, flags: tuple[str, ...], own: frozenset[str]
) -> None:
    docker.docker("run", "-d", "--name", "peer", "--ipc", "shareable", *_SLEEPER)
    docker.docker("run", "-d", "--name", "one", *flags, *_SLEEPER)
    assert docker.process is not None

    found = entered(docker, "one")

    assert found == namespaces(pid(docker, "one"))
    host = namespaces(str(docker.process.pid))
    assert {kind for kind in found if found[kind] != host[kind]} == own
    peer = namespaces(pid(docker, "peer"))
    joined = (
        {flag.removeprefix("--").replace("network", "net") for flag in flags[::2]}
        if "container:peer" in flags
        else set()
    )
    assert {kind for kind in ("pid", "ipc", "net") if found[kind] == peer[kind]} == joined


def test_an_exec_is_root_of_its_container_s_user_namespace(docker: Launcher) -> None:
    docker.place.chmod(0o711)
    body = {"Image": "busybox", "Cmd": ["sleep", "1000"], "HostConfig": {"UsernsMode": "private"}}
    Api(docker.socket).run("one", body)
    assert docker.process is not None

    found = entered(docker, "one")

    assert found == namespaces(pid(docker, "one"))
    host = namespaces(str(docker.process.pid))
    assert {kind for kind in found if found[kind] != host[kind]} >= _OWN | {"user"}
    inside = docker.docker("exec", "one", "sh", "-c", "id -u; cat /proc/self/uid_map").split()
    assert (inside[:2], inside[2] != "0") == (["0", "0"], True)


def test_an_exec_is_in_its_container_s_cgroups(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "--name", "one", *_SLEEPER)

    found = docker.docker("exec", "one", "cat", "/proc/self/cgroup")

    assert found == Path(f"/proc/{pid(docker, 'one')}/cgroup").read_text().strip()
    assert all(line.endswith(ident) for line in found.splitlines())


def test_a_privileged_exec_has_all_that_the_host_allows(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)

    status = docker.docker("exec", "--privileged", "one", *_STATUS)

    assert capabilities(status)["Eff"] == _of_the_host()


_HINT = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("one", "/nosuch"), 127, 'exec: "/nosuch": stat /nosuch: no such file or directory: unknown'),
        (("one", "/etc"), 126, 'exec: "/etc": permission denied: unknown'),
        (("one", "/etc/passwd/x"), 127, f"stat /etc/passwd/x: not a directory: unknown{_HINT}"),
        (("-w", "/nosuch", "one", "pwd"), 127, 'chdir to cwd ("/nosuch") set in config.json failed'),
    ],
)
def test_an_exec_that_cannot_be_ends_as_docker_s_does(
    docker: Launcher, arguments: tuple[str, ...], code: int, words: str
) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)

    done = docker.run("exec", *arguments)

    assert (done.returncode, words in done.stdout) == (code, True), done


def test_a_detached_exec_that_cannot_be_is_a_bad_request(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    asked: Any = ask(docker.socket, "POST", "/containers/one/exec", {"Cmd": ["/nosuch"]}).body

    answer = ask(docker.socket, "POST", f"/exec/{asked['Id']}/start", {"Detach": True})

    assert (answer.status, "OCI runtime exec failed" in answer.message) == (400, True)
