"""A cluster that is full: hosts and endpoints as etcd has them, without the hosts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from cnm.cluster import keys, records
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Operation, Put
from cnm.cluster.records import Cluster, Node, SharedEndpoint
from cnm.mac import generate_mac

_OPERATIONS = 100
"""In a transaction; etcd allows 128."""
_WRITERS = 4


def ident(*what: object) -> str:
    """64 hex digits, as networks and endpoints have them."""
    return hashlib.sha256(repr(what).encode()).hexdigest()


def node_name(number: int) -> str:
    return f"host{number:04}"


def vtep(number: int) -> str:
    return f"10.250.{number >> 8}.{number & 255}"


def address(number: int) -> str:
    """Of an endpoint, in 10.64.0.0/10."""
    return f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def endpoint(network_id: str, host: int, number: int, address_of: int = 0) -> Put:
    """Endpoint `number` of a host, with IPv4; its address is another number's where it has moved to that."""
    who = ident(network_id, number)
    ipv4 = address(address_of or number)
    names = (f"web-{number}", who[:12])
    shared = SharedEndpoint(mac=generate_mac(f"{ipv4}/10", ""), ipv4=ipv4, names=names)
    return Put(keys.endpoint(network_id, node_name(host), who), records.encode(shared))


def endpoints(network_id: str, hosts: int, count: int) -> Iterator[Put]:
    """Numbers 1 to `count`, spread over hosts 1 to `hosts`."""
    return (endpoint(network_id, 1 + number % hosts, number) for number in range(1, count + 1))


def nodes(count: int) -> Iterator[Put]:
    """Hosts 1 to `count`."""
    for number in range(1, count + 1):
        record = Node(name=node_name(number), address=vtep(number), mtu=1500)
        yield Put(keys.node(record.name), records.encode(record))


def founded(etcd: Client) -> None:
    etcd.put(keys.CLUSTER, records.encode(Cluster(id="c" * 32, created="2026-01-01T00:00:00Z")))


def write(etcd: Client, puts: Iterable[Put]) -> int:
    """As many at once as a transaction takes, by some threads; how many there were."""
    waiting = list(puts)
    parts = [waiting[start : start + _OPERATIONS] for start in range(0, len(waiting), _OPERATIONS)]

    def put(part: Sequence[Operation]) -> None:
        etcd.transact((), part)

    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(put, parts))
    return len(waiting)
