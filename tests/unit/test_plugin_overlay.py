"""Networks of a cluster in the dockerds of its hosts: what the plugin answers, and what is in etcd then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cluster import keys
from cnm.errors import Forbidden, InvalidParameter
from cnm.kernel.state import LinkKind
from cnm.network import IpamConfig, Owner
from tests.support.fake_dockerd import VERSIONS, DockerError
from tests.support.fake_dockerd.model import Attachment
from tests.unit.cluster_stage import eventually
from tests.unit.docker_cluster_stage import DockerHost, DockerHosts
from tests.unit.plugin_stage import endpoint, joining, network
from tests.unit.verbs_stage import refused

_REMEDY = "create it with cnmctl network create -d overlay --docker NAME on any host of the cluster"


@pytest.fixture(params=["20.10"])
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DockerHosts]:
    made = DockerHosts(tmp_path, version=request.param)
    yield made
    made.close()


every_version = pytest.mark.parametrize("hosts", sorted(VERSIONS), indirect=True)


def fails(host: DockerHost, verb: object, *arguments: object, **more: object) -> str:
    """What docker says to a command that must fail."""
    with pytest.raises(DockerError) as refusal:
        host.docker(verb, *arguments, **more)  # type: ignore[arg-type]
    return str(refusal.value)


# Networks


@every_version
def test_dockerds_network_stands_for_the_clusters(hosts: DockerHosts) -> None:
    web = hosts.shown(enable_ipv6=True)

    for host in hosts.all:
        theirs = host.dockerd.networks["web"]
        assert [pool.subnet for pool in theirs.pools] == [pool.subnet for pool in web.pools]
        assert [pool.gateway.partition("/")[0] for pool in theirs.pools] == [p.gateway for p in web.pools]
        (standing,) = (n for n in host.controller.networks() if n.id == theirs.id)
        assert (standing.owner, standing.scope, standing.mtu) == (Owner.DOCKERD, "local", 1450)
        assert standing.decided == {"segment": web.id, **web.decided}
    assert hosts.keys_of(keys.NETWORKS) == [keys.network(web.id)]
    assert len(hosts.keys_of(keys.POOLS)) == 2
    assert set(hosts.claims().values()) == {""}  # gateways, which are the network's


@every_version
def test_containers_of_different_dockerds_are_on_one_segment(hosts: DockerHosts) -> None:
    web = hosts.shown()
    one, two = hosts.all

    a, b = one.run("aa"), two.run("bb")

    first, second = (each.address.partition("/")[0] for each in (a, b))
    assert first != second
    assert {address: node for address, node in hosts.claims().items() if node} == {first: "h1", second: "h2"}
    eventually(lambda: one.reached(web) == {second: "192.0.2.2"})
    eventually(lambda: two.reached(web) == {first: "192.0.2.1"})
    assert hosts.endpoints(web)[a.id].mac == a.mac
    assert [each.controller.doctor() for each in hosts.all] == [[], []]

    one.docker(one.dockerd.rm, "aa")
    two.docker(two.dockerd.rm, "bb")

    assert set(hosts.claims().values()) == {""}
    assert hosts.endpoints(web) == {}
    assert hosts.keys_of(keys.PARTICIPANTS) == []
    assert not one.kernel.namespace_alive(one.space(web))
    assert [each.controller.doctor() for each in hosts.all] == [[], []]


@every_version
def test_dockerds_way_out_is_its_own(hosts: DockerHosts) -> None:
    hosts.shown("web")
    hosts.shown("db", internal=True)
    host = hosts.all[0]

    out = host.run("aa", "web")
    inside = host.run("bb", "db")

    assert (out.gateway, out.no_gateway_service) == ("", False)
    assert (inside.gateway, inside.no_gateway_service) == ("", True)
    assert host.dockerd.containers["aa"].sandbox.gateway_bridge is not None
    assert host.dockerd.containers["bb"].sandbox.gateway_bridge is None


def test_other_subnets_of_the_network_are_on_the_link(hosts: DockerHosts) -> None:
    hosts.shown(ipam_config=(IpamConfig(subnet="10.7.1.0/24"), IpamConfig(subnet="10.7.2.0/24")))

    made = hosts.all[0].run("aa")

    sibling = "10.7.2.0/24" if made.address.startswith("10.7.1.") else "10.7.1.0/24"
    assert [(r["Destination"], r["RouteType"]) for r in made.routes] == [(sibling, 1)]


def test_a_container_and_a_sandbox_of_ours_share_the_segment(hosts: DockerHosts) -> None:
    web = hosts.shown()
    host = hosts.all[0]
    host.boxed("box")
    made = host.run("aa")
    ports = [link for link in host.links(host.space(web)).values() if link.kind is LinkKind.VETH]
    assert len(ports) == 2

    host.docker(host.dockerd.rm, "aa")
    host.docker(host.dockerd.network_rm, "web")

    assert host.kernel.namespace_alive(host.space(web))
    assert list(hosts.endpoints(web)) == [host.controller.endpoints("web")[0].id] != [made.id]
    assert host.controller.doctor() == []


def test_docker_network_create_alone_is_refused_with_the_remedy(hosts: DockerHosts) -> None:
    dockerd = hosts.all[0].dockerd

    assert _REMEDY in fails(hosts.all[0], dockerd.network_create, "own")
    assert _REMEDY in fails(hosts.all[0], dockerd.network_create, "own", ipam_driver="default")
    assert [n.name for n in hosts.all[0].controller.networks()] == ["bridge", "host", "none"]
    assert hosts.all[0].leased() == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subnet": "10.99.0.0/24"}, "network web of the cluster has the subnets 10."),
        ({"internal": True}, "network web of the cluster is not internal"),
        ({"options": {"encrypted": ""}}, "network web has its options in the cluster: leave encrypted out"),
    ],
)
def test_a_network_that_is_not_as_in_the_cluster_is_refused(
    hosts: DockerHosts, change: dict[str, object], words: str
) -> None:
    web = hosts.shown()
    settled = {"subnet": web.pools[0].subnet, **change}
    options = {"cnm.network": web.id, **settled.pop("options", {})}  # type: ignore[dict-item]

    said = hosts.all[0].refused("CreateNetwork", **network(options=options, **settled))  # type: ignore[arg-type]

    assert words in said


def test_a_network_that_is_not_dockers_is_refused(hosts: DockerHosts) -> None:
    web = hosts.all[0].overlay()

    body = network(options={"cnm.network": web.id}, subnet=web.pools[0].subnet)

    assert "network web of the cluster is not Docker's" in hosts.all[0].refused("CreateNetwork", **body)


def test_a_network_that_nobody_knows_is_refused_after_a_while(hosts: DockerHosts) -> None:
    said = hosts.all[0].refused("CreateNetwork", **network(options={"cnm.network": "9" * 64}))

    assert said == f"network {'9' * 12} of the cluster is not known on this host: see cnmctl network ls"


def test_the_same_creation_again_is_answered_like_the_first(hosts: DockerHosts) -> None:
    web = hosts.shown()
    host = hosts.all[0]
    body = network(
        host.dockerd.networks["web"].id, options={"cnm.network": web.id}, subnet=web.pools[0].subnet
    )
    body["IPv4Data"][0]["Gateway"] = host.dockerd.networks["web"].pools[0].gateway

    host.say("CreateNetwork", **body)

    assert len([n for n in host.controller.networks() if n.driver == "overlay"]) == 2


def test_only_overlay_networks_with_addresses_of_the_cluster_are_for_docker(hosts: DockerHosts) -> None:
    host = hosts.all[0]
    option = {"cnm.docker": "true"}

    said = refused(lambda: host.network("own", options=option), InvalidParameter)
    assert (
        said
        == "unknown option cnm.docker for driver bridge: only networks of driver overlay appear in Docker"
    )
    said = refused(lambda: host.overlay("own", options={"cnm.network": "a" * 64}), InvalidParameter)
    assert said == "unknown option cnm.network for driver overlay: it is dockerd's"


def test_a_network_with_containers_of_another_host_is_not_deleted(hosts: DockerHosts) -> None:
    hosts.shown()
    one, two = hosts.all
    two.run("bb")

    assert "network web is in use on h2" in refused(lambda: one.controller.delete_network("web"), Forbidden)
    assert "network web is in use on h2" in refused(lambda: two.controller.delete_network("web"), Forbidden)
    two.run("cc")
    said = refused(lambda: two.controller.empty_cluster(force=False), Forbidden)
    assert "has endpoints on this host" in said


# Addresses


def test_an_address_of_another_hosts_container_is_refused(hosts: DockerHosts) -> None:
    hosts.shown()
    one, two = hosts.all
    taken = one.run("aa").address

    wanted = Attachment(ip=taken.partition("/")[0])
    said = fails(two, two.dockerd.run, "bb", "web", attachment=wanted)

    assert f"Address already in use: {wanted.ip}" in said
    assert said.endswith("by host h1")


def test_without_etcd_a_container_does_not_start_and_says_why(hosts: DockerHosts) -> None:
    web = hosts.shown()
    one, two = hosts.all
    one.run("aa")
    two.run("bb")
    eventually(lambda: one.reached(web) and two.reached(web))
    hosts.store.quorum = False
    seen = two.reached(web)

    assert fails(one, one.dockerd.run, "cc", "web")

    assert two.reached(web) == seen
    one.docker(one.dockerd.rm, "aa")
    hosts.store.quorum = True
    eventually(lambda: two.reached(web) == {})
    eventually(lambda: sorted(hosts.claims().values()) == ["", "h2"])


def test_a_restarted_cnmd_keeps_what_dockerd_holds(hosts: DockerHosts) -> None:
    web = hosts.shown()
    one, two = hosts.all
    made = one.run("aa")
    two.run("bb")
    eventually(lambda: two.reached(web))
    claimed = hosts.claims()

    one.restart()

    eventually(lambda: one.resources.cluster.stands.value == "current")
    one.resources.cluster.ipam.give_back_strangers()
    assert hosts.claims() == claimed
    assert made.id in hosts.endpoints(web)
    eventually(lambda: one.controller.doctor() == [])
    one.docker(one.dockerd.rm, "aa")
    assert sorted(hosts.claims().values()) == ["", "h2"]


@every_version
def test_a_restarted_dockerd_is_given_again_what_its_living_containers_have(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    made = host.run("aa")
    claimed = hosts.claims()

    host.docker(host.dockerd.daemon_stop, live_restore=True)
    host.docker(host.dockerd.daemon_start, live_restore=True)

    assert hosts.claims() == claimed
    assert [(a.address, a.gateway) for a in host.leases.addresses() if not a.gateway] == [
        (made.address.partition("/")[0], False)
    ]
    host.docker(host.dockerd.rm, "aa")
    host.docker(host.dockerd.network_rm, "web")
    assert set(hosts.claims().values()) == {""}
    assert host.leased() == []


@every_version
def test_a_killed_dockerd_leaves_nothing_claimed(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    host.run("aa")

    host.docker(host.dockerd.daemon_kill)
    host.docker(host.dockerd.daemon_start)

    assert set(hosts.claims().values()) == {""}
    host.controller.delete_network("web")


def test_an_address_that_dockerd_forgot_is_given_back(hosts: DockerHosts) -> None:
    web = hosts.shown()
    host = hosts.all[0]
    kept = host.run("aa").address.partition("/")[0]
    host.say("RequestAddress", PoolID=web.pools[0].pool_id, Address="", Options=None)
    assert sorted(hosts.claims().values()) == ["", "h1", "h1"]

    for _ in range(2):
        host.showing.look()
        host.seconds += 61

    host.showing.look()
    assert {a: node for a, node in hosts.claims().items() if node} == {kept: "h1"}


def test_a_network_that_dockerd_forgot_while_it_was_made_can_be_made_again(hosts: DockerHosts) -> None:
    """It died between the pools and the network."""
    web = hosts.all[0].show()
    host = hosts.all[0]
    pool = web.pools[0]
    asked = {"AddressSpace": "GlobalDefault", "Pool": pool.subnet, "SubPool": "", "V6": False}
    host.say("RequestPool", **asked, Options={"cnm.network": web.id})

    host.ask("/Plugin.Activate")
    host.showing.look()

    assert "web" in host.dockerd.networks
    host.docker(host.dockerd.network_rm, "web")
    assert host.leased() == []


def test_a_pool_is_for_one_network_of_dockerds(hosts: DockerHosts) -> None:
    web = hosts.shown()
    which = {"cnm.network": web.id}
    subnets = [web.pools[0].subnet]
    host = hosts.all[0]
    host.showing.look()
    host.leases._clock = lambda: 1e9

    said = fails(
        host, host.dockerd.network_create, "alias", subnets=subnets, options=which, ipam_options=which
    )

    assert "network web of the cluster is in this Docker already" in said


def test_a_gateway_is_what_the_cluster_says(hosts: DockerHosts) -> None:
    web = hosts.shown()
    pool = web.pools[0]
    as_gateway = {"RequestAddressType": "com.docker.network.gateway"}

    for host in hosts.all:
        answer = host.say("RequestAddress", PoolID=pool.pool_id, Address="", Options=as_gateway)
        assert answer["Address"].partition("/")[0] == pool.gateway
        host.say("ReleaseAddress", PoolID=pool.pool_id, Address=pool.gateway)

    assert hosts.claims() == {pool.gateway: ""}
    other = f"{pool.gateway.rpartition('.')[0]}.200"
    said = hosts.all[0].refused("RequestAddress", PoolID=pool.pool_id, Address=other, Options=as_gateway)
    assert said.startswith(f"the gateway of {pool.subnet} is {pool.gateway} in the whole cluster")


# What is undone


def test_a_join_that_etcd_refuses_leaves_nothing(hosts: DockerHosts) -> None:
    web = hosts.shown()
    host = hosts.all[0]
    theirs = host.dockerd.networks["web"].id
    address = host.say("RequestAddress", PoolID=web.pools[0].pool_id, Address="", Options=None)["Address"]
    host.say("CreateEndpoint", **endpoint(ipv4=address, net=theirs))
    hosts.store.quorum = False

    assert host.refused("Join", **joining(net=theirs))

    hosts.store.quorum = True
    assert not host.kernel.namespace_alive(host.space(web))
    host.tell("DeleteEndpoint", net=theirs)
    host.say("ReleaseAddress", PoolID=web.pools[0].pool_id, Address=address.partition("/")[0])
    eventually(lambda: set(hosts.claims().values()) == {""})
    assert host.controller.doctor() == []


def test_an_endpoint_that_has_left_is_no_finding(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    made = host.run("aa")

    host.tell("Leave", made.id, made.network.id)

    assert host.controller.doctor() == []
    host.tell("DeleteEndpoint", made.id, made.network.id)
    assert host.controller.doctor() == []


def test_a_network_of_dockerds_is_changed_by_docker_only(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    theirs = host.dockerd.networks["web"].id

    assert "is dockerd's: docker network rm" in refused(
        lambda: host.controller.delete_network(theirs), Forbidden
    )
    refused(lambda: host.controller.add_record(theirs, "api", "192.0.2.7"), Forbidden)
