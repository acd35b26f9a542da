"""Networks of a cluster through the controllers of its hosts: definitions, addresses, segments, the way out, faults."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm import clustered
from cnm.cluster import keys, networks
from cnm.cluster.etcd.contract import EtcdError, Outcome
from cnm.endpoint import EndpointRequest
from cnm.errors import Conflict, Forbidden, InvalidParameter
from cnm.ipam.contract import AddressInUse, PoolOverlap
from cnm.kernel.state import HOST, LinkKind
from cnm.network import EGRESS_NETWORK, IpamConfig, NetworkRequest, Owner
from tests.unit.cluster_stage import Hosts, eventually
from tests.unit.verbs_stage import Stage, free_port, is_held, refused, tcp


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path)
    yield made
    made.end()


# Definitions


def test_a_host_without_a_cluster_has_no_overlay_networks(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    said = refused(lambda: stage.network("web", driver="overlay"), Forbidden)

    assert "cnmctl cluster init" in said
    stage.end()


def test_a_network_is_known_everywhere(hosts: Hosts) -> None:
    made = hosts.all[0].overlay(labels={"a": "b"}, internal=True)

    for network in hosts.everywhere():
        assert network == made
        assert (network.scope, network.mtu, network.internal) == ("global", 1450, True)


def test_a_name_is_taken_everywhere(hosts: Hosts) -> None:
    hosts.all[0].overlay()
    said = refused(lambda: hosts.all[1].overlay(), Conflict)

    # whether this host has heard of it yet is a matter of milliseconds
    assert said.removesuffix(" in the cluster") == "network with name web already exists"


def test_two_networks_have_different_subnets_and_vnis(hosts: Hosts) -> None:
    web, db = hosts.all[0].overlay("web"), hosts.all[1].overlay("db")

    assert web.pools[0].subnet != db.pools[0].subnet
    assert web.decided["vni"] != db.decided["vni"]


def test_a_vni_that_is_taken_is_refused_by_its_networks_name(hosts: Hosts) -> None:
    option = {"com.docker.network.driver.overlay.vxlanid_list": "77"}
    hosts.all[0].overlay("web", options=option)
    hosts.everywhere()

    said = refused(lambda: hosts.all[1].overlay("db", options=option), Conflict)

    assert said == "VNI 77 is network web's already: choose another one"
    assert [n.name for n in hosts.all[1].controller.networks() if n.driver == "overlay"] == ["web"]
    assert len(MemoryKeys(hosts).under(keys.POOLS)) == 1


def test_a_subnet_that_is_taken_is_refused(hosts: Hosts) -> None:
    wanted = (IpamConfig(subnet="10.7.0.0/16"),)
    hosts.all[0].overlay("web", ipam_config=wanted)

    said = refused(lambda: hosts.all[1].overlay("db", ipam_config=wanted), PoolOverlap)

    assert "Pool overlaps with other one on this address space" in said


def test_networks_may_share_a_subnet_by_their_ranges_and_no_address(hosts: Hosts) -> None:
    """As in Docker, where the ip-ranges differ."""
    one = hosts.all[0].overlay("web", ipam_config=(IpamConfig(subnet="10.7.0.0/16", ip_range="10.7.1.0/24"),))
    two = hosts.all[1].overlay("db", ipam_config=(IpamConfig(subnet="10.7.0.0/16", ip_range="10.7.2.0/24"),))
    hosts.everywhere("web"), hosts.everywhere("db")

    _, first = hosts.all[0].boxed("aa", "web")
    _, second = hosts.all[1].boxed("bb", "db")

    assert first.ipv4.startswith("10.7.1.")
    assert second.ipv4.startswith("10.7.2.")
    assert hosts.all[0].reached(one) == {}
    assert hosts.all[1].reached(two) == {}


def test_a_subnet_around_a_hosts_own_address_is_refused(hosts: Hosts) -> None:
    said = refused(
        lambda: hosts.all[0].overlay(ipam_config=(IpamConfig(subnet="192.0.2.0/24"),)), PoolOverlap
    )

    assert "subnet 192.0.2.0/24 overlaps with 192.0.2.1/32" in said


def test_a_network_that_is_used_elsewhere_is_not_deleted(hosts: Hosts) -> None:
    hosts.all[0].overlay()
    hosts.everywhere()
    hosts.all[1].boxed("box")

    said = refused(lambda: hosts.all[0].controller.delete_network("web"), Forbidden)

    assert said.startswith("network web is in use on h2: disconnect or remove its endpoints there first")
    hosts.all[2].boxed("more")  # it is as usable as before
    hosts.all[1].controller.disconnect("web", "box")
    hosts.all[2].controller.disconnect("web", "more")
    hosts.all[0].controller.delete_network("web")
    eventually(
        lambda: all(len(host.controller.networks()) == len(_LOCAL[host.node.name]) for host in hosts.all)
    )
    assert MemoryKeys(hosts).networks() == []


_LOCAL = {
    "h1": ("bridge", "host", "none"),
    "h2": (*("bridge", "host", "none"), EGRESS_NETWORK),
    "h3": (*("bridge", "host", "none"), EGRESS_NETWORK),
}
"""Networks of the hosts themselves once a sandbox was in a network of the cluster."""


def test_a_network_with_an_auxiliary_address_is_deleted_by_any_host(hosts: Hosts) -> None:
    config = IpamConfig(subnet="10.7.0.0/24", aux_addresses={"router": "10.7.0.9"})
    hosts.all[0].overlay(ipam_config=(config,))
    hosts.everywhere()
    hosts.all[1].end()
    hosts.all[1].start()
    hosts.all[1].sandbox("aa")
    refused(lambda: hosts.all[1].join("aa", ipv4="10.7.0.9"), AddressInUse)
    assert hosts.all[1].controller.health.audit.run() == 0
    assert hosts.all[1].controller.health.audit.clashes == []

    hosts.all[1].controller.delete_network("web")

    assert MemoryKeys(hosts).under(keys.ADDRESSES) == MemoryKeys(hosts).under(keys.POOLS) == []


def test_a_subnet_is_nobodys_until_its_network_is_gone_and_then_whoever_takes_it_has_it(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = IpamConfig(subnet="10.7.0.0/24")
    hosts.all[0].overlay(ipam_config=(config,))
    hosts.everywhere()
    unshared, delete, said = networks._unshared, clustered.delete, []

    def closed(*arguments: Any) -> list[str]:
        said.append(refused(lambda: hosts.all[1].overlay("next", ipam_config=(config,)), PoolOverlap))
        return unshared(*arguments)

    def deleted(*arguments: Any) -> None:
        delete(*arguments)
        hosts.all[1].overlay("next", ipam_config=(config,))
        hosts.all[1].boxed("aa", "next")

    monkeypatch.setattr(networks, "_unshared", closed)
    monkeypatch.setattr(clustered, "delete", deleted)
    hosts.all[0].controller.delete_network("web")

    assert len(said) == 1
    assert MemoryKeys(hosts).under(keys.POOLS) == [keys.pool("10.7.0.0/24")]
    assert len(MemoryKeys(hosts).under(keys.ADDRESSES)) == 1


def test_a_network_whose_name_is_taken_on_a_host_is_hidden_there(hosts: Hosts) -> None:
    hosts.all[1].network("web")

    made = hosts.all[0].overlay("web")
    eventually(lambda: hosts.all[1].controller.hearing.hidden())
    assert hosts.all[1].controller.network("web").driver == "bridge"

    hosts.all[1].controller.delete_network("web")
    eventually(lambda: made in hosts.all[1].controller.networks())
    assert hosts.all[1].controller.hearing.hidden() == []


def test_a_network_is_shown_when_dockerd_renames_or_removes_the_one_that_hides_it(hosts: Hosts) -> None:
    two, three = hosts.all[1], hosts.all[2]
    dockerds = [
        host.controller.dockerd.create_network(
            NetworkRequest(
                name="web",
                id=digit * 64,
                owner=Owner.DOCKERD,
                ipam_config=(IpamConfig(subnet="10.8.0.0/24", gateway="10.8.0.1"),),
            )
        )
        for host, digit in ((two, "a"), (three, "b"))
    ]
    made = hosts.all[0].overlay("web")
    eventually(lambda: two.controller.hearing.hidden() and three.controller.hearing.hidden())

    two.controller.dockerd.rename_network(dockerds[0], "other")
    three.controller.dockerd.delete_network(dockerds[1].id)

    hosts.everywhere()
    eventually(lambda: made in two.controller.networks() and made in three.controller.networks())


def test_a_host_that_left_the_cluster_is_shown_nothing_of_it(hosts: Hosts) -> None:
    left = hosts.all[1]
    left.network("web")
    hosts.all[0].overlay("web")
    eventually(lambda: left.controller.hearing.hidden())

    left.controller.left_cluster()

    assert left.controller.hearing.hidden() == []


def test_a_network_is_not_hidden_by_one_of_its_name_that_did_not_come_to_be(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = []

    def refused_meanwhile(*_: object) -> None:
        there.append(hosts.all[0].overlay("web"))
        eventually(lambda: hosts.all[1].controller.hearing.hidden())
        raise Conflict("somebody was quicker")

    monkeypatch.setattr(hosts.all[1].resources, "refresh_facts", refused_meanwhile)
    refused(lambda: hosts.all[1].overlay("web"), Conflict)

    eventually(lambda: there[0] in hosts.all[1].controller.networks())
    assert hosts.all[1].controller.hearing.hidden() == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"encrypted": ""}, "neither WireGuard nor wireguard-go"),
        ({"com.docker.network.driver.mtu": "1500"}, "the hosts' own 1500 bytes leave 1450"),
        ({"com.docker.network.driver.overlay.vxlanid_list": "1,2"}, "one number from 1 to 16777215"),
        ({"colour": "red"}, "unknown option colour for driver overlay"),
    ],
)
def test_a_bad_option_is_refused_and_leaves_nothing(
    hosts: Hosts, options: dict[str, str], words: str
) -> None:
    said = refused(lambda: hosts.all[0].overlay(options=options), InvalidParameter)

    assert words in said
    assert MemoryKeys(hosts).networks() == []
    assert MemoryKeys(hosts).under(keys.POOLS) == []


# Segments


def test_endpoints_reach_each_other_over_the_hosts_ends_of_tunnels(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    ends = [host.boxed(f"b{host.node.name}")[1] for host in hosts.all]

    def sees(number: int) -> dict[str, str]:
        return {
            end.ipv4.partition("/")[0]: other.node.address
            for end, other in zip(ends, hosts.all, strict=True)
            if other is not hosts.all[number]
        }

    for number, host in enumerate(hosts.all):
        eventually(lambda number=number, host=host: host.reached(web) == sees(number))


def test_the_first_endpoint_of_a_host_finds_those_that_were_there_before(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    _, first = hosts.all[0].boxed("aa")

    hosts.all[1].boxed("bb")

    assert hosts.all[1].reached(web) == {first.ipv4.partition("/")[0]: "192.0.2.1"}


def test_a_network_has_a_namespace_only_where_it_has_endpoints(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    host = hosts.all[1]
    before = set(host.kernel.spaces)

    _sandbox, _ = host.boxed("box")
    inside = host.links(host.space(web))
    assert {link.kind for link in inside.values()} >= {LinkKind.BRIDGE, LinkKind.VXLAN, LinkKind.VETH}
    assert not any(link.kind is LinkKind.VXLAN for link in host.links(HOST).values())

    host.controller.disconnect("web", "box")
    host.controller.delete_sandbox("box")
    assert set(host.kernel.spaces) == before
    assert MemoryKeys(hosts).under(keys.participants_of("h2")) == []


def test_an_endpoint_that_leaves_is_forgotten_elsewhere_and_gives_its_address_back(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[0].reached(web))

    hosts.all[1].controller.disconnect("web", "bb")

    eventually(lambda: not hosts.all[0].reached(web))
    assert len(MemoryKeys(hosts).under(keys.ADDRESSES)) == 1


def test_an_address_asked_for_is_refused_by_its_holder(hosts: Hosts) -> None:
    hosts.all[0].overlay(ipam_config=(IpamConfig(subnet="10.7.0.0/24"),))
    hosts.everywhere()
    hosts.all[0].boxed("aa", ipv4="10.7.0.9")

    said = refused(lambda: hosts.all[1].boxed("bb", ipv4="10.7.0.9"), AddressInUse)

    assert said == "Address already in use: 10.7.0.9 on 10.7.0.0/24 by endpoint aa of host h1"


def test_who_tries_an_address_in_vain_does_not_take_it_from_another_of_this_host(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = hosts.all[0].overlay(ipam_config=(IpamConfig(subnet="10.7.0.0/24"),))
    shared, pool = hosts.all[0].resources.cluster.ipam, web.pools[0].pool_id
    transact, got = hosts.all[0].etcd.transact, []

    def quicker(*arguments: Any) -> Outcome:
        monkeypatch.setattr(hosts.all[0].etcd, "transact", transact)
        got.append(shared.request_address(pool, "10.7.0.9"))
        return transact(*arguments)

    monkeypatch.setattr(hosts.all[0].etcd, "transact", quicker)
    refused(lambda: shared.request_address(pool, "10.7.0.9"), AddressInUse)

    assert got == ["10.7.0.9/24"]
    assert shared.give_back_strangers() == 0


def test_an_endpoint_moves_to_another_host_with_its_address(hosts: Hosts) -> None:
    web = hosts.all[0].overlay(ipam_config=(IpamConfig(subnet="10.7.0.0/24"),))
    hosts.everywhere()
    hosts.all[2].boxed("watching")
    hosts.all[0].boxed("aa", ipv4="10.7.0.9")
    eventually(lambda: hosts.all[2].reached(web) == {"10.7.0.9": "192.0.2.1"})

    hosts.all[0].controller.disconnect("web", "aa")
    hosts.all[1].boxed("aa", ipv4="10.7.0.9")

    eventually(lambda: hosts.all[2].reached(web) == {"10.7.0.9": "192.0.2.2"})


def test_sandboxes_hear_of_an_address_that_has_another_mac_now(hosts: Hosts) -> None:
    web = hosts.all[0].overlay(ipam_config=(IpamConfig(subnet="10.7.0.0/24"),))
    hosts.everywhere()
    here = hosts.all[2]
    here.boxed("watching")
    hosts.all[0].boxed("aa", ipv4="10.7.0.9")
    hosts.all[0].controller.disconnect("web", "aa")
    hosts.all[1].boxed("usual", ipv4="10.7.0.9")
    eventually(lambda: here.reached(web) == {"10.7.0.9": "192.0.2.2"})
    assert here.kernel.announced == []

    hosts.all[1].controller.disconnect("web", "usual")
    hosts.all[0].join("aa", ipv4="10.7.0.9", mac="02:aa:00:00:00:01")

    eventually(lambda: here.kernel.announced == [(here.space(web), "br0", "10.7.0.9", "02:aa:00:00:00:01")])


def test_every_subnet_of_a_network_is_on_its_link(hosts: Hosts) -> None:
    subnets = (
        IpamConfig(subnet="10.7.0.0/24"),
        IpamConfig(subnet="10.8.0.0/24"),
        IpamConfig(subnet="fd07::/64"),
    )
    hosts.all[0].overlay(ipam_config=subnets, enable_ipv6=True)

    box, end = hosts.all[0].boxed("box")

    routes = {
        r.destination: r.via for r in hosts.all[0].kernel.spaces[box.netns].records if hasattr(r, "via")
    }
    assert routes["10.8.0.0/24"] == ""
    assert end.ipv6.startswith("fd07::")


def test_names_of_endpoints_elsewhere_are_known(hosts: Hosts) -> None:
    hosts.all[0].overlay()
    hosts.everywhere()
    _, end = hosts.all[0].boxed("alpha", aliases=("www",))
    box, _ = hosts.all[1].boxed("beta")
    here = hosts.all[1]

    def looked_up(name: str) -> list[str]:
        found = here.resolver.state.book.find(box.id, name)
        return [socket.inet_ntoa(raw) for raw in found.ipv4] if found else []

    assert looked_up("alpha") == looked_up("www") == [end.ipv4.partition("/")[0]]

    hosts.all[0].controller.add_record("web", "shop", "10.9.9.9")
    eventually(lambda: looked_up("shop") == ["10.9.9.9"])
    hosts.all[0].controller.disconnect("web", "alpha")
    eventually(lambda: looked_up("alpha") == [])


# The way out


def test_a_sandbox_gets_out_by_a_network_of_its_host(hosts: Hosts) -> None:
    hosts.all[0].overlay()
    host = hosts.all[0]
    box, end = host.boxed("box")

    (out,) = [e for e in host.controller.endpoints(sandbox_ref="box") if e.id != end.id]
    assert host.controller.network(out.network_id).name == EGRESS_NETWORK
    assert host.controller.gateway_endpoint(box.id) == out.id

    host.controller.disconnect("web", "box")
    assert host.controller.endpoints(sandbox_ref="box") == []


def test_an_internal_network_has_no_way_out(hosts: Hosts) -> None:
    hosts.all[0].overlay(internal=True)
    _, end = hosts.all[0].boxed("box")

    assert hosts.all[0].controller.endpoints(sandbox_ref="box") == [end]


def test_a_sandbox_with_a_way_out_gets_no_other(hosts: Hosts) -> None:
    host = hosts.all[0]
    host.overlay()
    host.network("local")
    host.boxed("box", "local")
    host.join("box", "web")
    assert len(host.controller.endpoints(sandbox_ref="box")) == 2

    host.controller.disconnect("local", "box")
    names = {host.controller.network(e.network_id).name for e in host.controller.endpoints(sandbox_ref="box")}
    assert names == {"web", EGRESS_NETWORK}

    host.join("box", "local")
    names = {host.controller.network(e.network_id).name for e in host.controller.endpoints(sandbox_ref="box")}
    assert names == {"web", "local"}


def test_ports_asked_for_are_published_at_the_way_out(hosts: Hosts) -> None:
    host, port = hosts.all[0], free_port()
    host.overlay()
    _, end = host.boxed("box", ports=(tcp(80, port),))

    assert is_held(port)
    (out,) = [e for e in host.controller.endpoints(sandbox_ref="box") if e.id != end.id]
    assert [p.host_port for p in out.ports] == [port]

    host.network("local")
    host.join("box", "local")
    (now,) = [e for e in host.controller.endpoints(sandbox_ref="box") if e.ports]
    assert host.controller.network(now.network_id).name == "local"
    assert is_held(port)


def test_a_port_that_is_taken_undoes_the_whole(hosts: Hosts) -> None:
    host, port = hosts.all[0], free_port()
    host.overlay()
    host.boxed("one", ports=(tcp(80, port),))
    host.sandbox("two")
    before = host.picture()

    refused(lambda: host.join("two", ports=(tcp(80, port),)), Conflict)

    after = host.picture()
    assert {k: v for k, v in after.items() if k != "events"} == {
        k: v for k, v in before.items() if k != "events"
    }
    assert len(MemoryKeys(hosts).under(keys.ADDRESSES)) == 1


# Faults


def test_without_etcd_a_claim_fails_at_once_and_what_is_there_stays(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[0].reached(web) and hosts.all[1].reached(web))
    hosts.all[0].sandbox("late")
    before, seen = hosts.all[0].picture(), hosts.all[0].reached(web)
    hosts.store.quorum = False

    refused(lambda: hosts.all[0].join("late"), EtcdError)

    assert hosts.all[0].picture() == before
    assert hosts.all[0].reached(web) == seen


def test_what_left_while_etcd_was_away_is_forgotten_afterwards(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[0].reached(web) and hosts.all[1].reached(web))
    hosts.store.quorum = False

    hosts.all[0].controller.disconnect("web", "aa")

    hosts.store.quorum = True
    eventually(lambda: hosts.all[1].reached(web) == {})
    eventually(lambda: len(MemoryKeys(hosts).under(keys.ADDRESSES)) == 1)
    eventually(lambda: MemoryKeys(hosts).under(keys.participants_of("h1")) == [])


def test_a_node_whose_lease_is_lost_loses_its_endpoints_and_gets_them_back(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    _, a = hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[1].reached(web))
    hosts.all[0].etcd.away = True

    hosts.store.advance(11)
    eventually(lambda: hosts.all[1].reached(web) == {})
    assert len(MemoryKeys(hosts).under(keys.ADDRESSES)) == 2

    hosts.all[0].etcd.away = False
    eventually(lambda: hosts.all[1].reached(web) == {a.ipv4.partition("/")[0]: "192.0.2.1"})


def test_a_restarted_daemon_agrees_with_what_happened_meanwhile(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    _, a = hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[0].reached(web) and hosts.all[1].reached(web))
    hosts.all[1].crash()
    hosts.all[0].controller.disconnect("web", "aa")
    _, c = hosts.all[2].boxed("cc")
    kept = hosts.all[1].reached(web)

    hosts.all[1].start()

    assert kept == {a.ipv4.partition("/")[0]: "192.0.2.1"}  # nothing went while nobody was there
    eventually(lambda: hosts.all[1].reached(web) == {c.ipv4.partition("/")[0]: "192.0.2.3"})
    eventually(lambda: len(hosts.all[2].reached(web)) == 1)
    assert hosts.all[1].controller.doctor() == []


def test_a_host_that_comes_back_with_an_old_state_does_not_tell_what_is_not_its_own_any_more(
    hosts: Hosts,
) -> None:
    web = hosts.all[0].overlay(ipam_config=(IpamConfig(subnet="10.7.0.0/24"),))
    hosts.everywhere()
    hosts.all[0].boxed("aa", ipv4="10.7.0.9")
    hosts.all[1].boxed("bb", ipv4="10.7.0.8")
    hosts.all[0].boxed("old", ipv4="10.7.0.5")
    eventually(lambda: len(hosts.all[1].reached(web)) == 2)
    hosts.all[0].crash()
    hosts.store.advance(11)  # meanwhile somebody takes the address
    eventually(lambda: hosts.all[1].reached(web) == {})
    hosts.all[2].etcd.delete(keys.address("10.7.0.0/24", "10.7.0.5"))
    hosts.all[2].boxed("new", ipv4="10.7.0.5")

    hosts.all[0].start()

    eventually(lambda: hosts.all[1].reached(web) == {"10.7.0.5": "192.0.2.3", "10.7.0.9": "192.0.2.1"})
    audit = hosts.all[0].controller.health.audit
    eventually(lambda: audit.run() >= 0 and audit.clashes == ["10.7.0.5"])  # once all is followed again
    hosts.all[2].controller.disconnect("web", "new")
    eventually(
        lambda: (
            audit.run() >= 0
            and hosts.all[1].reached(web) == {"10.7.0.5": "192.0.2.1", "10.7.0.9": "192.0.2.1"}
        )
    )


def test_a_compacted_watch_reads_everything_again(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[0].reached(web))
    hosts.all[0].etcd.away = True
    hosts.all[1].controller.disconnect("web", "bb")
    _, c = hosts.all[2].boxed("cc")
    hosts.store.compact(hosts.store.revision)

    hosts.all[0].etcd.away = False

    eventually(lambda: hosts.all[0].reached(web) == {c.ipv4.partition("/")[0]: "192.0.2.3"})


def test_doctor_finds_and_mends_entries_of_endpoints_elsewhere(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[0].reached(web))
    host = hosts.all[0]
    (peer,) = host.peers(web).peers
    host.kernel.program_peers(host.space(web), f"vx{web.decided['vni']}", [], [peer])

    (finding,) = host.controller.doctor()
    assert finding.problem.value == "missing"
    assert "on another host" in finding.detail

    host.controller.repair()
    assert host.controller.doctor() == []
    assert host.peers(web).peers == (peer,)


def test_a_lost_namespace_of_a_network_is_made_again(hosts: Hosts) -> None:
    web = hosts.all[0].overlay()
    hosts.everywhere()
    hosts.all[0].boxed("aa")
    hosts.all[1].boxed("bb")
    eventually(lambda: hosts.all[0].reached(web))
    host = hosts.all[0]
    host.kernel.remove_namespace(host.space(web))

    host.controller.repair()

    assert host.controller.doctor() == []
    assert host.reached(web)


class MemoryKeys:
    """What is in etcd."""

    def __init__(self, hosts: Hosts) -> None:
        self._store = hosts.store

    def under(self, prefix: str) -> list[str]:
        return [item.key for item in self._store.select(prefix, True)]

    def networks(self) -> list[str]:
        return [*self.under(keys.NETWORKS), *self.under(keys.NETWORK_NAMES), *self.under(keys.VNIS)]


def test_an_endpoint_by_itself_claims_an_address_and_nothing_else(hosts: Hosts) -> None:
    hosts.all[0].overlay()

    hosts.all[0].controller.create_endpoint("web", EndpointRequest(name="alone"))

    assert len(MemoryKeys(hosts).under(keys.ADDRESSES)) == 1
    assert MemoryKeys(hosts).under(keys.ENDPOINTS) == []
    hosts.all[0].controller.delete_endpoint("web/alone")
    assert MemoryKeys(hosts).under(keys.ADDRESSES) == []
