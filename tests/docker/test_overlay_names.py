"""Names of containers on other hosts' dockerds: asked through dockerd's `--dns`, answered to who is on the network."""

from __future__ import annotations

from collections.abc import Iterator

import dns.message
import dns.query
import dns.rcode
import pytest

from netns_fixtures import Host
from tests.cluster.hosts import NEEDS_ETCD, eventually
from tests.docker.docker_lab import NEEDS_DOCKERD
from tests.docker.overlay_lab import NAME_SERVER, DockerCluster, DockerClusterHost, docker_cluster
from tests.support.dns_server import DnsServer, serving

pytestmark = [NEEDS_DOCKERD, NEEDS_ETCD]


@pytest.fixture(scope="module")
def lab() -> Iterator[DockerCluster]:
    with docker_cluster(2) as lab:
        yield lab


@pytest.fixture
def web(lab: DockerCluster) -> Iterator[DockerCluster]:
    """With a network `web`."""
    lab.create("web")
    yield lab
    lab.remove("web")


def finds(host: DockerClusterHost, container: str, name: str, address: str) -> bool:
    try:
        return address in host.docker("exec", container, "nslookup", name)
    except RuntimeError:
        return False


def answers(asker: Host, name: str) -> list[object]:
    """What the listener says over UDP and over TCP to whoever asks from there: addresses, or an error's name."""
    asked = dns.message.make_query(name, "A")
    with asker.enter():
        said = [each(asked, NAME_SERVER, timeout=5) for each in (dns.query.udp, dns.query.tcp)]
    return [
        [str(a) for rrset in each.answer for a in rrset] or dns.rcode.to_text(each.rcode()) for each in said
    ]


def test_containers_find_each_other_by_name_across_hosts(web: DockerCluster) -> None:
    one, two = web.h.values()
    ident = one.run("aa", "--network", "web", "--network-alias", "front")
    two.run("bb", "--network", "web")

    for name in ("aa", "aa.web", "front", ident[:12]):
        eventually(lambda name=name: two.pings("bb", name))  # type: ignore[misc]
        assert finds(two, "bb", name, one.address_of("aa"))
    eventually(lambda: one.pings("aa", "bb"))
    assert not two.pings("bb", "nobody")

    one.docker("rename", "aa", "renamed")
    eventually(lambda: two.pings("bb", "renamed"))
    assert not finds(two, "bb", "aa", one.address_of("renamed"))
    one.docker("rm", "-f", "renamed")
    eventually(lambda: not two.pings("bb", "renamed"))


def test_names_are_told_to_containers_of_their_network_only(web: DockerCluster) -> None:
    one, two = web.h.values()
    web.create("db")
    one.run("aa", "--network", "web")
    one.run("secret", "--network", "db")
    two.run("bb", "--network", "web")
    two.run("stranger")
    eventually(lambda: two.pings("bb", "aa"))

    hidden, known = one.address_of("secret", "db"), one.address_of("aa")
    for name in ("secret", "secret.db"):
        assert not finds(two, "bb", name, hidden)
        assert not finds(two, "stranger", name, hidden)
    assert not finds(two, "stranger", "aa.web", known)
    inside = two.docker("inspect", "--format", "{{.State.Pid}}", "bb")
    assert answers(Host("bb", f"/proc/{inside}/ns/net"), "aa.web") == [[known], [known]]
    assert answers(two.net, "aa.web") == ["REFUSED", "REFUSED"]  # as all who are no container on web

    two.docker("network", "connect", "db", "bb")
    eventually(lambda: two.pings("bb", "secret"))
    assert two.pings("bb", "aa")
    two.docker("network", "disconnect", "web", "bb")
    eventually(lambda: not finds(two, "bb", "aa", known))
    assert finds(two, "bb", "secret", hidden)
    web.remove("db")


def test_what_cnmd_does_not_know_docker_asks_of_the_next_server(web: DockerCluster) -> None:
    one, two = web.h.values()
    one.run("aa", "--network", "web")
    with serving(one.net, DnsServer(one.address, {"www.example": "198.51.100.7"})) as next_one:
        two.run("bb", "--network", "web", "--dns", NAME_SERVER, "--dns", one.address)

        eventually(lambda: finds(two, "bb", "www.example", "198.51.100.7"))
        eventually(lambda: finds(two, "bb", "aa", one.address_of("aa")))
        before = len(next_one.asked)
        assert finds(two, "bb", "aa", one.address_of("aa"))
        assert len(next_one.asked) == before


def test_a_container_that_reaches_its_host_another_way_is_known_by_that(web: DockerCluster) -> None:
    one, two = web.h.values()
    one.run("aa", "--network", "web")
    two.run("bb", "--network", "web")
    eventually(lambda: two.pings("bb", "aa"))
    two.docker("network", "create", "plain")

    two.docker("network", "connect", "plain", "bb")
    eventually(lambda: two.pings("bb", "aa"))
    two.docker("network", "disconnect", "plain", "bb")
    eventually(lambda: two.pings("bb", "aa"))
    two.docker("network", "rm", "plain")


def test_names_are_found_while_cnmd_is_down_and_after_its_restart(web: DockerCluster) -> None:
    one, two = web.h.values()
    one.run("aa", "--network", "web")
    two.run("bb", "--network", "web")
    eventually(lambda: two.pings("bb", "aa"))

    two.cnmd.kill()
    assert two.pings("bb", "aa")
    two.start()
    eventually(lambda: two.pings("bb", "aa"))
    one.run("cc", "--network", "web")
    eventually(lambda: two.pings("bb", "cc"))


def test_a_container_that_is_started_again_keeps_its_name(web: DockerCluster) -> None:
    one, two = web.h.values()
    one.run("aa", "--network", "web")
    two.run("bb", "--network", "web")
    eventually(lambda: two.pings("bb", "aa"))

    one.docker("stop", "--time", "0", "aa")
    eventually(lambda: not two.pings("bb", "aa"))
    one.docker("start", "aa")
    eventually(lambda: two.pings("bb", "aa"))
    two.docker("restart", "--time", "0", "bb")
    eventually(lambda: two.pings("bb", "aa"))


def test_status_names_containers_that_ask_somebody_else(web: DockerCluster) -> None:
    one = web.h[1]
    one.run("aa", "--network", "web")
    one.run("bb", "--network", "web", "--dns", "192.0.2.254")

    eventually(lambda: one.docker_warnings() != [])

    assert one.docker_warnings() == [
        f'container bb on network web finds no names on other hosts: put "dns": ["{NAME_SERVER}", "192.0.2.254"] into '
        f"/etc/docker/daemon.json and restart dockerd, or run it with --dns {NAME_SERVER}"
    ]
    assert "container bb" in one.shell("cnmctl status").stderr + one.shell("cnmctl status").stdout
