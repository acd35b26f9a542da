"""How many system calls a verb takes on the thread of its request, and how often the disk is waited for.

Each number is what the verb takes today; one that grows has to be meant. Calls that only wait or ask for the time are
not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Topology
from tests.support import strace
from tests.support.cnmd import Cnmd, running
from tests.support.daemon_starts import from_nothing

Cost = Callable[..., Counter[str]]

pytestmark = [
    pytest.mark.topology({"hosts": {"host": {}}}),
    pytest.mark.skipif(bool(strace.missing()), reason=strace.missing()),
]

PROCESSES = frozenset({"clone", "clone3", "execve", "fork", "vfork"})
SYNCS = frozenset({"fdatasync", "fsync"})
COUNTED = SYNCS | {
    *("bind", "ioctl", "mount", "openat", "pwrite64", "recvfrom", "sendmsg", "sendto", "setns", "setsockopt"),
    *("socket", "umount2", "unlink", "unshare", "write"),
}
AWAITING_ADDRESSES = {"recvfrom": 1000, "sendto": 1000}
"""The kernel is asked for new IPv6 addresses until it takes them for its own: how often is a matter of chance."""
FOLLOWED = Counter(ioctl=1, openat=4, pwrite64=2, setns=2)
"""The sandbox is asked whether it has IPv6; its hosts and resolv.conf are read and written."""
NAMED = Counter(bind=3, ioctl=1, openat=1, recvfrom=1, sendmsg=2, sendto=2, setns=2, setsockopt=8, socket=3)
"""Sockets of its name server, which are handed to the resolver; it is told who is called what, and answers twice."""
UNNAMED = Counter(
    bind=1, clone3=1, ioctl=1, openat=1, recvfrom=1, sendmsg=2, sendto=1, setns=2, setsockopt=4, socket=1
)
"""The resolver is told; the table that led to the sockets goes, whose freeing a thread waits for."""
ONE_PORT = {"Ports": [{"ContainerPort": 81, "HostPort": 8081}]}
MANY_PORTS = {
    "Ports": [{"ContainerPort": 1000, "ContainerPortEnd": 1999, "HostPort": 20000, "HostPortEnd": 20999}]
}


@pytest.fixture(scope="module")
def daemon(module_topology: Topology, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cnmd]:
    """A daemon that has done each verb once, so that nothing is counted which happens only the first time."""
    with running(tmp_path_factory.mktemp("cnmd"), from_nothing(module_topology.host.popen)) as daemon:
        daemon.create_network("net")
        daemon.create_network("dual", EnableIPv6=True)
        daemon.create_sandbox("other")
        daemon.connect("net", "other", Ports=[{"ContainerPort": 80, "HostPort": 8079}])
        daemon.ask("POST", "/networks/net/disconnect", {"Container": "other"})
        daemon.connect("dual", "other", Ports=[{"ContainerPort": 80, "HostPort": 8079}])
        yield daemon


@pytest.fixture
def box(daemon: Cnmd) -> Iterator[str]:
    """A new sandbox."""
    name = f"box{next(_numbers)}"
    daemon.create_sandbox(name)
    yield name
    daemon.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")


@pytest.fixture
def endpoint(daemon: Cnmd, box: str) -> str:
    """The path of a joined endpoint's ports; its name is that of its sandbox."""
    daemon.connect("net", box)
    return f"/cnm/v1/endpoints/net%2F{box}/ports"


_numbers = count()


@pytest.fixture
def cost(daemon: Cnmd, tmp_path: Path) -> Cost:
    """A function that makes one request, and returns the calls of its thread and the syncs of all threads."""

    def cost(method: str, path: str, body: Any = None) -> Counter[str]:
        assert daemon.process is not None
        with strace.traced(daemon.process.pid, tmp_path / "trace", COUNTED | PROCESSES) as trace:
            daemon.ask(method, path, body)
        calls = trace.calls_between(f'"{method} {path}'[:_SHOWN], '"HTTP/1.1 2')
        return calls | Counter({name: number for name, number in trace.calls().items() if name in SYNCS})

    return cost


_SHOWN = 32
"""Characters of a string that strace writes."""


def assert_within(calls: Counter[str], **limits: int) -> None:
    """None happens oftener than `limits` say, and what they do not name, never: no process is ever started.

    On a busy machine the request may be looked for once before it is there, which is one `recvfrom` more.
    """
    allowed = Counter(limits) + Counter(recvfrom=1)
    exceeded = {name: number for name, number in calls.items() if number > allowed[name]}
    assert not exceeded, f"{exceeded} of {dict(calls)}"


@pytest.mark.parametrize(
    ("network", "more"), [("net", {}), ("dual", {"write": 1, **AWAITING_ADDRESSES})], ids=["ipv4", "dual"]
)
def test_attach_with_one_port(cost: Cost, box: str, network: str, more: dict[str, int]) -> None:
    port = {"ContainerPort": 80, "HostPort": 8080}
    calls = cost(
        "POST", f"/networks/{network}/connect", {"Container": box, "EndpointConfig": {"Ports": [port]}}
    )

    limits = {
        **{"bind": 2, "ioctl": 4, "openat": 3, "pwrite64": 5, "recvfrom": 9, "sendto": 7},
        **{"setns": 2, "setsockopt": 4, "socket": 4},
    }
    assert_within(calls, **(FOLLOWED + NAMED + Counter(limits | more)))


def test_detach(cost: Cost, box: str, endpoint: str) -> None:
    calls = cost("POST", "/networks/net/disconnect", {"Container": box})

    limits = {
        **{"bind": 1, "ioctl": 2, "openat": 1, "pwrite64": 4, "recvfrom": 6, "sendto": 6},
        **{"setns": 2, "setsockopt": 3, "socket": 2},
    }
    assert_within(calls, **(FOLLOWED + UNNAMED + Counter(limits)))


def test_publish_one_port(cost: Cost, endpoint: str) -> None:
    calls = cost("POST", endpoint, ONE_PORT)

    assert_within(calls, bind=1, pwrite64=2, recvfrom=1, sendto=2, setsockopt=1, socket=1)


def test_a_thousand_ports_are_one_transaction(cost: Cost, endpoint: str) -> None:
    calls = cost("POST", endpoint, MANY_PORTS)

    assert_within(calls, bind=1000, pwrite64=2, recvfrom=1, sendto=2, setsockopt=1000, socket=1000)


@pytest.mark.parametrize("ports", [ONE_PORT, MANY_PORTS], ids=["one", "a thousand"])
def test_unpublish(daemon: Cnmd, cost: Cost, endpoint: str, ports: Any) -> None:
    daemon.ask("POST", endpoint, ports)

    calls = cost("DELETE", endpoint, ports)

    assert_within(calls, pwrite64=2, recvfrom=3, sendto=3)


@pytest.mark.parametrize(("ipv6", "more"), [(False, {}), (True, AWAITING_ADDRESSES)], ids=["ipv4", "dual"])
def test_network_create_waits_for_the_disk_once(
    daemon: Cnmd, cost: Cost, ipv6: bool, more: dict[str, int]
) -> None:
    calls = cost("POST", "/networks/create", {"Name": "new", "EnableIPv6": ipv6})
    daemon.ask("DELETE", "/networks/new")

    limits = {
        **{"fdatasync": 1, "ioctl": 2, "openat": 9, "pwrite64": 4, "recvfrom": 10, "sendto": 7},
        **{"socket": 1, "write": 4},
    }
    assert_within(calls, **(limits | more))


def test_network_delete_waits_for_the_disk_once(daemon: Cnmd, cost: Cost) -> None:
    daemon.create_network("old")

    calls = cost("DELETE", "/networks/old")

    assert_within(calls, fdatasync=1, pwrite64=4, recvfrom=3, sendto=4)


def test_sandbox_create_waits_for_the_disk_once(daemon: Cnmd, cost: Cost) -> None:
    calls = cost("POST", "/cnm/v1/sandboxes", {"Name": "new"})
    daemon.ask("DELETE", "/cnm/v1/sandboxes/new")

    limits = {
        **{"bind": 1, "fdatasync": 1, "ioctl": 1, "mount": 1, "openat": 9, "pwrite64": 8, "recvfrom": 1},
        **{"sendto": 2, "setns": 3, "setsockopt": 3, "socket": 1, "unshare": 1, "write": 1},
    }
    assert_within(calls, **limits)


def test_sandbox_delete_waits_for_the_disk_once(daemon: Cnmd, cost: Cost) -> None:
    daemon.create_sandbox("old")

    calls = cost("DELETE", "/cnm/v1/sandboxes/old")

    assert_within(calls, fdatasync=1, openat=1, pwrite64=4, sendto=1, umount2=1, unlink=1)


@pytest.mark.parametrize(
    "path", ["/_ping", "/networks", "/cnm/v1/endpoints", "/cnm/v1/sandboxes", "/cnm/v1/health"]
)
def test_reading_asks_nothing_of_the_kernel(cost: Cost, path: str) -> None:
    assert_within(cost("GET", path), sendto=1)
