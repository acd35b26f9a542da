"""Verbs from many threads at once: one wins where only one can, nothing is given out twice, nothing hangs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cnm.endpoint import EndpointRequest, EndpointState
from cnm.errors import CnmError
from cnm.network import IpamConfig
from tests.unit.verbs_stage import Stage, free_port, is_held, tcp

WAIT = 60


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.end()


def together(verbs: Sequence[Callable[[], object]]) -> list[object]:
    """What each verb returned or was refused with, all begun at the same moment."""
    gate = threading.Barrier(len(verbs))

    def run(verb: Callable[[], object]) -> object:
        gate.wait(WAIT)
        try:
            return verb()
        except CnmError as error:
            return error

    with ThreadPoolExecutor(len(verbs)) as threads:
        return list(threads.map(run, verbs, timeout=WAIT))


def refusals(outcomes: Sequence[object]) -> list[str]:
    return [str(outcome) for outcome in outcomes if isinstance(outcome, CnmError)]


def test_one_of_many_joins_of_one_endpoint_wins(stage: Stage) -> None:
    port = free_port()
    stage.network("web")
    boxes = [stage.sandbox(f"box{number}").name for number in range(8)]
    stage.controller.create_endpoint("web", EndpointRequest(name="e", ports=(tcp(80, port),)))

    outcomes = together([lambda box=box: stage.controller.join("web/e", box) for box in boxes])  # type: ignore[misc]

    assert len(refusals(outcomes)) == 7
    joined = stage.controller.endpoint("web/e")
    assert joined.state is EndpointState.JOINED
    assert is_held(port)
    assert sum(len(stage.links(sandbox.netns)) - 1 for sandbox in stage.controller.sandboxes()) == 1
    assert stage.controller.doctor() == []


def test_one_of_many_connections_of_one_sandbox_to_one_network_wins(stage: Stage) -> None:
    stage.network("web")
    stage.sandbox("box")

    outcomes = together([lambda: stage.controller.connect("web", "box", EndpointRequest())] * 8)

    assert len(refusals(outcomes)) == 7
    assert len(stage.controller.endpoints()) == 1
    assert stage.controller.pool_status(stage.controller.network("web"))["172.18.0.0/16"][0] == 4


def test_one_of_many_networks_of_one_name_is_made(stage: Stage) -> None:
    outcomes = together([lambda: stage.network("web")] * 8)

    assert refusals(outcomes) == ["network with name web already exists"] * 7
    assert len(stage.links()) == 3
    assert stage.network("next").pools[0].subnet == "172.19.0.0/16"


def test_one_of_many_sandboxes_of_one_name_is_made(stage: Stage) -> None:
    outcomes = together([lambda: stage.sandbox("box")] * 8)

    assert len(refusals(outcomes)) == 7
    assert len(stage.kernel.spaces) == 2


def test_64_parallel_connections_have_64_addresses_macs_and_ports(stage: Stage) -> None:
    stage.network("web", enable_ipv6=True)
    boxes = [stage.sandbox(f"box{number}").name for number in range(64)]

    def connection(box: str) -> Callable[[], object]:
        return lambda: stage.controller.connect("web", box, EndpointRequest(ports=(tcp(80),)))

    assert refusals(together([connection(box) for box in boxes])) == []

    endpoints = stage.controller.endpoints()
    for values in (
        {endpoint.ipv4 for endpoint in endpoints},
        {endpoint.ipv6 for endpoint in endpoints},
        {endpoint.mac for endpoint in endpoints},
        {endpoint.ports[0].host_port for endpoint in endpoints},
    ):
        assert len(values) == 64
    assert stage.controller.doctor() == []


def test_many_networks_at_once_have_pools_apart(stage: Stage) -> None:
    outcomes = together([lambda n=number: stage.network(f"n{n}") for number in range(16)])  # type: ignore[misc]

    assert refusals(outcomes) == []
    assert len({n.pools[0].subnet for n in stage.controller.networks() if n.pools}) == 16
    assert stage.controller.doctor() == []


def test_bridge_is_made_once_by_many_first_users(stage: Stage) -> None:
    boxes = [stage.sandbox(f"box{number}").name for number in range(8)]

    outcomes = together(
        [lambda box=box: stage.controller.connect("bridge", box, EndpointRequest()) for box in boxes]  # type: ignore[misc]
    )

    assert refusals(outcomes) == []
    assert len({endpoint.ipv4 for endpoint in stage.controller.endpoints()}) == 8
    assert stage.controller.doctor() == []


def test_a_full_network_gives_each_address_once(stage: Stage) -> None:
    stage.network("web", ipam_config=(IpamConfig(subnet="10.1.0.0/28"),))

    outcomes = together(
        [
            lambda n=number: stage.controller.create_endpoint("web", EndpointRequest(name=f"e{n}"))  # type: ignore[misc]
            for number in range(20)
        ]
    )

    assert len(refusals(outcomes)) == 20 - 13
    assert len({endpoint.ipv4 for endpoint in stage.controller.endpoints()}) == 13


def test_deleting_a_network_and_connecting_to_it_end_in_one_of_two_orders(stage: Stage) -> None:
    for attempt in range(20):
        stage.network("web")
        stage.sandbox("box")

        deleted, connected = together(
            [
                lambda: stage.controller.delete_network("web"),
                lambda: stage.controller.connect("web", "box", EndpointRequest()),
            ]
        )

        assert isinstance(deleted, CnmError) != isinstance(connected, CnmError), (attempt, deleted, connected)
        assert stage.controller.doctor() == []
        stage.controller.delete_sandbox("box", force=True)
        stage.controller.prune_networks(lambda _: False)


def test_verbs_of_all_kinds_at_once_neither_hang_nor_leave_anything(stage: Stage) -> None:
    """With doctor and repair between them, which wait for all others."""
    for name in ("a", "b"):
        stage.network(name)

    def life(number: int) -> Callable[[], object]:
        def run() -> None:
            name = f"box{number}"
            stage.sandbox(name)
            for network in ("a", "b") if number % 2 else ("b", "a"):
                stage.controller.connect(network, name, EndpointRequest(ports=(tcp(80),)))
            stage.controller.publish(f"a/{name}", [tcp(443)])
            stage.controller.leave(f"b/{name}")
            stage.controller.join(f"b/{name}", name)
            stage.controller.delete_sandbox(name, force=True)

        return run

    def look() -> None:
        for _ in range(10):
            assert stage.controller.doctor() == []

    outcomes = together([*(life(number) for number in range(16)), look, look])

    assert refusals(outcomes) == []
    assert stage.controller.endpoints() == []
    assert stage.controller.doctor() == []
