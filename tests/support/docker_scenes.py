"""What users of Docker do, as scenes that a dockerd plays against cnm: afterwards everything is as it was before."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

import pytest

from tests.support.fake_dockerd import DockerError, FakeDockerd
from tests.support.fake_dockerd.commands import docker


def free_port() -> int:
    """A TCP port of this host that nobody holds now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def is_held(port: int) -> bool:
    """Whether somebody holds the TCP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


CREATE = "docker network create -d cnm --ipam-driver cnm"
PORT = free_port()
RUN = f"docker run -d --name c1 --network web -p {PORT}:80 -p 127.0.0.1::53/udp -p 7000-7001:7000-7001 bb"


class Play(ABC):
    """A dockerd, and the host that it and cnmd are on."""

    dockerd: FakeDockerd
    overlapping: frozenset[str] = frozenset()
    """Subnets (CIDR text) that overlap a route of dockerd's host."""

    def say(self, *commands: str) -> None:
        for command in commands:
            docker(self.dockerd, command)

    def settled(self) -> bool:
        """Nothing is wrong, and the endpoints are those of the containers that run."""
        running = [c.sandbox for c in self.dockerd.containers.values() if c.sandbox]
        joined = [e for sandbox in running for e in sandbox.endpoints if e.joined]
        assert self.findings() == []
        return self.endpoints() == len(joined)

    @abstractmethod
    def picture(self) -> dict[str, object]:
        """Everything that may be left of what was done."""

    @abstractmethod
    def endpoints(self) -> int:
        """How many cnmd knows."""

    @abstractmethod
    def findings(self) -> list[object]:
        """What doctor says."""

    @abstractmethod
    def stop_cnmd(self) -> None:
        """As SIGKILL does."""

    @abstractmethod
    def restart_cnmd(self) -> None:
        """SIGKILL, unless it was stopped already, and a new start."""

    @abstractmethod
    def lose_namespace(self, key: str) -> None:
        """A container's processes end, and nobody is there to tell."""

    @abstractmethod
    def collect(self) -> None:
        """Wait until what dockerd forgot is collected."""


def run_and_remove(play: Play) -> None:
    play.say(f"{CREATE} --ipv6 web", RUN)
    assert play.settled()
    assert is_held(PORT)
    play.say("docker rm -f c1", "docker network rm web")


def networks_of_all_sorts(play: Play) -> None:
    sorts = (
        "--subnet 10.90.0.0/16 --ip-range 10.90.5.0/24 --gateway 10.90.0.7 --aux-address a=10.90.5.2",
        "--internal",
        "--internal -o com.docker.network.bridge.gateway_mode_ipv4=isolated",
        "-o com.docker.network.bridge.gateway_mode_ipv4=routed",
        "--ipv6 --subnet 10.91.0.0/24 --subnet fd91::/64",
        "-o com.docker.network.bridge.inhibit_ipv4=true --internal",
    )
    for number, flags in enumerate(sorts):
        play.say(
            f"{CREATE} {flags} n{number}", f"docker run -d --name c{number} --network n{number} -p 80 bb"
        )
        assert play.settled()
    for number in range(len(sorts)):
        play.say(f"docker rm -f c{number}", f"docker network rm n{number}")


def other_drivers_addresses(play: Play) -> None:
    """Our IPAM with docker's bridge, and docker's IPAM with our bridge."""
    play.say(
        "docker network create -d bridge --ipam-driver cnm theirs",
        "docker network create -d cnm --ipam-driver default ours",
        "docker run -d --name c1 --network ours bb",
    )
    assert play.settled()
    play.say("docker rm -f c1", "docker network rm theirs ours")


def connect_and_disconnect(play: Play) -> None:
    for name in ("web", "db", "log"):
        play.say(f"{CREATE} {name}")
    play.say(f"{CREATE} --internal inner", RUN)
    for name in ("db", "inner", "log"):
        play.say(f"docker network connect {name} c1")
    assert play.settled()
    for name in ("web", "inner", "db"):
        play.say(f"docker network disconnect {name} c1")
        assert play.settled()
    play.say("docker network connect web c1", "docker rm -f c1", "docker network rm web db log inner")


def given_addresses(play: Play) -> None:
    play.say(
        f"{CREATE} --subnet 10.90.0.0/24 --ipv6 --subnet fd90::/64 web",
        "docker run -d --name c1 --network web --ip 10.90.0.9 --ip6 fd90::9 --mac-address 02:aa:bb:cc:dd:ee bb",
        "docker run -d --name c2 --network web bb",
    )
    with pytest.raises(DockerError, match="in use"):
        play.say("docker run -d --name c3 --network web --ip 10.90.0.9 bb")
    assert play.settled()
    play.say("docker rm -f c1 c2 c3", "docker network rm web")


def stops_and_restarts(play: Play) -> None:
    play.say(f"{CREATE} web", RUN, "docker restart c1", "docker stop c1")
    assert play.settled()
    assert not is_held(PORT)
    play.say("docker start c1", "docker kill c1", "docker start c1", "docker stop c1", "docker rm c1")
    play.say("docker network rm web")


def daemon_stops(play: Play) -> None:
    play.say(
        f"{CREATE} web", RUN, "docker run -d --restart always --name c2 --network web bb", "docker stop c1"
    )
    play.dockerd.daemon_stop()
    assert play.endpoints() == 0
    play.dockerd.daemon_start()
    assert play.settled()
    play.say("docker start c1", "docker rm -f c1 c2", "docker network rm web")


def daemon_stops_with_live_restore(play: Play) -> None:
    play.say(f"{CREATE} --ipv6 web", RUN)
    play.dockerd.daemon_stop(live_restore=True)
    play.dockerd.daemon_start(live_restore=True)
    assert play.settled()
    assert is_held(PORT)
    play.say("docker rm -f c1", "docker network rm web")


def daemon_is_killed(play: Play) -> None:
    play.say(f"{CREATE} --ipv6 web", RUN)
    play.dockerd.daemon_kill()
    play.dockerd.daemon_start()
    assert play.settled()
    play.say("docker start c1", "docker rm -f c1", "docker network rm web")


def daemon_is_killed_with_live_restore(play: Play) -> None:
    play.say(f"{CREATE} web", f"{CREATE} --subnet 10.90.0.0/24 db", RUN, "docker network connect db c1")
    play.dockerd.daemon_kill()
    play.dockerd.daemon_start(live_restore=True)
    assert play.settled()
    play.say("docker network disconnect db c1", "docker rm -f c1", "docker network rm web db")


def cnmd_is_killed_while_containers_run(play: Play) -> None:
    play.say(f"{CREATE} web", f"{CREATE} db", RUN)
    play.restart_cnmd()
    assert play.settled()
    assert is_held(PORT)
    play.say("docker network connect db c1")
    play.restart_cnmd()
    play.say("docker network disconnect web c1", "docker rm -f c1")
    play.restart_cnmd()
    play.say("docker network rm web db")


def both_are_killed(play: Play) -> None:
    play.say(f"{CREATE} --ipv6 web", RUN)
    play.dockerd.daemon_kill()
    play.restart_cnmd()
    play.dockerd.daemon_start(live_restore=True)
    assert play.settled()
    play.say("docker rm -f c1", "docker network rm web")


def cnmd_is_away_while_a_container_ends(play: Play) -> None:
    play.say(f"{CREATE} web", RUN)
    play.stop_cnmd()
    play.say("docker rm -f c1")
    play.restart_cnmd()
    play.collect()
    play.say("docker network rm web")


def a_port_is_taken(play: Play) -> None:
    play.say(f"{CREATE} web", RUN)
    with pytest.raises(DockerError, match="port is already allocated"):
        play.say(f"docker run -d --name c2 --network web -p {PORT}:80 bb")
    assert play.settled()
    play.say("docker rm -f c1 c2", "docker network rm web")


def subnets_are_rejected(play: Play) -> None:
    """dockerd keeps those that overlap a route of its own until it has another."""
    play.overlapping = frozenset({"172.18.0.0/16", "172.19.0.0/16"})
    play.say(f"{CREATE} web")
    assert [pool.subnet for pool in play.dockerd.networks["web"].pools] == ["172.20.0.0/16"]
    play.say("docker network rm web")


def a_network_is_refused(play: Play) -> None:
    for flags in ("-o nosuch=1", "-o com.docker.network.driver.mtu=7", "--subnet 127.1.0.0/24"):
        with pytest.raises(DockerError):
            play.say(f"{CREATE} {flags} web")


def a_container_ends_unheard(play: Play) -> None:
    """dockerd died with its container, and never says that it is gone."""
    play.say(f"{CREATE} web", RUN)
    container = play.dockerd.containers["c1"]
    assert container.sandbox is not None
    play.lose_namespace(container.sandbox.key)
    play.collect()
    assert not is_held(PORT)
    play.say("docker rm -f c1", "docker network rm web")


SCENES: tuple[Callable[[Play], None], ...] = (
    run_and_remove,
    networks_of_all_sorts,
    other_drivers_addresses,
    connect_and_disconnect,
    given_addresses,
    stops_and_restarts,
    daemon_stops,
    daemon_stops_with_live_restore,
    daemon_is_killed,
    daemon_is_killed_with_live_restore,
    cnmd_is_killed_while_containers_run,
    both_are_killed,
    cnmd_is_away_while_a_container_ends,
    a_port_is_taken,
    subnets_are_rejected,
    a_network_is_refused,
    a_container_ends_unheard,
)
