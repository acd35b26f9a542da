"""Start-up over every stored state, and doctor and repair of what somebody changed."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cnm.endpoint import Endpoint, EndpointRequest, EndpointState
from cnm.errors import NotFound
from cnm.firewall import sets
from cnm.kernel.state import (
    HOST,
    Address,
    FirewallElement,
    Group,
    Link,
    LinkKind,
    Neighbor,
    Problem,
    Route,
)
from cnm.network import NetworkState
from cnm.sandbox import SandboxState
from tests.unit.verbs_stage import Stage, free_port, is_held, refused, tcp

replace = msgspec.structs.replace


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def stage(tmp_path: Path, port: int) -> Iterator[Stage]:
    """Network web with sandbox box joined to it, its port 80 published."""
    made = Stage(tmp_path)
    made.network("web", enable_ipv6=True)
    made.sandbox("box")
    made.controller.connect("web", "box", EndpointRequest(ports=(tcp(80, port),)))
    yield made
    made.end()


def without_events(stage: Stage) -> object:
    return {**stage.picture(), "events": []}


def store_endpoint(stage: Stage, **changes: object) -> Endpoint:
    changed = replace(stage.controller.endpoint("web/box"), **changes)
    stage.store.commit(put=[changed], durable=True)
    return changed


# Start-up


def test_a_restart_finds_everything_as_it_was(stage: Stage, port: int) -> None:
    before = without_events(stage)

    stage.restart()

    assert without_events(stage) == before
    assert is_held(port)
    assert stage.controller.doctor() == []


def test_after_a_reboot_everything_is_made_again(stage: Stage) -> None:
    before = stage.picture()
    for path in list(stage.kernel.spaces):
        stage.kernel.remove_namespace(path) if path else stage.kernel.spaces[HOST].links.clear()
    stage.kernel.spaces[HOST].records.clear()
    stage.kernel.spaces[HOST].links["uplink0"] = Link("uplink0", LinkKind.OTHER)
    stage.kernel.spaces[HOST].links["lo"] = Link("lo", LinkKind.LOOPBACK)
    stage.kernel.elements.clear()

    stage.restart()

    after = stage.picture()
    assert {key: after[key] for key in ("links", "records", "elements", "model")} == {
        key: before[key] for key in ("links", "records", "elements", "model")
    }


@pytest.mark.parametrize("state", [NetworkState.CREATING, NetworkState.DELETING])
def test_a_network_that_was_half_made_or_half_deleted_is_gone(stage: Stage, state: NetworkState) -> None:
    network = stage.network("half")
    stage.store.commit(put=[replace(network, state=state)], durable=True)

    stage.restart()

    refused(lambda: stage.controller.network("half"), NotFound)
    assert f"cnm-{network.id[:11]}" not in stage.links()
    assert stage.network("again").pools == network.pools
    assert stage.controller.doctor() == []


@pytest.mark.parametrize("state", [SandboxState.CREATING, SandboxState.DELETING])
def test_a_sandbox_that_was_half_made_or_half_deleted_is_gone(stage: Stage, state: SandboxState) -> None:
    sandbox = stage.sandbox("half")
    stage.store.commit(put=[replace(sandbox, state=state)], durable=True)

    stage.restart()

    refused(lambda: stage.controller.sandbox("half"), NotFound)
    assert not stage.kernel.namespace_alive(sandbox.netns)


@pytest.mark.parametrize("state", [EndpointState.JOINING, EndpointState.LEAVING])
def test_an_endpoint_that_was_joining_or_leaving_is_apart(
    stage: Stage, port: int, state: EndpointState
) -> None:
    before = store_endpoint(stage, state=state)

    stage.restart()

    found = stage.controller.endpoint("web/box")
    assert (found.state, found.sandbox_id, found.ports, found.ipv4) == (
        EndpointState.CREATED, "", (), before.ipv4,
    )  # fmt: skip
    assert found.port_requests == before.port_requests
    assert not is_held(port)
    assert set(stage.links(stage.controller.sandbox("box").netns)) == {"lo"}
    assert stage.controller.doctor() == []
    assert stage.controller.join("web/box", "box").ports == before.ports


@pytest.mark.parametrize("state", [EndpointState.CONNECTING, EndpointState.DELETING])
def test_an_endpoint_that_was_connecting_or_being_deleted_is_gone(
    stage: Stage, port: int, state: EndpointState
) -> None:
    before = store_endpoint(stage, state=state)

    stage.restart()

    assert stage.controller.endpoints() == []
    assert not is_held(port)
    assert stage.controller.doctor() == []
    assert stage.controller.connect("web", "box", EndpointRequest()).ipv4 == before.ipv4


def test_an_endpoint_at_rest_keeps_its_address_over_a_restart(stage: Stage) -> None:
    spare = stage.controller.create_endpoint("web", EndpointRequest(name="spare"))

    stage.restart()

    assert stage.controller.endpoint("web/spare") == spare
    assert stage.controller.create_endpoint("web", EndpointRequest(name="next")).ipv4 != spare.ipv4


def test_a_lost_namespace_of_ours_is_made_again_with_what_was_in_it(stage: Stage) -> None:
    before = without_events(stage)
    stage.kernel.remove_namespace(stage.controller.sandbox("box").netns)

    stage.restart()

    assert without_events(stage) == before


def test_an_endpoint_leaves_a_given_namespace_that_is_lost(stage: Stage) -> None:
    stage.kernel.create_namespace("/run/netns/mine")
    stage.sandbox("guest", "/run/netns/mine")
    stage.controller.connect("web", "guest", EndpointRequest())
    stage.kernel.remove_namespace("/run/netns/mine")

    stage.restart()

    assert stage.controller.endpoint("web/guest").state is EndpointState.CREATED
    assert stage.controller.endpoint("web/guest").sandbox_id == ""


def test_a_port_taken_while_the_daemon_was_down_is_a_finding_and_comes_back(stage: Stage, port: int) -> None:
    stage.end()
    thief = socket.socket()
    thief.bind(("", port))

    stage.start()

    (finding,) = stage.controller.doctor()
    assert f"{port}" in repr(finding.wanted)
    assert ("tcp", port) not in stage.elements("publish_any4")
    assert any(
        f"port {port}/tcp was taken by another program" in w for w in stage.controller.status().warnings
    )
    thief.close()
    stage.controller.repair()
    assert stage.controller.doctor() == []
    assert ("tcp", port) in stage.elements("publish_any4")


def test_an_orphan_of_ours_is_removed_and_what_is_others_stays(stage: Stage) -> None:
    theirs = Link("docker0", LinkKind.BRIDGE)
    stage.links()["docker0"] = theirs
    stage.links()["cnm-orphan"] = Link(
        "cnm-orphan", LinkKind.BRIDGE, alias="cnm:network:0", group=Group.BRIDGE
    )

    stage.restart()

    assert "cnm-orphan" not in stage.links()
    assert stage.links()["docker0"] == theirs


def test_a_network_that_cannot_be_made_again_stops_no_other(stage: Stage) -> None:
    other = stage.network("other")
    bridge = f"cnm-{stage.controller.network('web').id[:11]}"
    for name in (bridge, f"cnm-{other.id[:11]}"):
        del stage.links()[name]
    stage.kernel.fail_on = bridge

    stage.restart()

    assert f"cnm-{other.id[:11]}" in stage.links()
    assert any(getattr(f.wanted, "name", "") == bridge for f in stage.controller.doctor())
    stage.kernel.fail_on = ""
    stage.controller.repair()
    assert stage.controller.doctor() == []


# Doctor and repair


def _bridge(stage: Stage) -> str:
    return f"cnm-{stage.controller.network('web').id[:11]}"


def _change_link(stage: Stage, **changes: object) -> None:
    stage.links()[_bridge(stage)] = dataclasses.replace(stage.links()[_bridge(stage)], **changes)  # type: ignore[arg-type]


def _drop_records(stage: Stage, kind: type, namespace: str = HOST) -> None:
    space = stage.kernel.spaces[namespace]
    space.records = {record for record in space.records if not isinstance(record, kind)}


def _netns(stage: Stage) -> str:
    return stage.controller.sandbox("box").netns


DAMAGE: dict[str, tuple[Callable[[Stage], object], Problem]] = {
    "bridge down": (lambda s: _change_link(s, up=False), Problem.CHANGED),
    "bridge's MTU": (lambda s: _change_link(s, mtu=1280), Problem.CHANGED),
    "bridge's group": (lambda s: _change_link(s, group=0), Problem.CHANGED),
    "host's addresses": (lambda s: _drop_records(s, Address), Problem.MISSING),
    "host's neighbours": (lambda s: _drop_records(s, Neighbor), Problem.MISSING),
    "sandbox's routes": (lambda s: _drop_records(s, Route, _netns(s)), Problem.MISSING),
    "an element gone": (lambda s: s.kernel.elements.pop(), Problem.MISSING),
    "an element too many": (
        lambda s: s.kernel.elements.add(FirewallElement(sets.MASQ, ("ipv4", "cnm-gone"))), Problem.FOREIGN,
    ),
    "a switch": (
        lambda s: s.kernel.sysctls.update({f"net/ipv4/conf/{_bridge(s)}/forwarding": "0"}), Problem.CHANGED,
    ),
    "an orphaned link": (
        lambda s: s.links().update(cvdead=Link("cvdead", LinkKind.VETH, alias="cnm:endpoint:dead")), Problem.FOREIGN,
    ),
    "the namespace": (lambda s: s.kernel.remove_namespace(_netns(s)), Problem.MISSING),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_and_repaired(stage: Stage, what: str) -> None:
    damage, problem = DAMAGE[what]
    before = without_events(stage)
    assert stage.controller.doctor() == []

    damage(stage)
    found = stage.controller.doctor()
    mended = stage.controller.repair()

    assert problem in {finding.problem for finding in found}
    assert mended == found
    assert stage.controller.doctor() == []
    assert without_events(stage) == before


def test_doctor_changes_nothing(stage: Stage) -> None:
    _change_link(stage, up=False)
    before = stage.picture()

    stage.controller.doctor()

    assert stage.picture() == before


def test_doctor_waits_for_a_verb_that_runs(stage: Stage) -> None:
    inside, on = threading.Event(), threading.Event()
    apply = stage.kernel.apply

    def slow(states: object) -> None:
        inside.set()
        assert on.wait(30)
        apply(states)  # type: ignore[arg-type]

    stage.kernel.apply = slow  # type: ignore[method-assign]
    verb = threading.Thread(target=lambda: stage.network("slow"))
    verb.start()
    assert inside.wait(30)
    found: list[object] = []
    doctor = threading.Thread(target=lambda: found.append(stage.controller.doctor()))
    doctor.start()
    doctor.join(0.2)
    waited = doctor.is_alive()
    on.set()
    verb.join(30)
    doctor.join(30)

    assert waited
    assert found == [[]]
