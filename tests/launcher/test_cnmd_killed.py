"""cnmd killed before, during and after each request of a verb: what is told, what is left, and the next try."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from netns_fixtures import Topology
from tests.support import launcher as lab
from tests.support.cnmd import Cnmd
from tests.support.cnmd_proxy import CnmdProxy, When
from tests.support.launcher import Launcher
from tests.support.launcher_left import left
from tests.support.small_containers import eventually
from tests.support.thorough import THOROUGH
from tests.support.unpacked import lacking

Command = tuple[str, ...]

_SLEEPER = ("busybox", "sleep", "1000")
_MADE = (
    "create",
    "--name",
    "one",
    "-p",
    "8080:80",
    "--network",
    "front",
    "--network-alias",
    "web",
    *_SLEEPER,
)
_RUNNING = (_MADE, ("start", "one"))
_ADDRESS = "10.99.0.77"
_FIXED = ("create", "--name", "one", "--network", "fixed", "--ip", _ADDRESS, *_SLEEPER)
_AWAY = "cannot connect to cnmd at unix://"


class Case(NamedTuple):
    """A command of the docker CLI about the container `one`, which is brought to a state first."""

    command: Command
    before: tuple[Command, ...]
    afterwards: frozenset[str]
    """States that are right when cnmd is there again; "" for a container that is not there."""
    done: str
    """The state after the command, which is given again."""
    done_before: str = ""
    """What the next try may say where the first was done in spite of what was told."""
    networks: frozenset[str] = frozenset({"front"})
    """After it is done."""


CASES = {
    "create": Case(_MADE, (), frozenset({"", "created"}), "created", "is already in use by container"),
    "start": Case(("start", "one"), (_MADE,), frozenset({"created"}), "running"),
    "start linked": Case(
        ("start", "one"),
        (
            ("run", "-d", "--name", "peer", *_SLEEPER),
            ("create", "--name", "one", "--link", "peer:db", *_SLEEPER),
        ),
        frozenset({"created", "running"}),
        "running",
        networks=frozenset({"bridge"}),
    ),
    "start at an address": Case(
        ("start", "one"), (_FIXED,), frozenset({"created"}), "running", networks=frozenset({"fixed"})
    ),
    "run --rm": Case(
        ("run", "-d", "--rm", *_MADE[1:]),
        (),
        frozenset({"", "created"}),
        "running",
        "is already in use by container",
    ),
    "start again": Case(("start", "one"), (*_RUNNING, ("kill", "one")), frozenset({"exited"}), "running"),
    "stop": Case(("stop", "-t", "0", "one"), _RUNNING, frozenset({"exited"}), "exited"),
    "kill": Case(("kill", "one"), _RUNNING, frozenset({"exited"}), "exited", "is not running"),
    "end of --rm": Case(
        ("kill", "one"),
        (("run", "-d", "--rm", *_MADE[1:]),),
        frozenset({""}),
        "",
        "No such container",
    ),
    "restart": Case(("restart", "-t", "0", "one"), _RUNNING, frozenset({"exited", "running"}), "running"),
    "rm -f": Case(("rm", "-f", "one"), _RUNNING, frozenset({""}), "", "No such container"),
    "rename": Case(
        ("rename", "one", "two"), _RUNNING, frozenset({"running"}), "running", "No such container"
    ),
    "connect": Case(
        ("network", "connect", "--alias", "deep", "back", "one"),
        _RUNNING,
        frozenset({"running"}),
        "running",
        "already exists in network back",
        frozenset({"front", "back"}),
    ),
    "disconnect": Case(
        ("network", "disconnect", "front", "one"),
        _RUNNING,
        frozenset({"running"}),
        "running",
        "is not connected to network front",
        frozenset(),
    ),
}


class Lab(NamedTuple):
    docker: Launcher
    proxy: CnmdProxy


@pytest.fixture(scope="module")
def lab_() -> Iterator[Lab]:
    """A launcher whose run directory is its own, and has a proxy where cnmd's socket would be."""
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        Topology({"hosts": {"host": {}}}) as topology,
    ):
        cnmd = Cnmd(Path(folder), popen=topology.hosts["host"].popen)
        cnmd.start()
        docker = Launcher(cnmd, popen=topology.hosts["host"].popen, run_name="l")
        proxy = CnmdProxy(docker.run_dir / "cnm.sock", cnmd.socket, cnmd.kill)
        try:
            docker.start()
            docker.import_busybox()
            cnmd.create_network("front")
            cnmd.create_network("back")
            cnmd.create_network("fixed", IPAM={"Config": [{"Subnet": "10.99.0.0/24"}]})
            yield Lab(docker, proxy)
        finally:
            docker.clear()
            docker.stop()
            proxy.close()
            cnmd.stop()
            lab.remove_cgroups(docker.cgroup)


@pytest.fixture
def clean(lab_: Lab) -> Iterator[Lab]:
    """Without containers before and after, also where a test fails."""
    yield lab_
    lab_.proxy.disarm()
    if lab_.docker.cnmd.process is None:
        lab_.docker.cnmd.start()
    lab_.docker.clear()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_cnmd_is_killed_within(clean: Lab, name: str) -> None:
    case = CASES[name]
    count = len(_play(clean, case, -1, When.BEFORE))
    assert count > 0

    for at, when in _chosen(name, count):
        _play(clean, case, at, when)


def _chosen(name: str, count: int) -> list[tuple[int, When]]:
    if THOROUGH:
        return [(at, when) for at in range(count) for when in When]
    number = list(CASES).index(name)
    return [(number % count, list(When)[number % len(When)])]


def _play(lab_: Lab, case: Case, at: int, when: When) -> list[str]:
    """Kill cnmd there, look, start it, give the command again, remove: nothing is left. The answer is the requests."""
    docker, proxy = lab_
    for command in case.before:
        docker.docker(*command)
    proxy.arm(at, when)
    done = docker.run(*case.command)
    proxy.disarm()
    requests = proxy.requests
    where = f"{' '.join(case.command)}: cnmd killed {when.value} {requests[at]} ({at} of {requests})"
    print(where, done.returncode, done.stderr.strip())
    if at == -1:
        assert done.returncode == 0, done.stderr
    else:
        assert proxy.has_killed, where
        assert done.returncode == 0 or _AWAY in done.stderr, f"{where}: {done.stderr}"
        assert "Traceback" not in docker.log
        docker.cnmd.start()
        _come_to_rest(docker, case, where)
        again = docker.run(*case.command)
        assert again.returncode == 0 or (case.done_before and case.done_before in again.stderr), (
            f"{where}: again: {again.stderr}\n{docker.log[-3000:]}"
        )
    _is_done(docker, case, where)
    docker.clear()
    eventually(lambda: left(docker) == [])
    return requests


def _come_to_rest(docker: Launcher, case: Case, where: str) -> None:
    """Whatever could not be done without cnmd is done now that it is back: cnmd and launcher agree, and are right."""
    try:
        eventually(lambda: _joined(docker) == _shown(docker) and _state(docker) in case.afterwards)
    except AssertionError:
        seen = f"{_joined(docker)} {_shown(docker)} {_state(docker)}"
        raise AssertionError(f"{where}: {seen}\n{docker.log[-3000:]}") from None
    assert docker.cnmd.findings() == [], where
    if not _running(docker):
        assert [text for text in left(docker) if not text.startswith("file ")] == [], where


def _is_done(docker: Launcher, case: Case, where: str) -> None:
    eventually(lambda: _state(docker) == case.done)  # what removes itself does so behind the answer
    assert _joined(docker) == _shown(docker), where
    if case.done == "running":
        name = "two" if case.command[0] == "rename" else "one"
        networks = _networks(docker, name)
        assert set(networks) == case.networks, where
        assert all(each["IPAddress"] for each in networks.values()), where
        if "--network-alias" in (case.before or (case.command,))[0] and "front" in case.networks:
            assert "web" in networks["front"]["Aliases"], where
        if "back" in case.networks:
            assert "deep" in networks["back"]["Aliases"], where
        if "fixed" in case.networks:
            assert _addresses(docker) == {_ADDRESS}, where


def _addresses(docker: Launcher) -> set[str]:
    """Of `one` on the network `fixed`: what it has, and what it is to have."""
    found = _networks(docker, "one")["fixed"]
    return {found["IPAddress"], (found["IPAMConfig"] or {}).get("IPv4Address", "")}


@pytest.mark.parametrize("when", When)
def test_who_is_connected_at_an_address_has_it_for_good_though_the_answer_is_lost(
    clean: Lab, when: When
) -> None:
    docker, proxy = clean
    docker.docker("run", "-d", "--name", "one", *_SLEEPER)
    connect = ("network", "connect", "--ip", _ADDRESS, "fixed", "one")
    proxy.arm(1, when)
    assert _AWAY in docker.fails(*connect)[1]
    assert proxy.requests[1] == "POST /networks/fixed/connect"
    proxy.disarm()

    docker.cnmd.start()
    eventually(lambda: _joined(docker) == _shown(docker))
    if "fixed" not in _networks(docker, "one"):
        docker.docker(*connect)
    docker.docker("restart", "-t", "0", "one")

    assert _addresses(docker) == {_ADDRESS}
    assert set(_networks(docker, "one")) == {"bridge", "fixed"}


def _joined(docker: Launcher) -> dict[str, set[str]]:
    """Networks by the names of sandboxes."""
    found = docker.cnmd.ask("GET", "/cnm/v1/sandboxes")
    return {each["Name"]: {endpoint["Network"] for endpoint in each["Endpoints"]} for each in found}


def _shown(docker: Launcher) -> dict[str, set[str]]:
    """The same of containers that run."""
    return {name: set(_networks(docker, name)) for name in _running(docker)}


def _networks(docker: Launcher, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker.docker("inspect", name))[0]["NetworkSettings"]["Networks"]
    return found


def _running(docker: Launcher) -> set[str]:
    return set(docker.docker("ps", "--format", "{{.Names}}").split())


def _state(docker: Launcher) -> str:
    """Of the container `one`, or as it is called after it; "" where it is not there."""
    states = dict(
        line.split() for line in docker.docker("ps", "-a", "--format", "{{.Names}} {{.State}}").splitlines()
    )
    states.pop("peer", None)
    assert len(states) <= 1
    return next(iter(states.values()), "")
