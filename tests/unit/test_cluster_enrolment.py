"""The listener for those who join, over real TLS on the loopback: who is let in, and what is taken from strangers."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

import cnm
from cnm.cluster import certificates, keys, records, tokens
from cnm.cluster.certificates import Subject
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.home import Home, NodeRecord, Phase
from cnm.cluster.registry import Registry
from cnm.errors import CnmError, Forbidden, InvalidParameter, Unavailable
from cnm.membership import asking
from cnm.membership.enrolment import MAX_BODY, Enrolment, Listener, RateLimit, Where
from cnm.wire.cluster import Enrol
from tests.support.memory_users import MemoryUsers

ADDRESS = "127.0.0.1"
CLUSTER_ID = "ab" * 32


class Stage:
    """A member's home, a cluster in memory, and a listener on a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = certificates.new_authority(CLUSTER_ID)
        self.users = MemoryUsers()
        self.etcd = MemoryEtcd(MemoryStore())
        self.etcd.put(keys.CLUSTER, records.encode(records.Cluster(id=CLUSTER_ID, created="")))
        self.registry = Registry(self.etcd, self.users, self.authority)
        self.home = self.home_of("member", Subject("h1.0", (ADDRESS,)))
        self.home.write(self.home.authority_key, self.authority.key)
        self.port = _free_port()
        where = Where(CLUSTER_ID, ["192.0.2.1:2379"], [f"{ADDRESS}:{self.port}"])
        self.listener = Listener(
            Enrolment(self.registry, self.home, lambda: where), self.home, ADDRESS, self.port
        )

    def home_of(self, name: str, subject: Subject) -> Home:
        key = certificates.new_key()
        certificate = certificates.issue(self.authority, certificates.request(key, "x"), subject)
        home = Home(str(self.folder / name))
        (self.folder / name).mkdir()
        home.begin(NodeRecord(phase=Phase.IN, cluster_id=CLUSTER_ID, name=name, advertise=ADDRESS))
        home.write(home.authority, self.authority.certificate)
        home.write(home.node, certificates.credential(key, certificate))
        return home

    def asked(self, **changes: Any) -> Enrol:
        """A request that is good once."""
        fields: dict[str, Any] = {
            "secret": tokens.secret_text(self.registry.new_token(60, "h1").secret),
            "name": "web1",
            "addresses": ["192.0.2.7"],
            "csr": certificates.request(certificates.new_key(), "web1"),
            "member": False,
            "version": cnm.__version__,
        }
        return Enrol(**(fields | changes))

    def enrol(self, **changes: Any) -> Any:
        return asking.enrol(ADDRESS, self.port, self.authority.certificate, self.asked(**changes))

    def node(self, name: str = "web1") -> asking.Members:
        """What an enrolled node asks with its certificate."""
        key = certificates.new_key()
        enrolled = self.enrol(name=name, csr=certificates.request(key, name))
        home = self.home_of(name, Subject("replaced"))
        home.write(home.node, certificates.credential(key, enrolled.certificate))
        return asking.Members(home, [(ADDRESS, self.port)])

    def says(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        """To whoever shows no certificate."""
        context = ssl.create_default_context(cadata=self.authority.certificate)
        connection = HTTPSConnection(ADDRESS, self.port, context=context, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def _free_port() -> int:
    with socket.create_server((ADDRESS, 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    made.listener.start()
    yield made
    made.listener.close()


def test_who_has_a_token_gets_a_certificate(stage: Stage) -> None:
    enrolled = stage.enrol()

    assert certificates.user(enrolled.certificate).startswith("web1.")
    assert enrolled.authority == stage.authority.certificate
    assert (enrolled.cluster_id, enrolled.endpoints) == (CLUSTER_ID, ["192.0.2.1:2379"])
    assert enrolled.authority_key == ""


def test_only_a_member_gets_the_authoritys_key(stage: Stage) -> None:
    enrolled = stage.enrol(member=True)

    assert enrolled.authority_key == stage.authority.key


def test_the_authority_is_told_to_anyone_and_checked_against_the_token(stage: Stage) -> None:
    token = stage.registry.new_token(60, "h1")

    told = asking.authority_of(ADDRESS, stage.port, token)
    assert (told.certificate, told.adopted_etcd) == (stage.authority.certificate, False)
    with pytest.raises(Forbidden, match="is in another cluster than the join token"):
        asking.authority_of(ADDRESS, stage.port, token._replace(authority=bytes(32)))


def test_no_secret_is_said_to_a_host_of_another_authority(stage: Stage) -> None:
    other = certificates.new_authority("cd" * 32)

    with pytest.raises(Forbidden, match=r"is no member of this cluster: .*certificate"):
        asking.enrol(ADDRESS, stage.port, other.certificate, stage.asked())
    assert stage.etcd.list(keys.REGISTRATIONS).items == []


def test_no_secret_is_said_to_a_node_that_is_no_member(stage: Stage, tmp_path: Path) -> None:
    home = stage.home_of("thief", Subject("web9.0"))
    port = _free_port()
    where = Where(CLUSTER_ID, [], [])
    thief = Listener(Enrolment(stage.registry, home, lambda: where), home, ADDRESS, port)
    thief.start()
    try:
        with pytest.raises(Forbidden, match="is no member of this cluster"):
            asking.enrol(ADDRESS, port, stage.authority.certificate, stage.asked())
    finally:
        thief.close()
    assert stage.etcd.list(keys.REGISTRATIONS).items == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"secret": "abc"}, "malformed"),
        ({"csr": "nonsense"}, "is not one in PEM"),
        ({"addresses": []}, "between 1 and 64 addresses"),
        ({"addresses": ["192.0.2.1"] * 65}, "between 1 and 64 addresses"),
        ({"addresses": ["somewhere"]}, "is no address"),
        ({"addresses": ["127.0.0.1"]}, "cannot be advertised"),
        ({"name": "a/b"}, "invalid node name"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(
    stage: Stage, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidParameter, match=problem):
        stage.enrol(**changes)
    assert stage.etcd.list(keys.REGISTRATIONS).items == []


def test_a_renewal_needs_a_certificate(stage: Stage) -> None:
    for path in ("/cnm/v1/renew", "/cnm/v1/confirm", "/cnm/v1/leave"):
        assert stage.says("POST", path, b"{}") == (
            403,
            {"message": "this is asked with the node's certificate, and none was shown"},
        )


def test_a_node_renews_its_certificate_and_leaves(stage: Stage) -> None:
    node = stage.node()
    key = certificates.new_key()

    renewed = node.renew(certificates.request(key, "web1"))
    node._home.write(node._home.node, certificates.credential(key, renewed))
    node.confirm()

    assert [user for user in stage.users.users() if user.startswith("web1.")] == [certificates.user(renewed)]
    node.leave()
    assert stage.etcd.get(keys.registration("web1")) is None
    with pytest.raises(Forbidden, match="is no node of the cluster any more"):
        node.confirm()


def test_a_certificate_of_another_authority_is_turned_away(stage: Stage, tmp_path: Path) -> None:
    node = stage.node()
    other = certificates.new_authority("cd" * 32)
    key = certificates.new_key()
    forged = certificates.issue(other, certificates.request(key, "x"), Subject("web1.0"))
    node._home.write(node._home.node, certificates.credential(key, forged))

    with pytest.raises(CnmError, match=r"or does not accept our certificate$"):
        node.leave()
    assert stage.etcd.get(keys.registration("web1")) is not None


def test_strangers_find_no_other_page(stage: Stage) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/cnm/v1/enrol"),
        ("POST", "/cnm/v1/authority"),
        ("GET", "/networks"),
    ):
        assert stage.says(method, path) == (404, {"message": "page not found"})


def test_a_long_body_is_refused_unread(stage: Stage) -> None:
    status, answer = stage.says("POST", "/cnm/v1/enrol", b"x" * (MAX_BODY + 1))

    assert (status, answer) == (413, {"message": f"the request's body is larger than {MAX_BODY} bytes"})


def test_too_many_requests_of_one_host_are_refused_for_a_while() -> None:
    now = [0.0]
    limit = RateLimit(lambda: now[0])

    assert sum(limit.passes("192.0.2.7") for _ in range(200)) == 30
    assert limit.passes("192.0.2.8")
    now[0] += 2
    assert sum(limit.passes("192.0.2.7") for _ in range(200)) == 4


def test_all_hosts_together_have_a_limit() -> None:
    limit = RateLimit(lambda: 0.0)

    assert sum(limit.passes(f"192.0.2.{number}") for number in range(250)) == 100


def test_where_nobody_listens_is_told() -> None:
    port = _free_port()

    with pytest.raises(
        Unavailable, match=rf"^cannot reach 127.0.0.1:{port}: connection refused: is it a member"
    ):
        asking.authority_of(ADDRESS, port, tokens.new(bytes(32), 0))


def test_where_no_tls_is_spoken_is_told() -> None:
    with socket.create_server((ADDRESS, 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unavailable, match=r"is no member of a cluster: "):
            asking.authority_of(ADDRESS, port, tokens.new(bytes(32), 0))
        thread.join()
