"""What dockerd asks for happens whole or not at all, and can be asked for again, whatever step fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.unit.plugin_stage import (
    ENDPOINT,
    KEY,
    NETWORK,
    OTHER_ENDPOINT,
    OTHER_KEY,
    PORT_MAP,
    PluginStage,
    dual_endpoint,
    joining,
    make_namespace,
    network,
    port,
)
from tests.unit.verbs_stage import free_port, is_held

Step = Callable[[PluginStage], object]

BY_HALVES = ("kernel.apply", "kernel.remove")
"""Steps that may fail when some of it, or all, is done."""
FIRST, SECOND = free_port(), free_port()
IDS = {"NetworkID": NETWORK, "EndpointID": ENDPOINT}


@dataclass(frozen=True)
class Case:
    """A call, and what was called before it."""

    method: str
    body: dict[str, object]
    before: tuple[Step, ...] = ()
    in_parts: bool = False
    """It is made of several, each of which may stand: what dockerd brings back goes before its endpoint."""
    direct: bool = False


def created(stage: PluginStage) -> None:
    stage.create_network(ipv6=True)
    stage.say("CreateEndpoint", **dual_endpoint())


def joined(stage: PluginStage) -> None:
    created(stage)
    make_namespace(stage, KEY)
    stage.join()


def published(stage: PluginStage) -> None:
    joined(stage)
    stage.program(port(80, FIRST))


def routed(stage: PluginStage) -> None:
    mode = {"com.docker.network.bridge.gateway_mode_ipv4": "routed"}
    stage.create_network(options=mode)
    stage.create_endpoint()


def pooled(stage: PluginStage) -> None:
    pool = stage.say("RequestPool", AddressSpace="LocalDefault", Pool="10.66.0.0/24")
    stage.say("RequestAddress", PoolID=pool["PoolID"], Address="10.66.0.9")


POOL_ID = "LocalDefault/10.66.0.0/24"
PROGRAMMED = {**IDS, "Options": {PORT_MAP: [port(80, FIRST), port(53, SECOND, Proto=17)]}}
CASES = {
    "CreateNetwork": Case("CreateNetwork", network(ipv6=True)),
    "CreateNetwork of an internal one": Case("CreateNetwork", network(internal=True)),
    "DeleteNetwork": Case("DeleteNetwork", {"NetworkID": NETWORK}, (lambda s: s.create_network(),)),
    "DeleteNetwork with a joined endpoint": Case(
        "DeleteNetwork", {"NetworkID": NETWORK}, (published,), in_parts=True
    ),
    "CreateEndpoint": Case("CreateEndpoint", dual_endpoint(), (lambda s: s.create_network(ipv6=True),)),
    "CreateEndpoint with a forgotten one's address": Case(
        "CreateEndpoint", dual_endpoint(OTHER_ENDPOINT), (created,), in_parts=True
    ),
    "DeleteEndpoint": Case("DeleteEndpoint", IDS, (created,)),
    "DeleteEndpoint after Leave": Case(
        "DeleteEndpoint", IDS, (joined, lambda s: s.tell("Leave")), in_parts=True
    ),
    "DeleteEndpoint without Leave": Case("DeleteEndpoint", IDS, (published,), in_parts=True),
    "Join": Case("Join", joining(), (created,)),
    "Join where the namespace is": Case("Join", joining(), (created, lambda s: make_namespace(s, KEY))),
    "Join inside": Case("Join", joining(), (created, lambda s: make_namespace(s, KEY)), direct=True),
    "Join with ports that need no host port": Case("Join", joining(ports=(port(80),)), (routed,)),
    "Join elsewhere": Case("Join", joining(key=OTHER_KEY), (published,), in_parts=True),
    "Leave": Case("Leave", IDS, (published,)),
    "Leave from inside": Case("Leave", IDS, (published,), direct=True),
    "ProgramExternalConnectivity": Case("ProgramExternalConnectivity", PROGRAMMED, (joined,)),
    "ProgramExternalConnectivity with other ports": Case(
        "ProgramExternalConnectivity", PROGRAMMED, (published,), in_parts=True
    ),
    "RevokeExternalConnectivity": Case("RevokeExternalConnectivity", IDS, (published,)),
    "RequestPool": Case("RequestPool", {"AddressSpace": "LocalDefault", "Pool": "10.66.0.0/24"}),
    "RequestPool of our choice": Case("RequestPool", {"AddressSpace": "LocalDefault"}),
    "ReleasePool": Case("ReleasePool", {"PoolID": POOL_ID}, (pooled,)),
    "RequestAddress": Case("RequestAddress", {"PoolID": POOL_ID}, (pooled,)),
    "ReleaseAddress": Case("ReleaseAddress", {"PoolID": POOL_ID, "Address": "10.66.0.9"}, (pooled,)),
}


@contextmanager
def staged(case: Case) -> Iterator[PluginStage]:
    with TemporaryDirectory() as place:
        stage = PluginStage(Path(place))
        stage.direct_is_safe = case.direct
        for step in case.before:
            step(stage)
        stage.faults.reset()
        try:
            yield stage
        finally:
            stage.end()


def outcome(stage: PluginStage) -> object:
    """What a call leaves behind, without what is by chance or told by events; the same after the next start."""
    stage.restart()
    controller = stage.controller
    return (
        sorted((n.name, n.state, n.pools) for n in controller.networks()),
        [(s.name, s.state) for s in controller.sandboxes()],
        sorted(
            (e.name, e.state, e.ipv4, e.ipv6, e.mac, e.ifname, e.ports, e.moved, bool(e.sandbox_id))
            for e in controller.endpoints()
        ),
        {name: len(values) for name, values in stage.picture().items() if name != "events"},
        ports_held(),
        sorted(stage.leased()),
        controller.doctor(),
    )


def ports_held() -> list[bool]:
    return [is_held(FIRST), is_held(SECOND)]


@pytest.mark.parametrize("name", CASES)
def test_a_call_with_a_fault_at_any_step_happens_whole_or_not_at_all_and_again(name: str) -> None:
    case = CASES[name]
    with staged(case) as stage:
        stage.say(case.method, **case.body)
        steps = list(stage.faults.calls)
        wanted = outcome(stage)
    assert steps

    for at in range(len(steps)):
        for after in (False, True) if steps[at] in BY_HALVES else (False,):
            with staged(case) as stage:
                before, ports_before = stage.picture(), ports_held()
                stage.faults.reset(at, after=after)
                failed = stage.call(case.method, **case.body).status != 200
                stage.faults.reset()
                where = (steps[at], at, after)
                if failed and not case.in_parts:
                    assert stage.picture() == before, where
                    assert ports_held() == ports_before, where
                assert stage.controller.doctor() == [], where
                stage.say(case.method, **case.body)
                assert outcome(stage) == wanted, where


@pytest.mark.parametrize("name", CASES)
def test_the_same_call_again_changes_nothing(name: str) -> None:
    case = CASES[name]
    with staged(case) as stage:
        first = stage.say(case.method, **case.body)
        wanted = stage.picture()

        again = stage.call(case.method, **case.body)

        if not chooses(case):
            assert again.document == first
            assert stage.picture() == wanted


def chooses(case: Case) -> bool:
    """What has no answer of its own: a second pool or address of our choice is another one."""
    return case.method == "RequestAddress" or case.body == {"AddressSpace": "LocalDefault"}
