"""The worker that makes networks of the cluster appear in dockerd, and learns what containers are called there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.resolver.answers import Answers
from tests.unit.cluster_stage import eventually
from tests.unit.dns_queries import query
from tests.unit.docker_cluster_stage import DockerHost, DockerHosts


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[DockerHosts]:
    made = DockerHosts(tmp_path)
    yield made
    made.close()


def create_calls(host: DockerHost) -> int:
    return host.api.asked.count("POST /networks/create")


# Networks


def test_a_network_comes_and_goes_in_every_docker_by_itself(hosts: DockerHosts) -> None:
    for host in hosts.all:
        host.work()

    hosts.all[0].show()
    eventually(lambda: all("web" in host.dockerd.networks for host in hosts.all))

    hosts.all[1].controller.delete_network("web")
    eventually(lambda: not any("web" in host.dockerd.networks for host in hosts.all))
    assert [host.leased() for host in hosts.all] == [[], []]


def test_what_is_there_is_left_as_it_is(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]

    host.showing.look()

    assert create_calls(host) == 1
    assert host.status_warnings() == []


def test_other_networks_of_the_cluster_are_not_dockers(hosts: DockerHosts) -> None:
    hosts.all[0].overlay("own")

    hosts.all[0].showing.look()

    assert hosts.all[0].dockerd.networks == {}


def test_a_network_of_dockers_with_the_same_name_is_not_touched(hosts: DockerHosts) -> None:
    host = hosts.all[0]
    theirs = host.docker(host.dockerd.network_create, "web", driver="bridge", ipam_driver="default")
    host.show()

    host.showing.look()

    assert host.dockerd.networks["web"] is theirs
    assert create_calls(host) == 0
    assert (
        f"network web of the cluster is not in Docker here, which has another one of this name: docker network rm "
        f"{theirs.id[:12]}"
    ) in host.status_warnings()

    host.docker(host.dockerd.network_rm, "web")
    host.showing.look()
    assert host.dockerd.networks["web"].driver == "cnm-overlay"
    assert not any("another one" in warning for warning in host.status_warnings())


def test_what_dockerd_refuses_is_told_and_tried_again(hosts: DockerHosts) -> None:
    host = hosts.all[0]
    host.show()
    host.api.refuses_to_create = "no space left on device"

    pauses = [host.showing.look(), host.showing.look(4.0)]

    assert pauses == [0.5, 8.0]
    said = "network web of the cluster is not in Docker here, which says: no space left on device"
    assert said in host.status_warnings()
    host.api.refuses_to_create = ""
    host.showing.look()
    assert "web" in host.dockerd.networks


def test_a_dockerd_that_is_away_is_looked_for_again(hosts: DockerHosts) -> None:
    host = hosts.all[0]
    host.api.away = True
    host.work()
    host.show()
    eventually(lambda: "GET /networks" in host.api.asked)

    host.api.away = False

    eventually(lambda: "web" in host.dockerd.networks)


def test_what_waits_for_a_dockerd_is_told(hosts: DockerHosts) -> None:
    host = hosts.all[0]
    host.api.away = True
    host.showing.look()
    assert host.status_warnings() == []  # where nothing waits, none is missed

    host.show()
    host.showing.look()

    (said,) = host.status_warnings()
    assert said.startswith("network web of the cluster cannot be shown to Docker here: dockerd at ")
    assert said.endswith('; where there is to be none, set docker-host = ""')
    host.api.away = False
    host.showing.look()
    assert host.status_warnings() == []


def test_a_dockerd_that_starts_is_looked_at_at_once(hosts: DockerHosts) -> None:
    host = hosts.all[0]
    host.show()
    host.work()
    eventually(lambda: "web" in host.dockerd.networks)
    host.docker(host.dockerd.network_rm, "web")

    host.ask("/Plugin.Activate")

    eventually(lambda: "web" in host.dockerd.networks)


def test_a_network_with_containers_stays_in_docker_until_they_are_gone(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[1]
    host.run("aa")
    (web,) = (n for n in host.controller.networks() if n.name == "web")
    host.resources.model.drop(web)  # as if others had made it go without asking

    host.showing.look()

    (said,) = (warning for warning in host.status_warnings() if "keeps it" in warning)
    assert said.startswith("network web was removed from the cluster, and Docker here keeps it: ")
    host.docker(host.dockerd.rm, "aa")
    host.showing.look()
    assert "web" not in host.dockerd.networks
    assert host.leased() == []
    assert not host.kernel.namespace_alive(host.space(web))
    assert host.controller.doctor() == []


def test_nothing_is_taken_away_while_the_cluster_is_silent(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    (web,) = (n for n in host.controller.networks() if n.name == "web")
    host.resources.model.drop(web)
    hosts.store.quorum = False
    eventually(lambda: not host.controller.dockerd.knows_all_networks())

    host.showing.look()

    assert "web" in host.dockerd.networks


def test_a_host_that_left_has_none_of_the_clusters_networks_in_docker(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[1]

    host.controller.left_cluster()
    host.showing.look()

    assert "web" not in host.dockerd.networks
    assert host.leased() == []
    assert "web" in hosts.all[0].dockerd.networks


# Names


def answers(host: DockerHost, name: str) -> bytes:
    """What the host's own programs are answered."""
    answered = Answers(host.resolver.state.book, "host 127.0.0.12").answer(query(name), udp=True)
    assert isinstance(answered, bytes)
    return answered


def test_names_of_containers_are_told_to_the_cluster_and_on_their_host(hosts: DockerHosts) -> None:
    web = hosts.shown()
    one, two = hosts.all
    two.run("other")
    one.api.aliases["aa"] = ["Front", "aa"]
    made = one.run("aa")
    assert hosts.endpoints(web)[made.id].names == ()  # packets do not wait for names

    one.showing.look()

    short = hosts.endpoints(web)[made.id].names[-1]
    assert hosts.endpoints(web)[made.id].names == ("aa", "front", short)
    for name in ("aa.web", "front.web"):
        for host in hosts.all:
            eventually(lambda name=name, host=host: address_of(made) in answers(host, name))

    one.docker(one.dockerd.rm, "aa")

    for host in hosts.all:
        eventually(lambda host=host: address_of(made) not in answers(host, "aa.web"))


def address_of(endpoint: object) -> bytes:
    return bytes(map(int, endpoint.address.partition("/")[0].split(".")))  # type: ignore[attr-defined]


def test_sandboxes_of_ours_find_containers(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    box, _ = host.boxed("box")
    made = host.run("aa")

    host.showing.look()

    found = host.resolver.state.book.find(box.id, "aa")
    assert found is not None
    assert list(found.ipv4) == [address_of(made)]


def test_a_renamed_container_is_called_by_its_new_name(hosts: DockerHosts) -> None:
    web = hosts.shown()
    host = hosts.all[0]
    made = host.run("aa")
    host.work()
    eventually(lambda: hosts.endpoints(web)[made.id].names[:1] == ("aa",))

    host.api.rename("aa", "bb")

    eventually(lambda: hosts.endpoints(web)[made.id].names[:1] == ("bb",))
    assert address_of(made) in answers(host, "bb.web")
    assert address_of(made) not in answers(host, "aa.web")


def test_names_are_known_again_after_a_restart(hosts: DockerHosts) -> None:
    web = hosts.shown()
    host = hosts.all[0]
    made = host.run("aa")
    host.showing.look()
    named = hosts.endpoints(web)[made.id]

    host.restart()

    assert address_of(made) in answers(host, "aa.web")
    eventually(lambda: hosts.endpoints(web).get(made.id) == named)


def test_a_name_that_etcd_cannot_be_told_keeps_nobody_from_being_reached(hosts: DockerHosts) -> None:
    web = hosts.shown()
    one, two = hosts.all
    made = one.run("aa")
    two.run("bb")
    eventually(lambda: two.reached(web))
    hosts.store.quorum = False

    one.showing.look()

    assert two.reached(web) == {made.address.partition("/")[0]: "192.0.2.1"}
    hosts.store.quorum = True
    eventually(lambda: hosts.endpoints(web)[made.id].names[:1] == ("aa",))
    assert two.reached(web)


def test_networks_are_called_after_dockers(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    standing = host.dockerd.networks["web"].id

    host.controller.dockerd.rename_network(host.controller.network(standing), "web")

    assert host.controller.network(standing).name == "web@docker"


# Whom containers ask


def test_a_container_that_asks_somebody_else_for_names_is_told_of(hosts: DockerHosts) -> None:
    hosts.shown()
    host = hosts.all[0]
    assert host.status_warnings() == []
    etc = Path(host.resources.settings.etc)
    etc.mkdir(exist_ok=True)
    (etc / "resolv.conf").write_text("nameserver 127.0.0.53\nnameserver 192.0.2.54\n")
    host.run("aa", dns=["192.0.2.53"], ports=["8080:80"])
    host.run("bb", dns=["172.17.0.1", "192.0.2.53"], ports=["8081:80"])
    host.run("cc")
    host.showing.look()

    said = host.status_warnings()

    assert said == [
        f'container {name} on network web finds no names on other hosts: put "dns": ["172.17.0.1", "{server}"] into '
        "/etc/docker/daemon.json and restart dockerd, or run it with --dns 172.17.0.1"
        for name, server in (("aa", "192.0.2.53"), ("cc", "192.0.2.54"))
    ]
    host.docker(host.dockerd.rm, "aa")
    host.docker(host.dockerd.rm, "cc")
    assert host.status_warnings() == []


def test_without_an_address_for_containers_nobody_finds_names(tmp_path: Path) -> None:
    hosts = DockerHosts(tmp_path, 1, dns_listen="127.0.0.12")
    host = hosts.all[0]
    assert host.status_warnings() == []
    hosts.shown()

    assert host.status_warnings() == [
        "Docker's containers find no names on other hosts: give dns-listen an address of this host that they reach, "
        "see docs/docker.md"
    ]
    hosts.close()
