"""Queries as dnspython writes them, and answers as it reads them: a judge that we did not write."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

Response = dns.message.Message


def query(
    name: str, kind: str = "A", *, size: int = 0, ident: int = 7, dnssec: bool = False, **options: object
) -> bytes:
    """`size` is EDNS' UDP size, 0 for a query without EDNS."""
    edns = {"use_edns": 0, "payload": size, "want_dnssec": dnssec} if size else {}
    made = dns.message.make_query(name, kind, id=ident, **edns, **options)  # type: ignore[arg-type]
    return made.to_wire()


def most_bytes(asked: bytes) -> int:
    """Of an answer over UDP: 512, or what EDNS allows, of which we use 4096 (RFC 6891, 6.2.3)."""
    try:
        size = dns.message.from_wire(asked).payload
    except (dns.exception.DNSException, ValueError):
        return 512
    return min(max(size, 512), 4096)


def read(answer: object) -> Response:
    assert isinstance(answer, bytes)
    return dns.message.from_wire(answer)


def addresses(answer: object) -> list[str]:
    """Of the records of an answer's A and AAAA, in their order."""
    kinds = (dns.rdatatype.A, dns.rdatatype.AAAA)
    return [data.address for rrset in read(answer).answer if rrset.rdtype in kinds for data in rrset]


def code(answer: object) -> str:
    return dns.rcode.to_text(read(answer).rcode())
