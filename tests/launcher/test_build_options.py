"""Options of `docker build` that say how its steps run, and what for: what they do beside a real dockerd 20.10."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.building import Project
from tests.support.dockerd import PROGRAMS, make_image, start_dockerd
from tests.support.engine_pair import Pair, ask
from tests.support.image_store import tar, text
from tests.support.launcher import IMAGE, Launcher, remove_cgroups
from tests.support.unpacked import environment, lacking, program

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))

_FILES = ("cpu/cpu.shares", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us", "cpuset/cpuset.cpus")
_MORE = ("cpuset/cpuset.mems", "memory/memory.limit_in_bytes", "memory/memory.memsw.limit_in_bytes")
_LOOK = "; ".join(
    (
        "df -k /dev/shm | tail -1",
        *(f"echo {name} $(cat /sys/fs/cgroup/{name})" for name in (*_FILES, *_MORE)),
        "ulimit -c",
        "grep :cpu: /proc/self/cgroup",
    )
)
_OWN = re.compile(r"/(build-)?[0-9a-f]{64}$", re.MULTILINE)
_OF_BUILDS = ("Sending build", "Step ", " --->", "Removing intermediate", "Successfully ")
_PARENT = f"cnm-test-options-{os.getpid()}"


@pytest.fixture(scope="module")
def pair(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both with the image busybox."""
    state: Path = tmp_path_factory.mktemp("d")
    with start_dockerd(state, "--iptables=false", "--bridge=none") as dockerd:
        make_image(dockerd)
        yield Pair(launcher.socket, str(dockerd.socket))
    remove_cgroups(f"{_PARENT}/below")
    remove_cgroups(_PARENT)


def _built(socket: str, project: Project, *options: str) -> tuple[int, str]:
    """The exit code, and what the steps say, or what is wrong."""
    command = [str(program("docker")), "-H", f"unix://{socket}", "build", "--no-cache", *options, "."]
    done = subprocess.run(
        command,
        cwd=project.place,
        env={**environment(), "DOCKER_BUILDKIT": "0"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stdout.splitlines() if line and not line.startswith(_OF_BUILDS)]
    error = done.stderr.strip().removeprefix("Error response from daemon: ")
    return done.returncode, error or _OWN.sub("/<own>", "\n".join(said))


def _shown(options: Sequence[str]) -> str:
    """The same in each of the processes that share a run out among them."""
    return " ".join(options).replace(_PARENT, "parent")


ACCEPTED = [
    ("--shm-size", "128m"),
    ("--shm-size", "1"),
    ("--cgroup-parent", f"/{_PARENT}/below"),
    ("--cpu-shares", "512"),
    ("--cpu-quota", "50000"),
    ("--cpu-quota", "50000", "--cpu-period", "200000"),
    ("--cpu-period", "200000"),
    ("--cpuset-cpus", "0"),
    ("--cpuset-mems", "0"),
    ("--memory", "64m"),
    ("--memory", "64m", "--memory-swap", "128m"),
    ("--memory", "64m", "--memory-swap", "-1"),
    ("--ulimit", "core=5"),
    ("--platform", "linux/amd64"),
    ("--platform", "linux/arm64"),
    ("--platform", "windows/amd64"),
    ("--cache-from", "busybox"),
    ("--cache-from", "nosuch:1"),
    ("--isolation", "default"),
    ("--compress",),
    ("--rm=false",),
]


@pytest.mark.parametrize("options", ACCEPTED, ids=_shown)
def test_a_step_runs_as_with_dockerd(pair: Pair, project: Project, options: tuple[str, ...]) -> None:
    """A base that is there is taken, whatever machine is asked for, and no image need be there to look for steps in."""
    project.write(f"FROM {IMAGE}\nRUN {_LOOK}\n")

    ours, theirs = (_built(socket, project, *options) for socket in pair)

    assert ours[0] == 0
    assert _without_parent(ours[1], options) == _without_parent(theirs[1], options)


def _without_parent(said: str, options: tuple[str, ...]) -> str:
    """Each has another one where none is asked for."""
    return said if "--cgroup-parent" in options else said.rpartition("\n")[0]


REFUSED = [
    ("--cpu-quota", "1"),
    ("--cpu-period", "1"),
    ("--cpuset-cpus", "99"),
    ("--cpuset-cpus", "x"),
    ("--cpuset-mems", "9"),
    ("--memory", "1m"),
    ("--memory-swap", "64m"),
    ("--platform", "nope"),
    ("--platform", "a/b/c/d"),
    ("--platform", "linux/*"),
    ("--platform", "linux/"),
    ("--isolation", "hyperv"),
    ("--security-opt", "seccomp=unconfined"),
    ("--ulimit", "nope=1"),
    ("--shm-size", "-1"),
]


@pytest.mark.parametrize("options", REFUSED, ids=" ".join)
def test_what_is_wrong_is_told_in_dockerd_s_words(
    pair: Pair, project: Project, options: tuple[str, ...]
) -> None:
    """Where Docker finds it when it comes to the step, it is told before anything is done."""
    project.write(f"FROM {IMAGE}\nRUN true\n")

    ours, theirs = (_built(socket, project, *options) for socket in pair)

    assert ours == theirs
    assert ours[0] != 0


def test_fewer_cpu_shares_than_there_may_be_are_told_by_the_runtime(pair: Pair, project: Project) -> None:
    project.write(f"FROM {IMAGE}\nRUN true\n")

    ours, theirs = (_built(socket, project, "--cpu-shares", "1") for socket in pair)

    assert ours[0] == theirs[0] == 1
    assert theirs[1].endswith(ours[1])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("shmsize=-5", "SHM size can not be less than 0"),
        ("memory=many", "invalid value for memory: 'many': it must be a number"),
        (f"cpuquota={'9' * 50}", f"invalid value for cpuquota: '{'9' * 50}': it must be a number"),
        ("cpushares=-1", "invalid CPU shares (-1): value must be a positive integer"),
    ],
)
def test_limits_that_no_client_sends_are_the_client_s_fault(pair: Pair, query: str, said: str) -> None:
    archive = tar(text("Dockerfile", f"FROM {IMAGE}\nRUN true\n"))

    answer = ask(pair.ours, "POST", f"/v1.41/build?{query}", archive, {"Content-Type": "application/x-tar"})

    assert (answer.status, answer.message) == (400, said)


def test_limits_are_looked_at_though_no_step_runs(pair: Pair, project: Project) -> None:
    """dockerd makes containers of other steps, too."""
    project.write(f"FROM {IMAGE}\nENV A=1\n")

    ours, theirs = (_built(socket, project, "--cpu-quota", "1") for socket in pair)

    assert ours == theirs
    assert ours[0] == 1


def test_a_platform_of_a_stage_is_that_of_what_has_to_be_fetched(pair: Pair, project: Project) -> None:
    """A base that is there is taken."""
    project.write(f"FROM --platform=linux/arm64 {IMAGE}\nRUN echo runs\n")

    ours, theirs = (_built(socket, project) for socket in pair)

    assert ours == theirs == (0, "runs")


def test_an_image_of_nothing_is_for_the_platform_that_is_asked_for(pair: Pair, project: Project) -> None:
    project.write("FROM scratch\nCOPY Dockerfile /\n")
    form = ("image", "inspect", "-f", "{{.Os}}/{{.Architecture}}", "made")
    found = []
    for socket in pair:
        assert _built(socket, project, "--platform", "linux/arm64", "-t", "made")[0] == 0
        docker = [str(program("docker")), "-H", f"unix://{socket}"]
        done = subprocess.run([*docker, *form], env=environment(), capture_output=True, text=True, check=True)
        found.append(done.stdout.strip())
        subprocess.run([*docker, "rmi", "made"], env=environment(), capture_output=True, check=True)

    assert found[0] == found[1]
