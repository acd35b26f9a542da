"""A verb happens whole or not at all: each step of each verb fails once, and everything is as it was before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cnm.endpoint import EndpointRequest, Protocol
from cnm.errors import CnmError
from cnm.network import IpamConfig
from tests.unit.verbs_stage import Stage, free_port, is_held, tcp

Step = Callable[[Stage], object]


@dataclass(frozen=True)
class Case:
    """A verb, and what exists before it."""

    verb: Step
    setup: tuple[Step, ...] = ()
    in_parts: bool = False
    """The first of its parts is a verb of its own, whose outcome may stand."""


def network(name: str, **request: Any) -> Step:
    return lambda stage: stage.network(name, **request)


def sandbox(name: str) -> Step:
    return lambda stage: stage.sandbox(name)


def connect(net: str, box: str, **request: Any) -> Step:
    return lambda stage: stage.controller.connect(net, box, EndpointRequest(**request))


def endpoint(net: str, name: str, **request: Any) -> Step:
    return lambda stage: stage.controller.create_endpoint(net, EndpointRequest(name=name, **request))


BY_HALVES = ("kernel.apply", "kernel.remove")
"""Steps that may fail when some of it, or all, is done."""
A_PORT, ANOTHER = free_port(), free_port()
ASKED = (tcp(80, A_PORT), tcp(53, ANOTHER, protocol=Protocol.UDP))
GIVEN = IpamConfig(subnet="10.1.0.0/24", gateway="10.1.0.1", aux_addresses={"printer": "10.1.0.9"})
BOX = (network("web", enable_ipv6=True), network("db"), sandbox("box"))

CASES = {
    "create the first network": Case(network("new", enable_ipv6=True)),
    "create another network": Case(network("new", ipam_config=(GIVEN,)), BOX),
    "create an internal network": Case(network("new", internal=True), BOX),
    "delete the last network": Case(lambda s: s.controller.delete_network("web"), (network("web"),)),
    "delete one of many networks": Case(lambda s: s.controller.delete_network("db"), BOX),
    "create a sandbox": Case(sandbox("new")),
    "delete a sandbox": Case(lambda s: s.controller.delete_sandbox("box"), BOX),
    "create an endpoint": Case(endpoint("web", "e", ports=ASKED), BOX),
    "create the first endpoint of bridge": Case(endpoint("bridge", "e"), BOX, in_parts=True),
    "delete an endpoint": Case(lambda s: s.controller.delete_endpoint("web/e"), (*BOX, endpoint("web", "e"))),
    "join": Case(
        lambda s: s.controller.join("web/e", "box"), (*BOX, endpoint("web", "e", ports=ASKED, ifname="up0"))
    ),
    "leave": Case(lambda s: s.controller.leave("web/box"), (*BOX, connect("web", "box", ports=ASKED))),
    "connect": Case(connect("web", "box", ports=ASKED, aliases=("w",)), BOX),
    "connect what takes the default route over": Case(
        connect("web", "box", gw_priority=5), (*BOX, connect("db", "box"))
    ),
    "disconnect what has the default route": Case(
        lambda s: s.controller.disconnect("web", "box"),
        (*BOX, connect("db", "box"), connect("web", "box", gw_priority=5, ports=ASKED)),
    ),
    "publish": Case(lambda s: s.controller.publish("web/box", ASKED), (*BOX, connect("web", "box"))),
    "publish on an endpoint in no sandbox": Case(
        lambda s: s.controller.publish("web/e", ASKED), (*BOX, endpoint("web", "e"))
    ),
    "unpublish": Case(
        lambda s: s.controller.unpublish("web/box", ASKED[:1]), (*BOX, connect("web", "box", ports=ASKED))
    ),
}


@contextmanager
def staged(setup: tuple[Step, ...]) -> Iterator[Stage]:
    with TemporaryDirectory() as place:
        stage = Stage(Path(place))
        for step in setup:
            step(stage)
        stage.faults.reset()
        try:
            yield stage
        finally:
            stage.end()


def outcome(stage: Stage) -> object:
    """What a verb leaves behind, without what is by chance: ids, times, and the addresses derived from ids."""
    controller = stage.controller
    return (
        sorted((n.name, n.state, [(p.subnet, p.gateway) for p in n.pools]) for n in controller.networks()),
        [(s.name, s.state) for s in controller.sandboxes()],
        sorted(
            (e.name, e.state, e.ipv4, e.ipv6, e.mac, e.ifname, e.ports, bool(e.sandbox_id))
            for e in controller.endpoints()
        ),
        {name: len(values) for name, values in stage.picture().items() if name != "events"},
        [is_held(A_PORT), is_held(ANOTHER)],
        controller.doctor(),
    )


@pytest.mark.parametrize("name", CASES)
def test_a_verb_with_a_fault_at_any_step_happens_whole_or_not_at_all(name: str) -> None:
    case = CASES[name]
    with staged(case.setup) as stage:
        case.verb(stage)
        steps = list(stage.faults.calls)
        wanted = outcome(stage)
    assert steps

    for at in range(len(steps)):
        for after in (False, True) if steps[at] in BY_HALVES else (False,):
            with staged(case.setup) as stage:
                before, ports_before = stage.picture(), [is_held(A_PORT), is_held(ANOTHER)]
                stage.faults.reset(at, after=after)
                try:
                    case.verb(stage)
                except CnmError:
                    assert case.in_parts or stage.picture() == before, (steps[at], at, after)
                    assert [is_held(A_PORT), is_held(ANOTHER)] == ports_before, (steps[at], at, after)
                    assert stage.controller.doctor() == []
                    stage.faults.reset()
                    case.verb(stage)
                else:  # whoever leaves has left, even if nobody can take his default route over
                    stage.controller.repair()
                assert outcome(stage) == wanted, (steps[at], at, after)


@pytest.mark.parametrize("name", CASES)
def test_a_daemon_that_starts_after_a_verb_finds_what_the_verb_left(name: str) -> None:
    with staged(CASES[name].setup) as stage:
        CASES[name].verb(stage)
        wanted = outcome(stage)

        stage.restart()

        assert outcome(stage) == wanted
