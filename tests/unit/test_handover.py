"""What a driver wants of a sandbox, adapted to dockerd's: which end of a pair leaves, and what stays where."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnm import handover
from cnm.endpoint import Endpoint
from cnm.kernel.state import (
    HOST,
    Address,
    FdbEntry,
    Group,
    KernelState,
    Link,
    LinkKind,
    Neighbor,
    Peer,
)
from cnm.network import Network, NetworkState

OVERLAY, BOX = "/run/netns/overlay", "/run/netns/box"
MAC = "02:42:0a:09:00:02"
NETWORK = Network(id="f" * 64, name="web", driver="overlay", created="", state=NetworkState.ACTIVE)
ENDPOINT = Endpoint(id="e" * 64, name="one", network_id=NETWORK.id, mac=MAC)
MOVED = Endpoint(id="e" * 64, name="one", network_id=NETWORK.id, mac=MAC, moved=True)
SOURCE = "cp" + "e" * 12

PORT = Link(
    "cv1", LinkKind.VETH, "06:42:00:00:00:02", 1450, master="br0", alias="cnm:endpoint:1",
    group=Group.PORT, peer=Peer(BOX, "eth0", MAC, 1450),
)  # fmt: skip
PLACES = pytest.mark.parametrize(("place", "own"), [(HOST, False), (OVERLAY, True)], ids=["host", "overlay"])


def joining(place: str, own: bool) -> tuple[KernelState, ...]:
    """What a driver returns whose bridge is on the host, or in its network's namespace."""
    return (
        KernelState(namespace=place, own=own, links=(PORT,), fdb=(FdbEntry("cv1", MAC),)),
        KernelState(
            namespace=BOX,
            links=(Link("eth0", LinkKind.VETH, MAC, 1450),),
            addresses=(Address("eth0", "10.9.0.2/24"),),
        ),
    )


@PLACES
def test_a_moved_links_other_end_is_made_on_the_host_and_nothing_in_the_sandbox(
    place: str, own: bool
) -> None:
    outside, inside = handover.for_dockerd(joining(place, own), NETWORK, MOVED)

    leaving = Peer(HOST, SOURCE, MAC, 1450, leaves=True)
    assert outside == replace(joining(place, own)[0], links=(replace(PORT, peer=leaving),))
    assert inside == KernelState()


@PLACES
def test_what_is_outside_is_the_same_for_a_direct_link(place: str, own: bool) -> None:
    outside, inside = handover.for_dockerd(joining(place, own), NETWORK, ENDPOINT)

    assert outside == joining(place, own)[0]
    assert (inside.namespace, inside.addresses) == (BOX, (Address("eth0", "10.9.0.2/32"),))


@PLACES
def test_a_failed_join_leaves_nothing_that_waits_for_dockerd(place: str, own: bool) -> None:
    outside, _ = handover.given_up(handover.for_dockerd(joining(place, own), NETWORK, MOVED))

    assert (outside.namespace, outside.own) == (place, own)
    assert outside.links == (replace(PORT, peer=None),)


@PLACES
def test_what_is_left_behind_is_where_it_was_made(place: str, own: bool) -> None:
    states = handover.for_dockerd(joining(place, own), NETWORK, MOVED)

    assert handover.left_behind(states) == (
        KernelState(namespace=place, own=own, links=(replace(PORT, peer=None),)),
    )


def test_nothing_is_left_behind_of_what_stays() -> None:
    state = KernelState(links=(replace(PORT, peer=None),), neighbors=(Neighbor("cnm-1", "10.9.0.2", MAC),))

    assert handover.left_behind([state]) == ()


@PLACES
def test_what_is_left_behind_may_be_there_cut_off_or_not(place: str, own: bool) -> None:
    (left,) = handover.left_behind(handover.for_dockerd(joining(place, own), NETWORK, MOVED))

    tolerated = handover.tolerated(left)

    assert (tolerated.namespace, tolerated.own) == (place, own)
    assert tolerated.links == (replace(PORT, peer=None, leaves=True, group=Group.LEFT),)
