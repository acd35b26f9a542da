"""How what is in etcd is followed: in which order at a start, how much at once, and whatever others write."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from cnm.cluster import keys
from cnm.cluster.etcd.contract import Event, KeyValue, Snapshot
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.macs import Macs
from cnm.cluster.mirror import Mirror, Worker
from cnm.cluster.peers import Peers
from cnm.cluster.records import SharedEndpoint, encode
from cnm.kernel.state import RemotePeer
from tests.unit.cluster_stage import SECONDS, Hosts, eventually

NETWORK = "n" * 64


class SlowEtcd(MemoryEtcd):
    """Says which nodes there are only when it is told to."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.listed: list[str] = []
        self.nodes_may_be_read = threading.Event()

    def list(self, prefix: str, *, stale: bool = False) -> Snapshot:
        if prefix == keys.NODES:
            assert self.nodes_may_be_read.wait(SECONDS)
        self.listed.append(prefix)
        return super().list(prefix, stale=stale)


class Batches:
    """A handler that remembers what it was called with."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []

    def reset(self, items: Sequence[KeyValue]) -> None:
        assert not items

    def change(self, events: Sequence[Event]) -> None:
        self.batches.append(list(events))

    @property
    def values(self) -> list[bytes | None]:
        return [event.value for batch in self.batches for event in batch]


def test_a_restart_touches_no_entry_before_it_is_known_where_tunnels_end(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path, 2)
    here, there = hosts.all
    here.overlay()
    web = hosts.everywhere()[0]
    here.boxed("front")
    _, back = there.boxed("back")
    address = back.ipv4.partition("/")[0]
    eventually(lambda: address in here.reached(web))
    here.crash()
    removed: list[RemotePeer] = []
    program = here.kernel.program_peers

    def watched(namespace: str, link: str, added: Sequence[RemotePeer], gone: Sequence[RemotePeer]) -> None:
        removed.extend(gone)
        program(namespace, link, added, gone)

    here.kernel.program_peers = watched  # type: ignore[method-assign]
    here.etcd = slow = SlowEtcd(hosts.store)
    here.start()
    eventually(lambda: keys.NETWORKS in slow.listed)
    slow.nodes_may_be_read.set()
    eventually(lambda: keys.endpoints(web.id) in slow.listed)
    eventually(lambda: here.resources.cluster.segments()[0].peers.idents() == [back.id])

    assert slow.listed.index(keys.NODES) < slow.listed.index(keys.endpoints(web.id))
    assert not removed
    assert here.reached(web) == {address: "192.0.2.2"}
    hosts.end()


def test_changes_that_come_one_upon_the_other_are_handed_out_together() -> None:
    etcd, handler, worker = MemoryEtcd(MemoryStore()), Batches(), Worker("test")
    mirror = Mirror(etcd, "/a/", handler, worker)
    mirror.open()
    written = [b"%d" % number for number in range(500)]
    for value in written:
        etcd.put("/a/key", value)
    eventually(lambda: len(handler.values) == len(written))

    assert handler.values == written
    assert len(handler.batches) < len(written)
    mirror.close()
    worker.close()


def test_a_mirror_that_is_closed_hears_of_nothing_more() -> None:
    etcd, handler, worker = MemoryEtcd(MemoryStore()), Batches(), Worker("test")
    mirror = Mirror(etcd, "/a/", handler, worker)
    mirror.open()
    etcd.put("/a/key", b"value")
    eventually(lambda: handler.values)
    mirror.close()
    worker.close()

    etcd.put("/a/key", b"another")
    assert handler.values == [b"value"]


def test_what_is_no_address_moves_nobody() -> None:
    macs = Macs()

    assert macs.heard("02:42:00:00:00:01", ["not an address"]) == [("not an address", "02:42:00:00:00:01")]
    assert macs.heard("02:42:00:00:00:01", ["not an address"]) == []


def test_a_node_that_moves_takes_its_endpoints_along_and_no_others() -> None:
    prefix = keys.endpoints(NETWORK)
    ends = {"there": "192.0.2.2", "elsewhere": "192.0.2.3"}
    peers = Peers(prefix, "here", lambda node: ends.get(node, ""))
    peers.reset([_item("there", 1), _item("there", 2), _item("elsewhere", 3)])

    moved = peers.moved("there", "192.0.2.2", "192.0.2.9")
    assert moved.removed == []
    assert sorted(moved.added) == [_peer(1, "192.0.2.9"), _peer(2, "192.0.2.9")]

    assert sorted(peers.moved("there", "192.0.2.9", "").removed) == sorted(moved.added)
    assert list(peers.records()) == [_peer(3, "192.0.2.3")]


def test_a_node_without_endpoints_is_not_in_the_network_any_more() -> None:
    peers = Peers(keys.endpoints(NETWORK), "here", lambda node: "192.0.2.2")
    item = _item("there", 1)
    peers.reset([item, _item("elsewhere", 2)])
    assert peers.nodes() == {"there", "elsewhere"}

    peers.change([Event(item.key, None, 2)])
    assert peers.nodes() == {"elsewhere"}


def test_packets_to_this_hosts_own_addresses_stay_here_whoever_else_claims_them() -> None:
    peers = Peers(keys.endpoints(NETWORK), "here", lambda node: "192.0.2.2")
    early, own, stranger = _item("there", 1), _item("here", 1, 5), _item("elsewhere", 1, 9)
    peers.reset([early, _item("there", 2)])
    assert sorted(peers.records()) == [_peer(1, "192.0.2.2"), _peer(2, "192.0.2.2")]

    came = peers.change([Event(own.key, own.value, 5, create_revision=5)])
    assert came.removed == [_peer(1, "192.0.2.2")]
    later = peers.change([Event(stranger.key, stranger.value, 9, create_revision=9)])
    assert (later.removed, later.added) == ([], [])
    assert list(peers.records()) == [_peer(2, "192.0.2.2")]

    left = peers.change([Event(own.key, None, 10)])
    assert left.added == [_peer(1, "192.0.2.2")]


def _item(node: str, number: int, ident: int = 0) -> KeyValue:
    shared = SharedEndpoint(mac=f"02:42:0a:00:00:0{number}", ipv4=f"10.0.0.{number}")
    return KeyValue(keys.endpoint(NETWORK, node, f"{ident or number}"), encode(shared), number, number)


def _peer(number: int, vtep: str) -> RemotePeer:
    return RemotePeer(f"02:42:0a:00:00:0{number}", vtep, (f"10.0.0.{number}",))
