"""Under a service manager: the resolver hands it its sockets, and the next one gets them where cnmd died as well."""

from __future__ import annotations

import array
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.resolver.client import Client, Told
from cnm.resolver.messages import Message, Verb, control_path
from cnm.resolver.records import Member, Scope
from cnm.sidecar import control_socket
from tests.support.names_lab import eventually


class Manager:
    """The part of systemd that a unit with a socket and FileDescriptorStoreMax= meets."""

    def __init__(self, place: Path) -> None:
        self._run = str(place)
        self.listener = control_socket.listen(control_path(self._run))
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._address = str(place / "notify")
        self.notify.bind(self._address)
        os.chmod(self._address, 0o666)
        self.stored: dict[str, int] = {}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        given = {"cnm-resolver.socket": self.listener.fileno(), **self.stored}
        helper = Path(__file__).parents[1] / "support" / "activated.py"
        command = [sys.executable, "-m", "cnm.resolver", "--run", self._run, "--workers", "2"]
        environment = {
            **os.environ,
            "LISTEN_FDNAMES": ":".join(given),
            "NOTIFY_SOCKET": self._address,
        }
        self.process = subprocess.Popen(
            [sys.executable, str(helper), "", *map(str, given.values()), "--", *command],
            env=environment,
            pass_fds=list(given.values()),
        )

    def listen(self) -> None:
        """Take in what has been said."""
        self.notify.setblocking(False)
        while True:
            try:
                data, ancillary, _, _ = self.notify.recvmsg(4096, socket.CMSG_SPACE(64))
            except BlockingIOError:
                return
            fields = dict(line.split("=", 1) for line in data.decode().splitlines())
            if "FDSTORE" in fields:
                found = array.array("i")
                found.frombytes(ancillary[0][2])
                self.stored[fields["FDNAME"]] = found[0]
            elif "FDSTOREREMOVE" in fields and fields["FDNAME"] in self.stored:
                os.close(self.stored.pop(fields["FDNAME"]))

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def connect(self) -> Client:
        channel = control_socket.connect(control_path(self._run), 3.0)
        assert channel is not None
        return Client(channel)

    def close(self) -> None:
        self.kill()
        self.listener.close()
        self.notify.close()
        for descriptor in self.stored.values():
            os.close(descriptor)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    place = Path("/run") / tmp_path.name
    """Which the resolver may enter, though it is nobody; /run is the test process' own."""
    place.mkdir()
    made = Manager(place)
    made.start()
    yield made
    made.close()
    shutil.rmtree(place)


def sockets() -> dict[str, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    for each in (udp, tcp):
        each.bind(("127.0.0.1", 0))
    tcp.listen()
    return {"udp": udp, "tcp": tcp}


def told(scope: str, given: dict[str, socket.socket]) -> list[Told]:
    """A whole snapshot: one zone, one scope."""
    body = {"scope": Scope(scope, ("w",)), "sockets": list(given)}
    return [
        Told(Message(Verb.BEGIN)),
        Told(Message(Verb.ZONE, "w", "web")),
        Told(Message(Verb.MEMBER, "w", Member("m", ("front",), "10.1.0.2", ""))),
        Told(Message(Verb.SCOPE, scope, body), list(given.values())),
        Told(Message(Verb.COMMIT)),
    ]


def test_what_is_served_is_kept_and_what_is_not_is_let_go(manager: Manager) -> None:
    client = manager.connect()
    assert client.tell(told("box", sockets())) == []
    manager.listen()
    assert set(manager.stored) == {"box.udp", "box.tcp"}

    assert client.tell([Told(Message(Verb.UNSCOPE, "box"))]) == []

    manager.listen()
    assert manager.stored == {}
    client.close()


def test_others_in_their_place_are_kept_instead(manager: Manager) -> None:
    """As when a sandbox's namespace was made anew: what was kept would keep the old one."""
    client = manager.connect()
    client.tell(told("box", sockets()))
    others = sockets()

    client.tell(told("box", others))

    manager.listen()
    for name, each in others.items():
        assert os.path.sameopenfile(manager.stored[f"box.{name}"], each.fileno())
    client.close()


def test_the_next_one_gives_them_to_a_cnmd_that_died_as_well(manager: Manager) -> None:
    given = sockets()
    port = given["udp"].getsockname()[1]
    client = manager.connect()
    client.tell(told("box", given))
    manager.listen()
    client.close()
    for each in given.values():
        each.close()
    manager.kill()

    manager.start()
    client = manager.connect()
    held = client.list()

    assert set(held) == {"box"}
    assert held["box"]["udp"].getsockname()[1] == port
    assert client.tell(told("box", held["box"])) == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        from tests.unit.dns_queries import addresses, query

        asking.settimeout(3)
        asking.sendto(query("front"), ("127.0.0.1", port))
        assert addresses(asking.recv(1000)) == ["10.1.0.2"]
    for each in held["box"].values():
        each.close()
    client.close()


def test_what_the_next_cnmd_does_not_want_is_let_go(manager: Manager) -> None:
    client = manager.connect()
    client.tell(told("gone", sockets()))
    manager.listen()
    client.close()
    manager.kill()
    manager.start()

    client = manager.connect()
    client.tell(told("box", sockets()))

    manager.listen()
    eventually(lambda: set(manager.stored) == {"box.udp", "box.tcp"})
    client.close()
