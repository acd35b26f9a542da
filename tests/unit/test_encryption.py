"""A host's part in encrypted networks: what their packets are sent between, and to whom there are tunnels when."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cnm.cluster import keys
from cnm.cluster.etcd.memory import MemoryEtcd
from cnm.cluster.records import encode
from cnm.errors import InvalidParameter, NotBuilt
from cnm.kernel.state import LinkKind
from tests.unit.cluster_stage import Hosts, eventually
from tests.unit.encrypted_stage import ENCRYPTED, inside, join_two, key_file, known, peers, quick
from tests.unit.verbs_stage import refused


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosts]:
    quick(monkeypatch)
    made = Hosts(tmp_path, able=True)
    yield made
    made.end()


@pytest.fixture
def joined(hosts: Hosts) -> Hosts:
    join_two(hosts)
    return hosts


# Networks


def test_its_packets_go_between_the_addresses_in_tunnels_and_have_room_there(joined: Hosts) -> None:
    one, other, _ = joined.all
    network = one.controller.network("web")
    (vxlan,) = [link for link in one.links(one.space(network)).values() if link.kind is LinkKind.VXLAN]

    assert vxlan.vxlan is not None
    assert vxlan.vxlan.local == inside(one)
    assert network.mtu == vxlan.mtu == 1500 - 80 - 70
    eventually(lambda: set(one.reached(network).values()) == {inside(other)})
    assert one.elements("encrypted_vnis") == {(4789, int(network.decided["vni"]))}


@pytest.mark.parametrize("value", ["false", "0"])
def test_a_network_that_is_not_to_be_encrypted_is_not(hosts: Hosts, value: str) -> None:
    host = hosts.all[0]
    network = host.overlay(options={"encrypted": value})
    host.boxed("box")

    assert network.mtu == 1450
    assert host.tunnels.made == []
    assert host.elements("encrypted_vnis") == set()


def test_a_small_underlay_is_refused(hosts: Hosts) -> None:
    for host in hosts.all:
        host.kernel._uplink = host.kernel._uplink._replace(mtu=1350)  # type: ignore[union-attr]
        host.controller.host_changed()

    said = refused(lambda: hosts.all[0].overlay(options=ENCRYPTED), InvalidParameter)

    assert said == (
        "network web cannot be encrypted: the hosts' own MTU leaves 1270 bytes in tunnels, and IPv6 there needs 1280"
    )


def test_what_stands_for_it_in_docker_is_encrypted_too(joined: Hosts) -> None:
    one = joined.all[0]
    web = one.controller.network("web")
    standing = msgspec.structs.replace(
        web, options={"cnm.network": web.id}, decided={**web.decided, "segment": web.id, "encrypted": "1"}
    )
    driver = one.resources.driver_of(web)

    assert driver.network_state(standing, one.resources.facts) == driver.network_state(
        web, one.resources.facts
    )


# Tunnels


def test_there_are_tunnels_between_those_who_take_part_only(joined: Hosts) -> None:
    third = joined.all[2]

    assert third.tunnels.made == []
    assert known(joined.all[0], third).wireguard_key == ""
    assert known(joined.all[0], third).transport == inside(third)

    third.boxed("b3")

    eventually(lambda: [peers(h) for h in joined.all] == [{"h2", "h3"}, {"h1", "h3"}, {"h1", "h2"}])


def test_with_the_last_endpoint_tunnels_and_keys_go(joined: Hosts) -> None:
    one, other, _ = joined.all
    assert os.stat(key_file(other)).st_mode & 0o777 == 0o600

    other.controller.disconnect("web", "bh2")

    assert other.tunnels.made[-1].is_closed
    assert not key_file(other).exists()
    eventually(lambda: peers(one) == set() and known(one, other).wireguard_key == "")
    assert other.controller.doctor() == []


def test_a_second_network_keeps_them(joined: Hosts) -> None:
    host = joined.all[1]
    host.overlay("more", options=ENCRYPTED)
    host.boxed("other", "more")

    host.controller.disconnect("web", "bh2")

    assert peers(host) == {"h1"}
    assert len(host.tunnels.made) == 1


def test_a_host_that_cannot_encrypt_joins_nothing_and_has_nothing_half_made(joined: Hosts) -> None:
    third = joined.all[2]
    third.tunnels.able = False
    third.sandbox("box")
    before = third.picture()

    said = refused(lambda: third.join("box"), NotBuilt)

    assert said == (
        "network web is encrypted: this kernel has no wireguard: load module wireguard, or install wireguard-go"
    )
    assert third.picture() == before
    assert not key_file(third).exists()
    third.controller.host_changed()
    eventually(lambda: known(joined.all[0], third).transport == "")
    third.tunnels.able = True
    third.join("box")
    eventually(lambda: "h3" in peers(joined.all[0]))


def test_a_node_with_another_address_is_spoken_to_there(joined: Hosts) -> None:
    one, other, _ = joined.all
    moved = msgspec.structs.replace(known(one, other), address="192.0.2.77")

    MemoryEtcd(joined.store).put(keys.node("h2"), encode(moved))

    eventually(lambda: one.tunnels.config and [p.address for p in one.tunnels.config.peers] == ["192.0.2.77"])


def test_a_node_that_goes_is_no_peer(joined: Hosts) -> None:
    MemoryEtcd(joined.store).delete(keys.node("h2"))

    eventually(lambda: peers(joined.all[0]) == set())


@pytest.mark.parametrize(
    "change",
    [
        {"transport": "203.0.113.7"},
        {"wireguard_key": "no key"},
        {"wireguard_port": 0},
        {"wireguard_generation": 1 << 20},
    ],
)
def test_a_node_that_says_nonsense_gets_no_tunnel_and_disturbs_no_other(
    joined: Hosts, change: dict[str, Any]
) -> None:
    one, other, third = joined.all
    said = {"name": "h3", "transport": inside(third)} | change
    MemoryEtcd(joined.store).put(keys.node("h3"), encode(msgspec.structs.replace(known(one, other), **said)))
    eventually(lambda: all(getattr(known(one, third), field) == value for field, value in change.items()))

    other.controller.disconnect("web", "bh2")
    other.join("bh2")

    eventually(lambda: peers(one) == {"h2"})


def test_a_node_that_has_anothers_key_does_not_take_its_place(joined: Hosts) -> None:
    one, other, third = joined.all
    stolen = msgspec.structs.replace(known(one, other), name="h3", transport=inside(third))

    MemoryEtcd(joined.store).put(keys.node("h3"), encode(stolen))

    eventually(lambda: any("there is no tunnel to node h3" in w for w in one.controller.cluster_warnings()))
    assert peers(one) == {"h2"}


def test_a_record_by_anothers_name_is_none(joined: Hosts) -> None:
    one, other, _ = joined.all

    MemoryEtcd(joined.store).put(keys.node("h3"), encode(known(one, other)))

    eventually(lambda: one.resources.cluster.nodes.get("h3") is None)
