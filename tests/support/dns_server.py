"""A name server that tests stand in for: in a namespace, over UDP and TCP, answering by rules."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

from netns_fixtures import Host

_LOOK_SECONDS = 0.1
BIG = 3000
"""Bytes, about: more than this server puts into a datagram."""
WIDE = 1400
"""Bytes, about, that it does put into one: for whoever takes more than 512."""


@dataclass
class DnsServer:
    """`names` are addresses by name; others do not exist. `rcode` other than NOERROR is answered to everything."""

    address: str
    names: dict[str, str] = field(default_factory=dict)
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    silent: bool = False
    ttl: int = 60
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(name, "udp" or "tcp"), in the order in which they came."""

    def answer(self, data: bytes, protocol: str) -> bytes | None:
        query = dns.message.from_wire(data)
        name = str(query.question[0].name).rstrip(".").lower()
        self.asked.append((name, protocol))
        if self.silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        response.set_rcode(self.rcode)
        if self.rcode == dns.rcode.NOERROR:
            self._fill(response, name, protocol)
        return response.to_wire(max_size=65535)

    def _fill(self, response: dns.message.Message, name: str, protocol: str) -> None:
        owner = response.question[0].name
        kind = response.question[0].rdtype
        if name.startswith("big."):
            if protocol == "udp":
                response.flags |= dns.flags.TC
            else:
                texts = [f'"{number:04}{"x" * 200}"' for number in range(BIG // 200)]
                response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", "TXT", *texts))
        elif name.startswith("wide."):
            texts = [f'"{number:04}{"x" * 200}"' for number in range(WIDE // 200)]
            response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", "TXT", *texts))
        elif name in self.names:
            address = self.names[name]
            if kind == (dns.rdatatype.AAAA if ":" in address else dns.rdatatype.A):
                response.answer.append(dns.rrset.from_text(owner, self.ttl, "IN", kind, address))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
            soa = "ns.example. root.example. 1 2 3 4 60"
            response.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", soa))


@contextlib.contextmanager
def serving(host: Host, server: DnsServer) -> Iterator[DnsServer]:
    """In this host's namespace, at its address, port 53, for as long as the context lasts."""
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    udp = host.socket(family, socket.SOCK_DGRAM)
    tcp = host.socket(family, socket.SOCK_STREAM)
    stopping = threading.Event()
    with udp, tcp:
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each in (udp, tcp):
            each.bind((server.address, 53))
            each.settimeout(_LOOK_SECONDS)
        tcp.listen()
        threads = [
            threading.Thread(target=_serve_udp, args=(udp, server, stopping)),
            threading.Thread(target=_serve_tcp, args=(tcp, server, stopping)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield server
        finally:
            stopping.set()
            for thread in threads:
                thread.join()


def _serve_udp(udp: socket.socket, server: DnsServer, stopping: threading.Event) -> None:
    while not stopping.is_set():
        with contextlib.suppress(TimeoutError):
            data, client = udp.recvfrom(65535)
            if answer := server.answer(data, "udp"):
                udp.sendto(answer, client)


def _serve_tcp(tcp: socket.socket, server: DnsServer, stopping: threading.Event) -> None:
    while not stopping.is_set():
        with contextlib.suppress(OSError):
            channel, _peer = tcp.accept()
            with channel:
                channel.settimeout(5)
                while length := channel.recv(2, socket.MSG_WAITALL):
                    data = channel.recv(int.from_bytes(length), socket.MSG_WAITALL)
                    if answer := server.answer(data, "tcp"):
                        channel.sendall(len(answer).to_bytes(2) + answer)
