"""Waiting for links and addresses: how long it looks, and at what."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from cnm.kernel import readiness
from cnm.kernel.netlink import Message, Request, u8
from cnm.kernel.route_messages import RTM_GETROUTE
from cnm.kernel.state import KernelState, Link, LinkKind, Peer

LOWER_UP = 1 << 16
UP, DOWN = 6, 2
LOCAL, UNICAST = 2, 1
PAIR = Link("cv0", LinkKind.VETH, master="cnm-0", peer=Peer("/run/netns/box", "eth0", "02:00:00:00:00:01"))


def link(flags: int, operstate: int) -> Message:
    return Message(16, struct.pack("=BxHiII", 0, 1, 7, flags, 0) + u8(16, operstate))


def route(kind: int) -> Message:
    return Message(24, struct.pack("=BBBBBBBBI", 10, 128, 0, 0, 255, 2, 0, kind, 0))


class Asked:
    """Answers with what it is given, in this order, and counts."""

    def __init__(self, *answers: Message | None) -> None:
        self._answers: Iterator[Message | None] = iter(answers)
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Message | None:
        self.requests.append(request)
        return next(self._answers)


def test_the_end_of_a_pair_is_looked_at_before_its_bridge() -> None:
    asked = Asked(link(LOWER_UP, UP), link(LOWER_UP, UP))

    readiness.await_links(asked, [KernelState(links=(PAIR,))])

    assert [request.doing for request in asked.requests] == [
        "look up interface cv0",
        "look up interface cnm-0",
    ]


def test_a_link_that_is_late_is_looked_at_again() -> None:
    asked = Asked(link(LOWER_UP, DOWN), link(LOWER_UP, DOWN), link(LOWER_UP, UP), None)

    readiness.await_links(asked, [KernelState(links=(PAIR,))])

    assert len(asked.requests) == 4


@pytest.mark.parametrize("answer", [None, link(0, DOWN)], ids=["gone", "no carrier"])
def test_a_link_that_nothing_will_turn_on_is_not_waited_for(answer: Message | None) -> None:
    asked = Asked(answer, answer)

    readiness.await_links(asked, [KernelState(links=(PAIR,))])

    assert len(asked.requests) == 2


def test_links_without_a_peer_are_not_looked_at() -> None:
    bridge = Link("cnm-0", LinkKind.BRIDGE)

    readiness.await_links(Asked(), [KernelState(links=(bridge,))])


def test_an_address_is_looked_up_until_its_route_is_local() -> None:
    asked = Asked(None, route(UNICAST), route(LOCAL))

    readiness.await_addresses(asked, ["fd00::2/64"])

    assert [request.kind for request in asked.requests] == [RTM_GETROUTE] * 3
