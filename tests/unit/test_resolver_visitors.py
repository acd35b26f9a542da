"""One listener, many clients: each is answered as the scope of its address says, others as the listener's own does."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import dns.rcode
import pytest

from cnm.resolver.forward import Forwarder
from cnm.resolver.messages import Message, Verb
from cnm.resolver.records import Member, Scope, visitor
from cnm.resolver.scope import ScopeServer
from cnm.resolver.state import State
from cnm.resolver.stats import Stats
from cnm.sidecar.loop import Loop
from tests.unit.dns_queries import addresses, query, read
from tests.unit.relay_loop import Peer, turn_until

LISTENER = "host 127.0.0.1"
KNOWN, STRANGER = "127.0.0.2", "127.0.0.3"


class Served:
    """A listener at 127.0.0.1 that serves in this thread whenever somebody asks."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.state = State()
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for each in (self.udp, self.tcp):
            each.bind(("127.0.0.1", 0))
        self.tcp.listen()
        self.tell(Verb.ZONE, "w", "web")
        self.tell(Verb.MEMBER, "w", Member("w1", ("front",), "10.1.0.2", ""))
        listener = Scope(LISTENER, (), alone=True, by_client=True)
        body = {"scope": listener, "sockets": ["udp", "tcp"]}
        self.state.apply(Message(Verb.SCOPE, LISTENER, body), {"udp": self.udp, "tcp": self.tcp})
        stats = Stats()
        self.server = ScopeServer(
            self.loop, LISTENER, self.state, Forwarder(self.loop, self.state, stats), stats
        )

    def tell(self, verb: Verb, ident: str, body: object = None) -> None:
        self.state.apply(Message(verb, ident, body), {})

    def know(self, address: str) -> None:
        scope = Scope(visitor(LISTENER, address), ("w",), alone=True)
        self.tell(Verb.SCOPE, scope.id, {"scope": scope, "sockets": []})

    def asked_over_udp(self, source: str, name: str) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.bind((source, 0))
            client.sendto(query(name), self.udp.getsockname())
            self.server.ready(self.udp.fileno(), 1)
            return client.recv(4096)

    def asked_over_tcp(self, source: str, name: str) -> bytes:
        asked = query(name)
        with socket.create_connection(self.tcp.getsockname(), source_address=(source, 0)) as client:
            client.sendall(len(asked).to_bytes(2) + asked)
            peer = Peer(client)
            turn_until(self.loop, peer.read)
            return bytes(peer.received[2:])

    def close(self) -> None:
        self.server.close()
        self.udp.close()
        self.tcp.close()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    made.close()


@pytest.mark.parametrize("over", ["udp", "tcp"])
def test_each_is_answered_of_what_is_its_own(served: Served, over: str) -> None:
    ask = served.asked_over_udp if over == "udp" else served.asked_over_tcp
    served.know(KNOWN)

    assert addresses(ask(KNOWN, "front")) == ["10.1.0.2"]
    assert addresses(ask(KNOWN, "front.web")) == ["10.1.0.2"]
    assert read(ask(KNOWN, "www.example.org")).rcode() == dns.rcode.REFUSED
    for name in ("front", "front.web"):
        assert read(ask(STRANGER, name)).rcode() == dns.rcode.REFUSED


def test_who_is_known_no_more_is_a_stranger(served: Served) -> None:
    served.know(KNOWN)
    assert addresses(served.asked_over_udp(KNOWN, "front")) == ["10.1.0.2"]

    served.tell(Verb.UNSCOPE, visitor(LISTENER, KNOWN))

    assert read(served.asked_over_udp(KNOWN, "front")).rcode() == dns.rcode.REFUSED
    served.know(KNOWN)
    assert addresses(served.asked_over_udp(KNOWN, "front")) == ["10.1.0.2"]
