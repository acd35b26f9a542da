"""Hypothesis strategies of the unit tests, in one place so that they grow with the features."""

from __future__ import annotations

import base64
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from hypothesis import settings
from hypothesis import strategies as st

from cnm.endpoint import PortMapping, Protocol
from cnm.firewall import sets
from cnm.ipam.cidr import Subnet
from cnm.ipam.pools import AddressPool
from cnm.kernel.state import ElementSet, FieldType, FirewallElement
from cnm.kernel.wireguard_records import WireGuardPeer

settings.register_profile("cnm", deadline=None)  # a busy machine is no fault
settings.load_profile("cnm")


def runs_of_integers(limit: int) -> st.SearchStrategy[tuple[int, int]]:
    """(first, last) within 0..limit, first <= last."""
    integers = st.integers(0, limit)
    return st.tuples(integers, integers).map(lambda pair: (min(pair), max(pair)))


def subnets_of(base: str, lengths: range) -> st.SearchStrategy[Subnet]:
    """Subnets of `base` with prefix lengths out of `lengths`."""
    network = ip_network(base)

    def cut(length: int, index: int) -> Subnet:
        count = 1 << (length - network.prefixlen)
        step = 1 << (network.max_prefixlen - length)
        kind = IPv4Network if network.version == 4 else IPv6Network
        return kind((int(network.network_address) + index % count * step, length))

    return st.builds(cut, st.sampled_from(list(lengths)), st.integers(0, 2**20))


def small_subnets() -> st.SearchStrategy[Subnet]:
    """Subnets of at most 32 addresses, both families, so that tests can list and exhaust them."""
    return st.one_of(
        subnets_of("10.0.0.0/24", range(27, 33)),
        subnets_of("fd00:0:0:1::/120", range(123, 129)),
    )


def address_pools() -> st.SearchStrategy[list[AddressPool]]:
    """Default address pools of a few subnets each; they may overlap."""
    bases = subnets_of("10.0.0.0/20", range(20, 27))
    pool = st.builds(
        lambda base, more: AddressPool(base, min(base.prefixlen + more, 28)), bases, st.integers(0, 4)
    )
    return st.lists(pool, min_size=1, max_size=4)


def port_mappings() -> st.SearchStrategy[PortMapping]:
    """Published ports and ranges of them, of any protocol, some without a host port."""
    return st.builds(
        lambda protocol, container, host, address, count: PortMapping(
            protocol=protocol, container_port=container, host_port=host, host_address=address, count=count
        ),
        st.sampled_from(Protocol),
        st.integers(1, 60),
        st.one_of(st.just(0), st.integers(1000, 1060)),
        st.sampled_from(["", "127.0.0.1", "::1"]),
        st.integers(1, 20),
    )


def packed_names() -> st.SearchStrategy[bytes]:
    """Names in DNS messages: labels of any bytes, then an end, a pointer anywhere, or nonsense."""
    label = st.binary(min_size=1, max_size=63).map(lambda text: bytes((len(text),)) + text)
    end = st.one_of(
        st.just(b"\0"),
        st.integers(0, 40).map(lambda offset: (0xC000 | offset).to_bytes(2)),
        st.integers(0x40, 0xFF).map(lambda reserved: bytes((reserved,))),
        st.just(b""),
    )
    return st.builds(lambda labels, last: b"".join(labels) + last, st.lists(label, max_size=6), end)


def dns_records() -> st.SearchStrategy[bytes]:
    """Resource records of types that hold names or none, OPT among them, whose data fits or not."""
    data = st.one_of(packed_names(), st.builds(bytes.__add__, st.binary(max_size=6), packed_names()))
    kind = st.sampled_from([1, 2, 5, 6, 12, 15, 16, 28, 33, 39, 41])
    return st.builds(
        lambda owner, kind, rest, data, more: (
            owner + kind.to_bytes(2) + rest + (len(data) + more).to_bytes(2) + data
        ),
        *(packed_names(), kind, st.binary(min_size=6, max_size=6), data, st.sampled_from([0, 0, 0, 1])),
    )


_FIELDS: dict[FieldType, st.SearchStrategy[str | int]] = {
    FieldType.IFNAME: st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=15),
    FieldType.IPV4: st.ip_addresses(v=4).map(str),
    FieldType.IPV6: st.integers(2**64, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    FieldType.ETHER: st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":")),
    FieldType.RAW24: st.integers(0, 2**24 - 1),
    FieldType.INET_PROTO: st.sampled_from(["tcp", "udp", "sctp"]),
    FieldType.INET_SERVICE: st.integers(0, 65535),
    FieldType.NF_PROTO: st.sampled_from(["ipv4", "ipv6"]),
    FieldType.RAW128: st.integers(2**64, 2**128 - 1).map(lambda number: str(IPv6Address(number))),
    FieldType.VERDICT: st.sampled_from(["accept", "drop", "goto to_nat", "jump guard"]),
}


def _elements_of(element_set: ElementSet) -> st.SearchStrategy[FirewallElement]:
    key = st.tuples(*(_FIELDS[kind] for kind in element_set.key))
    value = st.tuples(*(_FIELDS[kind] for kind in element_set.value))
    return st.builds(FirewallElement, st.just(element_set), key, value)


def firewall_elements() -> st.SearchStrategy[FirewallElement]:
    """Elements of any of our sets whose fields fit it."""
    return st.sampled_from(sets.ELEMENT_SETS).flatmap(_elements_of)


def wireguard_keys() -> st.SearchStrategy[str]:
    return st.binary(min_size=32, max_size=32).filter(any).map(lambda raw: base64.b64encode(raw).decode())


def wireguard_peers() -> st.SearchStrategy[WireGuardPeer]:
    ipv4, ipv6 = st.ip_addresses(v=4).map(str), st.ip_addresses(network="2000::/3").map(str)
    alone = st.one_of(ipv4.map(lambda address: f"{address}/32"), ipv6.map(lambda address: f"{address}/128"))
    return st.builds(
        WireGuardPeer,
        public_key=wireguard_keys(),
        endpoint=st.none() | st.tuples(st.one_of(ipv4, ipv6), st.integers(1, 65535)),
        allowed_ips=st.lists(alone, max_size=3).map(tuple),
        keepalive=st.integers(0, 65535),
        preshared_key=st.just("") | wireguard_keys(),
    )
