"""Ports that a Docker user publishes on a cnm network, asked for from the host, from outside and by neighbours."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from netns_fixtures import Host
from tests.docker.docker_lab import HOST, NEEDS_DOCKERD, OUTSIDE, DockerLab, running_lab

pytestmark = NEEDS_DOCKERD

FAMILIES = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
NETWORK = ("--ipv6", "--subnet", "10.80.0.0/24", "--subnet", "fd80::/64")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLab]:
    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        running.docker("network", "create", "--driver", "cnm", *NETWORK, "web")
        yield running


@pytest.fixture(autouse=True)
def no_container_is_left(lab: DockerLab) -> Iterator[None]:
    yield
    if containers := lab.docker("ps", "--all", "--quiet").split():
        lab.docker("rm", "--force", *containers)
    assert lab.findings() == []


def fetch(source: Host, address: str, port: int, seconds: float = 3.0) -> str:
    """What the web server there says, "" without an answer."""
    reply = source.connect_tcp(address, port, send=b"GET / HTTP/1.0\r\n\r\n", timeout=seconds)
    return reply.payload.decode().rpartition("\r\n\r\n")[2].strip() if reply.answered else ""


@FAMILIES
def test_a_published_port_is_reached_from_outside(lab: DockerLab, version: int) -> None:
    lab.serve("front", "--network", "web", "--publish", "8080:80")

    assert fetch(lab.outside, HOST[version], 8080) == "front"


@FAMILIES
def test_the_container_sees_who_asked(lab: DockerLab, version: int) -> None:
    lab.run("front", "--network", "web", "--publish", "8080:80")

    with lab.adopted("front") as box:
        server = box.serve_tcp(80)

        assert lab.outside.connect_tcp(HOST[version], 8080, timeout=3.0).answered
        assert [peer.address for peer in server.peers] == [OUTSIDE[version]]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", HOST[4], HOST[6]])
def test_a_published_port_is_reached_from_the_host_itself(lab: DockerLab, address: str) -> None:
    lab.serve("front", "--network", "web", "--publish", "8080:80")

    assert fetch(lab.host, address, 8080) == "front"


def test_an_unpublished_port_is_not_reached_from_outside(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "8080:81")

    lab.outside.run(["ip", "route", "replace", "10.80.0.0/24", "via", HOST[4]])

    assert fetch(lab.outside, lab.address("front", "web"), 80, seconds=0.5) == ""
    assert fetch(lab.host, lab.address("front", "web"), 80) == "front"


def test_a_range_is_published_one_to_one(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "8078-8080:78-80")

    assert fetch(lab.outside, HOST[4], 8080) == "front"
    shown = lab.cnmd.cnmctl("port", "ls").stdout
    assert "78" in shown
    assert "8078" in shown


def test_a_host_range_gives_the_first_free_port(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "8085-8089:80")
    lab.serve("back", "--network", "web", "--publish", "8085-8089:80")

    assert fetch(lab.outside, HOST[4], 8085) == "front"
    assert fetch(lab.outside, HOST[4], 8086) == "back"


def test_exposed_ports_are_published_by_capital_p(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--expose", "80", "--publish-all")

    (listed,) = [e for e in lab.cnmd.ask("GET", "/cnm/v1/endpoints") if e["Ports"]]
    (port,) = listed["Ports"]
    assert port["ContainerPort"] == 80
    assert fetch(lab.outside, HOST[4], port["HostPort"]) == "front"


def test_a_port_on_loopback_is_for_the_host_only(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "127.0.0.1:8080:80")

    assert fetch(lab.host, "127.0.0.1", 8080) == "front"
    assert fetch(lab.outside, HOST[4], 8080, seconds=0.5) == ""


@FAMILIES
def test_datagrams_are_published(lab: DockerLab, version: int) -> None:
    lab.run("front", "--network", "web", "--publish", "8053:53/udp")

    with lab.adopted("front") as box:
        server = box.serve_udp(53)

        assert lab.outside.send_udp(HOST[version], 8053, timeout=3.0).answered
        assert [peer.address for peer in server.peers] == [OUTSIDE[version]]


def test_a_port_that_a_container_has_is_refused_with_dockers_words(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "8080:80")

    with pytest.raises(RuntimeError, match="port is already allocated"):
        lab.run("back", "--network", "web", "--publish", "8080:80")

    lab.docker("rm", "--force", "front")
    lab.docker("start", "back")


def test_a_port_that_a_program_of_the_host_has_is_refused(lab: DockerLab) -> None:
    with lab.host.socket(socket.AF_INET, socket.SOCK_STREAM) as taken:
        taken.bind(("", 8081))

        with pytest.raises(RuntimeError, match="port is already allocated"):
            lab.run("front", "--network", "web", "--publish", "8081:80")


def test_a_port_is_free_when_its_container_is_gone(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "8080:80")
    lab.docker("rm", "--force", "front")

    assert fetch(lab.outside, HOST[4], 8080, seconds=0.5) == ""
    with lab.host.socket(socket.AF_INET, socket.SOCK_STREAM) as free:
        free.bind(("", 8080))


def test_a_neighbour_reaches_a_published_port_by_the_host(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "8080:80")
    lab.run("back", "--network", "web")

    assert lab.inside("back", "wget", "-qO-", f"http://{HOST[4]}:8080/") == "front"
    assert lab.inside("front", "wget", "-qO-", f"http://{HOST[4]}:8080/") == "front"


def test_ports_move_along_when_another_network_becomes_the_way_out(lab: DockerLab) -> None:
    lab.docker("network", "create", "--driver", "cnm", "--subnet", "10.81.0.0/24", "abc")
    lab.serve("front", "--network", "web", "--publish", "8080:80")
    lab.docker("network", "connect", "abc", "front")

    assert fetch(lab.outside, HOST[4], 8080) == "front"
    lab.docker("network", "disconnect", "web", "front")
    assert fetch(lab.outside, HOST[4], 8080) == "front"
    lab.docker("rm", "--force", "front")
    lab.docker("network", "rm", "abc")


def test_three_hundred_ports_of_one_container(lab: DockerLab) -> None:
    lab.serve("front", "--network", "web", "--publish", "9001-9300:1-300")

    assert fetch(lab.outside, HOST[4], 9080) == "front"


def test_a_routed_network_opens_the_ports_of_its_containers(lab: DockerLab) -> None:
    mode = "com.docker.network.bridge.gateway_mode_ipv4=routed"
    lab.docker("network", "create", "--driver", "cnm", "--subnet", "10.82.0.0/24", "-o", mode, "open")
    lab.outside.run(["ip", "route", "replace", "10.82.0.0/24", "via", HOST[4]])
    lab.serve("front", "--network", "open", "--publish", "80")
    lab.serve("back", "--network", "open")

    assert fetch(lab.outside, lab.address("front", "open"), 80) == "front"
    assert fetch(lab.outside, lab.address("back", "open"), 80, seconds=0.5) == ""
    lab.docker("rm", "--force", "front", "back")
    lab.docker("network", "rm", "open")
