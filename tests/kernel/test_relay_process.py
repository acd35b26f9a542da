"""The relay as a process: what it carries between real hosts, what it may do, and how cnmd keeps and finds it."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cnm.endpoint import PortMapping, PortRequest, Protocol
from cnm.errors import InvalidParameter, KernelError, Unavailable
from cnm.kernel.reservations import Reservations
from cnm.relay.messages import control_path
from cnm.relays import Relay, Relays
from cnm.sidecar import control_socket
from netns_fixtures import Status, Topology, probe_all
from netns_fixtures.plugin import TopologyFactory

_TOPOLOGY = {
    "hosts": {
        "client": {"uplink": "host"},
        "host": {},
        "four": {"uplink": "host"},
        "six": {"uplink": "host"},
    },
    "links": [
        {
            "ends": [
                {"host": "client", "interface": "eth0", "addresses": ["192.0.2.10/24", "2001:db8:1::10/64"]},
                {"host": "host", "interface": "uplink", "addresses": ["192.0.2.1/24", "2001:db8:1::1/64"]},
            ]
        },
        {
            "ends": [
                {"host": "four", "interface": "eth0", "addresses": ["172.18.0.2/24"]},
                {"host": "host", "interface": "br4", "addresses": ["172.18.0.1/24"]},
            ]
        },
        {
            "ends": [
                {"host": "six", "interface": "eth0", "addresses": ["2001:db8:6::2/64"]},
                {"host": "host", "interface": "br6", "addresses": ["2001:db8:6::1/64"]},
            ]
        },
    ],
}
"""A host with a container that has only IPv4 and one that has only IPv6, and a client outside that has both."""

_FOUR = "172.18.0.2"
_SIX = "2001:db8:6::2"
_HOST4 = "192.0.2.1"
_HOST6 = "2001:db8:1::1"


@dataclass
class Daemon:
    """What cnmd has of the relay, in the host's namespace."""

    hosts: Topology
    relays: Relays
    reservations: Reservations
    run_dir: str

    def port(self, protocol: str = "tcp", address: str = "") -> tuple[int, int]:
        """(number, descriptor) of a host port that was just reserved."""
        asked = PortRequest(protocol=Protocol(protocol), container_port=80, host_address=address)
        (mapping,) = self.reservations.reserve([asked])
        holder = self.reservations.socket_of(mapping)
        assert holder is not None
        return mapping.host_port, holder.fileno()

    def serve(
        self, target: tuple[str, int], protocol: str = "tcp", address: str = "", ident: str = "a"
    ) -> int:
        """Relay a new host port; returns its number."""
        number, descriptor = self.port(protocol, address)
        self.relays.update({ident: Relay(protocol, descriptor, target)})
        return number

    def restart(self) -> Relays:
        """A second daemon over the same run directory; the first one leaves its relay behind."""
        self.relays.close()
        self.relays = Relays(self.run_dir)
        return self.relays

    def connect(self, port: int) -> socket.socket:
        with self.hosts.client.enter():
            return socket.create_connection((_HOST6, port), timeout=10)

    def descriptors(self) -> set[str]:
        return set(os.listdir(f"/proc/{self.relays.pid}/fd"))


@pytest.fixture(scope="module")
def hosts(make_module_topology: TopologyFactory) -> Topology:
    return make_module_topology(_TOPOLOGY)


@pytest.fixture
def daemon(hosts: Topology, tmp_path: Path) -> Iterator[Daemon]:
    with hosts.host.enter():
        daemon = Daemon(hosts, Relays(str(tmp_path)), Reservations(), str(tmp_path))
        yield daemon
        if not daemon.relays._keeper.closing:
            daemon.relays.stop()


def _await(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """For what has no descriptor to wait for: another process's table, another thread's variable."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.01)


def _await_end(pid: int, seconds: float = 10.0) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended, _, _ = select.select([process], [], [], seconds)
    os.close(process)
    assert ended, f"process {pid} goes on"


def _is_reset(end: socket.socket) -> bool:
    """Waits for the end of a connection; whether that is a reset."""
    end.settimeout(10)
    try:
        assert end.recv(1) == b""
    except ConnectionResetError:
        return True
    return False


def _connects_and_is_reset(daemon: Daemon, port: int) -> bool:
    try:
        with daemon.connect(port) as client:
            return _is_reset(client)
    except ConnectionResetError:  # so soon that connect() had not returned
        return True


# What it carries


@pytest.mark.parametrize(
    ("where", "target", "to"),
    [("four", _FOUR, _HOST6), ("six", _SIX, _HOST4), ("six", _SIX, _HOST6)],
    ids=["from IPv6 to IPv4", "from IPv4 to IPv6", "within IPv6"],
)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_clients_outside_reach_a_container_of_the_other_family(
    daemon: Daemon, where: str, target: str, to: str, protocol: str
) -> None:
    server = daemon.hosts.hosts[where]
    served = server.serve_tcp() if protocol == "tcp" else server.serve_udp()
    port = daemon.serve((target, served.port), protocol)

    client = daemon.hosts.client
    outcome = client.connect_tcp(to, port) if protocol == "tcp" else client.send_udp(to, port)

    assert outcome.answered
    assert outcome.payload == where.encode()
    assert outcome.served == (target, served.port)
    assert outcome.peer == (to, port)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_the_host_reaches_a_container_through_its_own_loopback_address(daemon: Daemon, protocol: str) -> None:
    server = daemon.hosts.four
    served = server.serve_tcp() if protocol == "tcp" else server.serve_udp()
    port = daemon.serve((_FOUR, served.port), protocol, address="::1")

    host = daemon.hosts.host
    outcome = host.connect_tcp("::1", port) if protocol == "tcp" else host.send_udp("::1", port)

    assert outcome.payload == b"four"


def test_the_end_of_one_direction_leaves_the_other_open(daemon: Daemon) -> None:
    with daemon.hosts.four.enter():
        listener = socket.create_server((_FOUR, 0))
    port = daemon.serve(listener.getsockname())

    with listener, daemon.connect(port) as client:
        server, _ = listener.accept()
        with server:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            assert server.makefile("rb").read() == b"question"
            server.sendall(b"answer")
            server.shutdown(socket.SHUT_WR)
            assert client.makefile("rb").read() == b"answer"


def test_a_closed_container_port_resets_the_client(daemon: Daemon) -> None:
    port = daemon.serve((_FOUR, 9))

    assert _connects_and_is_reset(daemon, port)


def test_two_hundred_clients_at_once_are_served_and_leave_nothing_behind(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    port = daemon.serve((_FOUR, served.port))
    before = daemon.descriptors()

    outcomes = probe_all([lambda: daemon.hosts.client.connect_tcp(_HOST6, port, timeout=20)] * 200)

    assert {outcome.payload for outcome in outcomes} == {b"four"}
    _await(lambda: daemon.descriptors() == before)


def test_two_hundred_refusals_leave_nothing_behind(daemon: Daemon) -> None:
    port = daemon.serve((_FOUR, 9))
    before = daemon.descriptors()

    resets = probe_all([lambda: _connects_and_is_reset(daemon, port)] * 200)

    assert all(resets)
    _await(lambda: daemon.descriptors() == before)


def test_bulk_data_passes_whole_in_both_directions_at_once(daemon: Daemon) -> None:
    with daemon.hosts.four.enter():
        listener = socket.create_server((_FOUR, 0))
    port = daemon.serve(listener.getsockname())
    data = os.urandom(1 << 20) * 32
    with listener, daemon.connect(port) as client, listener.accept()[0] as server:
        received: dict[str, bytes] = {}
        ends = {"client": client, "server": server}
        threads = [
            threading.Thread(target=_exchange, args=(ends[name], data, received, name)) for name in ends
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert received == {"client": data, "server": data}


def _exchange(end: socket.socket, data: bytes, received: dict[str, bytes], name: str) -> None:
    def send() -> None:
        end.sendall(data)
        end.shutdown(socket.SHUT_WR)

    end.settimeout(60)
    sender = threading.Thread(target=send)
    sender.start()
    received[name] = end.makefile("rb").read()
    sender.join()


# What cnmd says


def test_a_dropped_port_is_refused_and_its_connections_are_reset(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp(echo=True)
    port = daemon.serve((_FOUR, served.port))
    client = daemon.connect(port)
    client.recv(100)

    daemon.relays.update({}, drop=["a"])

    assert _is_reset(client)
    assert daemon.hosts.client.connect_tcp(_HOST6, port).status is Status.REFUSED
    client.close()


def test_a_released_port_can_be_reserved_again_although_connections_were_open(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp(echo=True)
    asked = [PortRequest(container_port=80, host_port=8080)]
    held = daemon.reservations.reserve(asked)
    holder = daemon.reservations.socket_of(held[0])
    assert holder is not None
    daemon.relays.update({"a": Relay("tcp", holder.fileno(), (_FOUR, served.port))})
    client = daemon.connect(8080)

    daemon.relays.update({}, drop=["a"])
    daemon.reservations.release(held)

    assert daemon.reservations.reserve(asked) == held
    client.close()


def test_another_target_takes_the_place_of_the_first(daemon: Daemon) -> None:
    first, second = (
        daemon.hosts.four.serve_tcp(payload=b"first"),
        daemon.hosts.six.serve_tcp(payload=b"second"),
    )
    port, descriptor = daemon.port()
    daemon.relays.update({"a": Relay("tcp", descriptor, (_FOUR, first.port))})

    daemon.relays.update({"a": Relay("tcp", descriptor, (_SIX, second.port))})

    assert daemon.hosts.client.connect_tcp(_HOST6, port).payload == b"second"


def test_many_ports_are_served_at_once_and_found_again(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    ports = {str(number): descriptor for number, descriptor in (daemon.port() for _ in range(500))}
    wanted = {name: Relay("tcp", descriptor, (_FOUR, served.port)) for name, descriptor in ports.items()}

    daemon.relays.update(wanted)
    held = daemon.restart().start()

    assert {name: end.getsockname()[1] for name, end in held.items()} == {name: int(name) for name in ports}
    for end in held.values():
        end.close()
    daemon.relays.reconcile(wanted)
    for name in list(ports)[::100]:
        assert daemon.hosts.client.connect_tcp(_HOST6, int(name)).payload == b"four"


def test_what_cannot_be_relayed_is_refused_and_changes_nothing(daemon: Daemon) -> None:
    _port, descriptor = daemon.port("udp")
    good = Relay("udp", descriptor, (_FOUR, 80))

    with pytest.raises(InvalidParameter, match="relay of b: protocol sctp cannot be relayed"):
        daemon.relays.update({"a": good, "b": Relay("sctp", descriptor, (_FOUR, 80))})
    assert daemon.relays.pid == 0
    with pytest.raises(Unavailable, match=r"relay of b to 172.18.0.2 port 80: its socket does not speak tcp"):
        daemon.relays.update({"b": Relay("tcp", descriptor, (_FOUR, 80))})


def test_nothing_runs_before_something_is_to_be_relayed(daemon: Daemon) -> None:
    assert daemon.relays.start() == {}
    daemon.relays.reconcile({})
    daemon.relays.update({}, drop=["unknown"])

    assert daemon.relays.pid == 0
    assert not Path(control_path(daemon.run_dir)).exists()


# What it may do


def test_it_is_nobody_without_capabilities_and_without_a_way_to_any(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))

    lines = Path(f"/proc/{daemon.relays.pid}/status").read_text().splitlines()
    status = {key: value.split() for key, _, value in (line.partition(":") for line in lines)}

    assert status["Uid"] == status["Gid"] == ["65534"] * 4
    assert status["Groups"] == []
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind][0], 16) == 0
    assert status["NoNewPrivs"] == ["1"]


def test_it_inherits_no_descriptors_and_keeps_no_directory(daemon: Daemon) -> None:
    mine = os.open("/", os.O_RDONLY)
    os.set_inheritable(mine, True)
    daemon.serve((_FOUR, 80))

    pid = daemon.relays.pid
    files = {
        os.readlink(f"/proc/{pid}/fd/{number}").partition(":")[0]
        for number in daemon.descriptors() - {"1", "2"}
    }

    assert files == {"/dev/null", "socket", "anon_inode"}
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    os.close(mine)


def test_its_control_socket_is_for_its_owner_only(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))

    assert os.stat(control_path(daemon.run_dir)).st_mode & 0o777 == 0o600


def test_it_stays_in_the_daemons_namespace_and_out_of_its_session(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))

    pid = daemon.relays.pid
    assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/thread-self/ns/net").st_ino
    assert os.getsid(pid) == pid


def test_it_is_not_started_from_another_namespace(daemon: Daemon) -> None:
    _port, descriptor = daemon.port()

    with (
        daemon.hosts.client.enter(),
        pytest.raises(KernelError, match="not in the daemon's network namespace"),
    ):
        daemon.relays.update({"a": Relay("tcp", descriptor, (_FOUR, 80))})

    assert daemon.relays.pid == 0


def test_a_run_directory_that_is_gone_is_named(daemon: Daemon) -> None:
    os.rmdir(daemon.run_dir)
    _port, descriptor = daemon.port()

    with pytest.raises(Unavailable, match=r"relay.sock cannot be made: no such file or directory"):
        daemon.relays.update({"a": Relay("tcp", descriptor, (_FOUR, 80))})


# How it lives on


def test_a_killed_relay_is_replaced_and_loses_no_client_that_waits(daemon: Daemon) -> None:
    tcp, udp = daemon.hosts.four.serve_tcp(), daemon.hosts.four.serve_udp()
    tcp_port = daemon.serve((_FOUR, tcp.port))
    udp_port = daemon.serve((_FOUR, udp.port), "udp", ident="b")
    killed = daemon.relays.pid

    os.kill(killed, signal.SIGKILL)
    _await_end(killed)
    outcome = daemon.hosts.client.connect_tcp(_HOST6, tcp_port, timeout=10)

    assert outcome.payload == b"four"
    assert daemon.hosts.client.send_udp(_HOST6, udp_port, timeout=10).payload == b"four"
    assert daemon.relays.pid not in (0, killed)
    assert not Path(f"/proc/{killed}").exists()


def test_a_relay_that_is_killed_again_and_again_comes_back(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    port = daemon.serve((_FOUR, served.port))

    for _ in range(3):
        killed = daemon.relays.pid
        os.kill(killed, signal.SIGKILL)
        _await(lambda killed=killed: daemon.relays.pid not in (0, killed))  # type: ignore[misc]

    assert daemon.hosts.client.connect_tcp(_HOST6, port, timeout=10).payload == b"four"


def test_a_relay_killed_with_nothing_to_serve_stays_away(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))
    daemon.relays.update({}, drop=["a"])
    killed = daemon.relays.pid

    os.kill(killed, signal.SIGKILL)
    _await(lambda: daemon.relays.pid == 0)

    daemon.relays._keeper._watchers[-1].join(10)
    assert not daemon.relays._keeper._watchers[-1].is_alive()
    assert daemon.relays.pid == 0


def test_a_port_is_served_although_the_relay_died_just_before(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    daemon.serve((_FOUR, served.port))
    os.kill(daemon.relays.pid, signal.SIGKILL)

    port = daemon.serve((_FOUR, served.port), ident="b")

    assert daemon.hosts.client.connect_tcp(_HOST6, port, timeout=10).payload == b"four"


def test_connections_go_on_over_a_restart_of_the_daemon(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp(echo=True)
    port, descriptor = daemon.port()
    wanted = {"a": Relay("tcp", descriptor, (_FOUR, served.port))}
    daemon.relays.update(wanted)
    pid = daemon.relays.pid
    client = daemon.connect(port)
    client.recv(100)

    held = daemon.restart().start()
    client.sendall(b"meanwhile")
    assert client.recv(100) == b"meanwhile"
    daemon.relays.reconcile(wanted)
    client.sendall(b"after")

    assert client.recv(100) == b"after"
    assert daemon.relays.pid == pid
    for end in (client, *held.values()):
        end.close()


def test_a_daemon_that_lost_its_sockets_gets_them_back(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    port, descriptor = daemon.port()
    daemon.relays.update({"a": Relay("tcp", descriptor, (_FOUR, served.port))})
    daemon.reservations.release([PortMapping(protocol=Protocol.TCP, container_port=80, host_port=port)])
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("::", port), family=socket.AF_INET6)

    (front,) = daemon.restart().start().values()

    assert front.getsockname()[1] == port
    assert not os.get_inheritable(front.fileno())
    daemon.relays.reconcile({"a": Relay("tcp", front.fileno(), (_FOUR, served.port))})
    front.close()
    assert daemon.hosts.client.connect_tcp(_HOST6, port).payload == b"four"


def test_what_a_restarted_daemon_does_not_want_is_dropped(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp(echo=True)
    kept, kept_descriptor = daemon.port()
    gone, gone_descriptor = daemon.port()
    target = (_FOUR, served.port)
    daemon.relays.update(
        {"kept": Relay("tcp", kept_descriptor, target), "gone": Relay("tcp", gone_descriptor, target)}
    )
    client = daemon.connect(gone)
    client.recv(100)

    for front in daemon.restart().start().values():
        front.close()
    daemon.relays.reconcile({"kept": Relay("tcp", kept_descriptor, target)})

    assert _is_reset(client)
    assert daemon.hosts.client.connect_tcp(_HOST6, gone).status is Status.REFUSED
    assert daemon.hosts.client.connect_tcp(_HOST6, kept).payload == b"four"
    client.close()


def test_a_relay_with_nothing_to_serve_ends_when_the_daemon_leaves(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))
    daemon.relays.update({}, drop=["a"])
    pid = daemon.relays.pid

    daemon.relays.close()

    _await_end(pid)


def test_a_relay_ends_when_a_restarted_daemon_wants_nothing(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))
    pid = daemon.relays.pid

    for front in daemon.restart().start().values():
        front.close()
    daemon.relays.reconcile({})

    _await_end(pid)


def test_a_stopped_relay_is_gone_and_its_ports_refuse(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    port = daemon.serve((_FOUR, served.port))
    pid = daemon.relays.pid

    daemon.relays.stop()

    assert not Path(f"/proc/{pid}").exists()
    assert daemon.hosts.client.connect_tcp(_HOST6, port).status is Status.REFUSED


def test_a_relay_that_a_gone_daemon_left_can_be_stopped(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))
    pid = daemon.relays.pid

    daemon.restart().stop()

    assert not Path(f"/proc/{pid}").exists()


def test_a_relay_of_another_namespace_is_replaced(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    with daemon.hosts.client.enter():
        elsewhere = Relays(daemon.run_dir)
        foreign = socket.create_server(("::", 0), family=socket.AF_INET6)
        elsewhere.update({"foreign": Relay("tcp", foreign.fileno(), (_FOUR, 80))})
        pid = elsewhere.pid
        elsewhere.close()

    assert daemon.relays.start() == {}
    _await_end(pid)
    port = daemon.serve((_FOUR, served.port))

    assert daemon.hosts.client.connect_tcp(_HOST6, port).payload == b"four"
    foreign.close()


def test_a_relay_that_hangs_is_an_error_and_one_that_wakes_up_is_used_again(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = daemon.hosts.four.serve_tcp()
    port = daemon.serve((_FOUR, served.port))
    pid = daemon.relays.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr("cnm.sidecar.keeper.ANSWER_SECONDS", 0.5)
            with pytest.raises(Unavailable, match="the relay does not"):
                daemon.serve((_FOUR, served.port), ident="b")
    finally:
        os.kill(pid, signal.SIGCONT)

    _await(lambda: daemon.relays.pid == pid)
    assert daemon.hosts.client.connect_tcp(_HOST6, port, timeout=10).payload == b"four"


# Started by others

_AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-m", "cnm.relay"])
"""
"""Passes a listening socket to the relay as sd_listen_fds(3) describes."""


def _start_by_hand(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "cnm.relay", *arguments], stderr=subprocess.PIPE)


def test_it_can_be_started_by_hand_before_the_daemon(daemon: Daemon) -> None:
    served = daemon.hosts.four.serve_tcp()
    with _start_by_hand("--run", daemon.run_dir) as process:
        _await(lambda: os.path.exists(control_path(daemon.run_dir)))
        port = daemon.serve((_FOUR, served.port))

        assert daemon.relays.pid == process.pid
        assert daemon.hosts.client.connect_tcp(_HOST6, port).payload == b"four"
        daemon.relays.stop()


def test_it_takes_the_socket_that_systemd_passes(daemon: Daemon) -> None:
    listener = control_socket.listen(control_path(daemon.run_dir))
    with subprocess.Popen(
        [sys.executable, "-c", _AS_SYSTEMD, str(listener.fileno())], pass_fds=[listener.fileno()]
    ) as process:
        listener.close()
        daemon.serve((_FOUR, 80))

        assert daemon.relays.pid == process.pid
        daemon.relays.stop()


def test_a_second_one_for_the_same_directory_is_refused(daemon: Daemon) -> None:
    daemon.serve((_FOUR, 80))

    with _start_by_hand("--run", daemon.run_dir) as second:
        _output, error = second.communicate(timeout=20)

    assert second.returncode == 1
    assert error.decode().endswith(
        "relay.sock is served by another process: end it, or choose another run directory\n"
    )


def test_what_is_no_control_socket_is_refused(daemon: Daemon) -> None:
    with _start_by_hand("--control-fd", "0") as process:
        _output, error = process.communicate(timeout=20)

    assert process.returncode == 1
    assert error.decode().startswith("cnm-relay: descriptor 0 is not a control socket: ")
