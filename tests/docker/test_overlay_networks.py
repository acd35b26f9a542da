"""Networks of a cluster in the real dockerds of its hosts: plain `docker run --network` on each."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cluster.hosts import NEEDS_ETCD, eventually
from tests.docker.docker_lab import NEEDS_DOCKERD
from tests.docker.overlay_lab import DockerCluster, DockerClusterHost, docker_cluster

pytestmark = [NEEDS_DOCKERD, NEEDS_ETCD]


@pytest.fixture(scope="module")
def lab() -> Iterator[DockerCluster]:
    with docker_cluster(3) as lab:
        yield lab


@pytest.fixture
def web(lab: DockerCluster) -> Iterator[DockerCluster]:
    """With a network `web`, that can be removed at the end, since nobody holds anything of it."""
    lab.create("web")
    yield lab
    lab.remove("web")
    for host in lab.h.values():
        assert host.cnmd.ask("GET", "/cnm/v1/endpoints") == []
        eventually(lambda host=host: host.cnmd.findings() == [])  # type: ignore[misc]


def reach_each_other(
    hosts: list[tuple[DockerClusterHost, str]], network: str = "web", key: str = "IPAddress"
) -> None:
    """Whoever is in a container of these hosts pings all the others by address."""
    for host, container in hosts:
        for other, target in hosts:
            address = other.address_of(target, network, key)
            eventually(lambda h=host, c=container, a=address: h.pings(c, a))  # type: ignore[misc]


def test_containers_of_all_dockerds_reach_each_other(web: DockerCluster) -> None:
    one, two, three = web.h.values()
    for host, name in ((one, "aa"), (two, "bb"), (three, "cc")):
        host.run(name, "--network", "web")

    reach_each_other([(one, "aa"), (two, "bb"), (three, "cc")])

    addresses = {one.address_of("aa"), two.address_of("bb"), three.address_of("cc")}
    assert len(addresses) == 3
    inspected = [json.loads(h.docker("network", "inspect", "web"))[0] for h in web.h.values()]
    assert len({json.dumps(each["IPAM"]["Config"]) for each in inspected}) == 1
    assert {each["Driver"] for each in inspected} == {"cnm-overlay"}
    assert all("10.0." in address for address in addresses)


def test_the_way_out_and_published_ports_are_dockers(web: DockerCluster) -> None:
    one, two, _ = web.h.values()
    one.serve("front", "--network", "web", "-p", "8080:80")

    request = b"GET / HTTP/1.0\r\n\r\n"
    assert two.net.connect_tcp(one.address, 8080, send=request, timeout=5.0).answered
    assert one.docker("port", "front") != ""
    assert one.pings("front", two.address)  # past the host
    routes = one.docker("exec", "front", "ip", "route")
    assert "default via 172." in routes


def test_an_internal_network_leads_nowhere_else(lab: DockerCluster) -> None:
    lab.create("db", "--internal")
    one, two, _ = lab.h.values()
    one.run("aa", "--network", "db")
    two.run("bb", "--network", "db")

    reach_each_other([(one, "aa"), (two, "bb")], "db")
    assert "default" not in one.docker("exec", "aa", "ip", "route")
    assert not one.pings("aa", two.address)
    lab.remove("db")


def test_both_families_and_several_subnets(lab: DockerCluster) -> None:
    lab.create(
        "both", "--ipv6", "--subnet", "10.50.1.0/24", "--subnet", "10.50.2.0/24", "--subnet", "fd50::/64"
    )
    one, two, _ = lab.h.values()
    one.run("aa", "--network", "both", "--ip", "10.50.1.7")
    two.run("bb", "--network", "both", "--ip", "10.50.2.7")

    reach_each_other([(one, "aa"), (two, "bb")], "both")
    reach_each_other([(one, "aa"), (two, "bb")], "both", "GlobalIPv6Address")
    lab.remove("both")


def test_containers_that_start_at_once_on_all_hosts_have_addresses_of_their_own(lab: DockerCluster) -> None:
    lab.create("small", "--subnet", "10.60.0.0/28")
    hosts = list(lab.h.values())
    wanted = [(host, f"c{number}") for number in range(4) for host in hosts]
    with ThreadPoolExecutor(len(wanted)) as pool:
        list(pool.map(lambda one: one[0].run(one[1], "--network", "small"), wanted))

    addresses = {host.address_of(name, "small") for host, name in wanted}

    assert len(addresses) == len(wanted) == 12
    hosts[0].run("last", "--network", "small")  # of sixteen: two are no host's, one is the gateway
    with pytest.raises(RuntimeError, match="no available addresses on this pool"):
        hosts[1].run("more", "--network", "small")
    lab.remove("small")


def test_an_address_that_another_host_has_is_refused(web: DockerCluster) -> None:
    one, two, _ = web.h.values()
    one.run("aa", "--network", "web")
    taken = one.address_of("aa")

    with pytest.raises(RuntimeError, match=r"Address already in use: .* by host h1"):
        two.run("bb", "--network", "web", "--ip", taken)


def test_a_running_container_comes_and_goes(web: DockerCluster) -> None:
    one, two, _ = web.h.values()
    one.run("aa", "--network", "web")
    two.run("bb")

    for _ in range(2):
        two.docker("network", "connect", "web", "bb")
        reach_each_other([(one, "aa"), (two, "bb")])
        assert " dev eth100 " in two.docker("exec", "bb", "ip", "route")  # made inside
        two.docker("network", "disconnect", "web", "bb")

    one.docker("network", "disconnect", "web", "aa")
    one.docker("network", "connect", "web", "aa")
    two.docker("network", "connect", "web", "bb")
    reach_each_other([(one, "aa"), (two, "bb")])


def test_sandboxes_of_ours_are_on_the_same_network(web: DockerCluster) -> None:
    one, two, _ = web.h.values()
    two.cnmd.create_sandbox("box")
    made = two.cnmd.connect("web", "box")
    one.run("aa", "--network", "web", "--dns-search", "web")
    two.run("bb", "--network", "web")

    address = made["IPv4Address"].partition("/")[0]
    eventually(lambda: one.pings("aa", address))
    eventually(lambda: one.pings("aa", "box"))
    for name in ("aa", "bb"):
        eventually(lambda name=name: _asks(two, "box", name))  # type: ignore[misc]
    two.cnmd.ask("DELETE", "/cnm/v1/sandboxes/box?force=1")


def _asks(host: DockerClusterHost, box: str, name: str) -> bool:
    return host.shell(f"cnmctl sandbox exec {box} getent hosts {name}").returncode == 0


def test_a_restart_of_cnmd_changes_nothing(web: DockerCluster) -> None:
    one, two, three = web.h.values()
    one.run("aa", "--network", "web")
    two.run("bb", "--network", "web")
    eventually(lambda: one.pings("aa", "bb.web"))

    for host in (one, two):
        host.cnmd.kill()
        assert one.pings("aa", two.address_of("bb"))
        host.start()  # where that takes longer than its lease, the others have to hear of it again
        eventually(lambda: one.pings("aa", two.address_of("bb")))

    eventually(lambda: one.pings("aa", "bb.web"))
    eventually(lambda: two.pings("bb", "aa.web"))
    three.run("cc", "--network", "web")
    reach_each_other([(one, "aa"), (two, "bb"), (three, "cc")])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_dockerd_that_ends_keeps_nothing_claimed(web: DockerCluster, number: int) -> None:
    """That the network can be removed at the end shows that nothing is."""
    one, two, _ = web.h.values()
    one.run("aa", "--network", "web")
    two.run("bb", "--network", "web")
    eventually(lambda: one.pings("aa", two.address_of("bb")))

    two.end_docker(number)
    two.start_docker()
    assert two.has_network("web")

    two.docker("start", "bb")
    reach_each_other([(one, "aa"), (two, "bb")])


def test_a_network_that_is_used_elsewhere_is_not_removed(web: DockerCluster) -> None:
    one, two, _ = web.h.values()
    two.run("bb", "--network", "web")

    done = one.cnmd.cnmctl("network", "rm", "web")

    assert "network web is in use on h2" in done.stderr
    assert all(host.has_network("web") for host in web.h.values())


def test_docker_is_told_where_overlay_networks_come_from(lab: DockerCluster) -> None:
    with pytest.raises(RuntimeError, match="create it with cnmctl network create -d overlay --docker NAME"):
        lab.h[2].docker("network", "create", "-d", "cnm-overlay", "--ipam-driver", "cnm-overlay", "own")
    with pytest.raises(RuntimeError, match="create it with cnmctl network create -d overlay --docker NAME"):
        lab.h[2].docker("network", "create", "-d", "cnm-overlay", "own")


def test_a_network_that_somebody_removed_from_docker_comes_again(web: DockerCluster) -> None:
    host = web.h[2]
    before = host.network_id("web")

    assert host.docker("network", "rm", "web") == "web"

    eventually(lambda: host.network_id("web") not in ("", before))
