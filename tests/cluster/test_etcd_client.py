"""A client of a real etcd in its process: whom it trusts, and what it leaves alone."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Denied, EtcdError, Following, Put
from cnm.errors import InvalidParameter
from tests.support.etcd import EtcdCluster
from tests.support.etcd_certificates import EtcdAuthority
from tests.support.etcd_stage import Heard, connect, eventually

_NUMBERS = itertools.count(1)


@pytest.fixture
def at() -> str:
    return f"/client/{next(_NUMBERS)}/"


@pytest.fixture
def client(lone_etcd: EtcdCluster) -> Iterator[Client]:
    made = connect(lone_etcd)
    yield made
    made.close()


def test_a_member_of_another_cluster_is_not_trusted(lone_etcd: EtcdCluster) -> None:
    client = Client(lone_etcd.endpoints, EtcdAuthority("another").pem, *lone_etcd.root)

    with pytest.raises(EtcdError, match=r"127\.0\.0\.1:\d+: its certificate is not of this cluster"):
        client.get("/a")
    client.close()


def test_a_member_by_another_name_is_not_trusted(lone_etcd: EtcdCluster) -> None:
    client = Client(lone_etcd.endpoints, lone_etcd.authority.pem, *lone_etcd.root, server_name="other.cnm")

    with pytest.raises(EtcdError, match="its certificate is not of this cluster"):
        client.get("/a")
    client.close()


def test_a_certificate_of_another_cluster_is_not_accepted(lone_etcd: EtcdCluster) -> None:
    client = connect(lone_etcd, EtcdAuthority("another").client("root"))

    with pytest.raises(EtcdError, match="it does not accept our certificate"):
        client.get("/a")
    client.close()


def test_nobody_there_is_one_line_that_names_them() -> None:
    authority = EtcdAuthority()
    client = Client(["127.0.0.1:1", "[::1]:1", "localhost:1"], authority.pem, *authority.client("root"))

    with pytest.raises(EtcdError) as caught:
        client.put("/a", b"")
    client.close()

    line = str(caught.value)
    assert line.startswith("etcd cannot write /a: ")
    assert "127.0.0.1:1: connection refused" in line
    assert "[::1]:1: " in line
    assert "localhost:1: " in line
    assert "\n" not in line


@pytest.mark.parametrize("endpoints", [[], ["10.0.0.1"], ["https://10.0.0.1:2379"], ["fd00::1:2379"]])
def test_endpoints_are_host_and_port(endpoints: list[str]) -> None:
    authority = EtcdAuthority()

    with pytest.raises(InvalidParameter, match="HOST:PORT"):
        Client(endpoints, authority.pem, *authority.client("root"))


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_what_is_no_certificate_is_refused_at_once(client: Client, wrong: int) -> None:
    authority = EtcdAuthority()
    pems = [authority.pem, *authority.client("root")]
    pems[wrong] = b"/etc/cnm/a-path.pem"

    with pytest.raises(InvalidParameter, match="no PEM text"):
        Client(["127.0.0.1:1"], *pems)
    with pytest.raises(InvalidParameter, match="no PEM text"):
        client.set_identity(*pems)


def test_a_user_that_nobody_made_is_denied(lone_etcd: EtcdCluster) -> None:
    stranger = connect(lone_etcd, lone_etcd.authority.client("stranger"))

    with pytest.raises(Denied):
        stranger.get("/a")
    stranger.close()


def test_children_are_started_beside_it_and_inherit_nothing(client: Client, at: str) -> None:
    heard, stopping = Heard(), threading.Event()
    client.watch(at, client.list(at).revision + 1, heard.listener)
    heard.wait_until(Following.CURRENT)

    def write() -> None:
        while not stopping.is_set():
            client.put(at + "a", b"")

    writer = threading.Thread(target=write)
    writer.start()
    listing = [sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"]
    try:
        for start_new_session in (False, True):
            for _ in range(10):
                said = subprocess.run(
                    listing, capture_output=True, text=True, timeout=20, start_new_session=start_new_session
                )
                assert said.stdout.strip() == "['0', '1', '2', '3']"
        for _ in range(10):  # what a fork without exec does to gRPC's threads does not reach the parent
            child = os.fork()
            if not child:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stopping.set()
        writer.join(20)
    count = len(heard.events)
    client.put(at + "b", b"")

    eventually(lambda: len(heard.events) > count and heard.events[-1].key == at + "b")
    assert heard.stood == [Following.CURRENT]


def test_a_closed_client_leaves_no_thread(lone_etcd: EtcdCluster, at: str) -> None:
    before = set(threading.enumerate())
    client, heard = connect(lone_etcd), Heard()
    client.watch(at, 1, heard.listener)
    client.keep_lease(10, lambda number: None)
    client.transact([], [Put(at + "a", b"")])
    eventually(lambda: heard.stood)
    assert set(threading.enumerate()) - before

    client.close()

    eventually(lambda: not set(threading.enumerate()) - before)


def test_threads_share_a_client(client: Client, at: str) -> None:
    def claim(number: int) -> None:
        for key in range(50):
            client.put(f"{at}{number}/{key}", b"%d" % key)

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(client.list(at).items) == 400
