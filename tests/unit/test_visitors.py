"""What containers of dockerd's are answered at an address of the host's: names on those networks that they are on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.resolver import wire
from cnm.resolver.answers import Answers
from tests.unit.cluster_stage import eventually
from tests.unit.dns_queries import query
from tests.unit.docker_cluster_stage import DockerHost, DockerHosts

LISTENER = "172.17.0.1"


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[DockerHosts]:
    made = DockerHosts(tmp_path)
    yield made
    made.close()


class Visited:
    """A host whose containers ask from addresses that the test chose."""

    def __init__(self, host: DockerHost) -> None:
        self.host = host

    def run(self, container: str, source: str, network: str = "web") -> bytes:
        """Its packed address on the network; the worker has looked at it."""
        endpoint = self.host.run(container, network)
        known = self.host.controller.endpoint(endpoint.id)
        key = self.host.controller.sandbox(known.sandbox_id).netns
        self.host.kernel.sources[key] = source
        self.host.showing.look()
        return bytes(map(int, known.ipv4.partition("/")[0].split(".")))

    def answered(self, source: str, name: str) -> bytes | None:
        """What is said to whoever asks from there; None where it is refused."""
        book = self.host.resolver.state.book
        own = f"host {LISTENER} {source}"
        answer = Answers(book, own if book.has_scope(own) else f"host {LISTENER}").answer(query(name), True)
        assert isinstance(answer, bytes)
        return None if wire.rcode(answer) == wire.REFUSED else answer

    def finds(self, source: str, name: str, address: bytes) -> bool:
        return address in (self.answered(source, name) or b"")


def test_a_container_is_answered_of_the_networks_that_it_is_on(hosts: DockerHosts) -> None:
    hosts.shown("web"), hosts.shown("db")
    here, there = map(Visited, hosts.all)
    far = there.run("bb", "172.18.0.9")
    other = there.run("secret", "172.18.0.8", "db")
    here.run("aa", "172.18.0.2")

    eventually(lambda: here.finds("172.18.0.2", "bb", far))
    eventually(lambda: here.finds("172.18.0.2", "bb.web", far))
    assert here.answered("172.18.0.2", "secret") is None
    assert here.answered("172.18.0.2", "secret.db") is None
    here.run("dd", "172.18.0.3", "db")
    eventually(lambda: here.finds("172.18.0.3", "secret", other))
    assert here.answered("172.18.0.3", "bb") is None


def test_strangers_are_refused(hosts: DockerHosts) -> None:
    hosts.shown()
    here = Visited(hosts.all[0])
    here.run("aa", "172.18.0.2")

    for stranger in ("172.17.0.5", "192.0.2.2", LISTENER):
        assert here.answered(stranger, "aa.web") is None
    assert here.answered("172.18.0.2", "www.example.org") is None  # of no use to whoever reaches it


def test_a_container_that_left_is_a_stranger_at_once(hosts: DockerHosts) -> None:
    hosts.shown()
    here = Visited(hosts.all[0])
    address = here.run("aa", "172.18.0.2")
    assert here.finds("172.18.0.2", "aa", address)

    here.host.docker(here.host.dockerd.disconnect, "web", "aa")

    assert here.answered("172.18.0.2", "aa") is None


def test_an_address_that_two_would_ask_from_is_nobodys(hosts: DockerHosts) -> None:
    hosts.shown("web"), hosts.shown("db")
    here = Visited(hosts.all[0])
    first = here.run("aa", "10.9.0.2")
    here.run("bb", "10.9.0.2", "db")

    assert here.answered("10.9.0.2", "aa") is None
    here.host.docker(here.host.dockerd.rm, "bb")
    assert here.finds("10.9.0.2", "aa", first)


def test_a_container_whose_way_to_the_host_changes_is_known_by_the_new_one(hosts: DockerHosts) -> None:
    hosts.shown()
    here = Visited(hosts.all[0])
    address = here.run("aa", "172.18.0.2")
    (key,) = here.host.kernel.sources
    here.host.kernel.sources[key] = "172.20.0.7"

    here.host.showing.look()

    assert here.finds("172.20.0.7", "aa", address)
    assert here.answered("172.18.0.2", "aa") is None


def test_a_restarted_cnmd_answers_them_again(hosts: DockerHosts) -> None:
    hosts.shown()
    here = Visited(hosts.all[0])
    address = here.run("aa", "172.18.0.2")

    here.host.restart()

    assert here.finds("172.18.0.2", "aa", address)


def test_who_cannot_get_to_the_host_asks_from_nowhere(hosts: DockerHosts) -> None:
    hosts.shown("db", internal=True)
    here = Visited(hosts.all[0])

    here.run("aa", "", "db")

    assert here.answered("", "aa") is None
