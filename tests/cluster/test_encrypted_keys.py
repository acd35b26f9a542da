"""The keys and tunnels of encrypted networks on real hosts: made, replaced, taken up, brought back, and given up."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cnm.kernel import wireguard_uapi
from tests.cluster.boxes import Box, create
from tests.cluster.hosts import NEEDS_ETCD, NEEDS_WIREGUARD, ClusterHost, ClusterLab, eventually, joined_lab
from tests.support.packet_stream import PacketStream

pytestmark = [pytest.mark.root, NEEDS_ETCD, NEEDS_WIREGUARD]


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    with joined_lab(members=1, clients=1) as made:
        create(list(made.h.values()), "web", Options={"encrypted": ""})
        yield made


@pytest.fixture(scope="module")
def two(lab: ClusterLab) -> tuple[Box, Box]:
    """Sandboxes on two hosts, in an encrypted network, that reach each other."""
    one, other = Box(lab.h[1], "one", "web"), Box(lab.h[2], "two", "web")
    eventually(lambda: one.pings(other.ipv4))
    return one, other


def ring(host: ClusterHost) -> Any:
    return json.loads((host.home / "wireguard.json").read_text())


def generations(host: ClusterHost) -> list[int]:
    keys = ring(host)
    return [keys[name]["generation"] for name in ("previous", "current", "next") if name in keys]


def stream(one: Box, other: Box) -> PacketStream:
    through = (one.host.net, other.host.net)
    return PacketStream(one.net, one.ipv4, other.net, other.ipv4, through)


def session(host: ClusterHost) -> float:
    """When the one with the only other host began."""
    (peer,) = wireguard_uapi.UserspaceDevice(interfaces(host)[0]).read().peers.values()
    return peer.last_handshake


def interfaces(host: ClusterHost) -> list[str]:
    lines = host.net.run(["ip", "-br", "link"]).stdout.splitlines()
    return [line.split()[0] for line in lines if line.startswith("cw")]


def test_private_keys_are_for_root_only_and_on_no_other_host(two: tuple[Box, Box]) -> None:
    files = [box.host.home / "wireguard.json" for box in two]

    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    secrets = {json.loads(file.read_text())["current"]["private_key"] for file in files}
    assert len(secrets) == 2
    etcd = two[0].host.home / "etcd"
    stored = b"".join(path.read_bytes() for path in etcd.rglob("*") if path.is_file())
    assert [secret for secret in secrets if secret.encode() in stored] == []


def test_a_rotation_loses_no_packet(
    two: tuple[Box, Box], record_property: Callable[[str, object], None]
) -> None:
    one, other = two
    before = {box.name: ring(box.host)["current"] for box in two}
    running = [stream(one, other), stream(other, one)]

    one.host.says("rotate", "--keys")
    eventually(lambda: all(generations(each.host) == [2] for each in two), 40)

    lost = [each.stop() for each in running]
    record_property("packets lost over a rotation", f"{sum(lost)} of {sum(each.sent for each in running)}")
    assert lost == [0, 0]
    for each in two:
        assert ring(each.host)["current"]["private_key"] != before[each.name]["private_key"]
        assert len(interfaces(each.host)) == len(each.host.wireguard_pids()) == 1
        assert each.host.cnmd.findings() == []


def test_the_next_daemon_takes_the_tunnels_up_without_losing_a_packet(two: tuple[Box, Box]) -> None:
    one, other = two
    processes, begun = one.host.wireguard_pids(), session(other.host)
    running = [stream(one, other), stream(other, one)]

    one.host.cnmd.restart()
    eventually(lambda: one.host.status()["State"] == "ready")

    lost = [each.stop() for each in running]
    assert one.host.wireguard_pids() == processes
    assert one.host.cnmd.findings() == []
    if session(other.host) != begun:
        pytest.skip(
            "on this machine cnmd starts slower than its lease runs out: the other host took it for gone"
        )
    assert lost == [0, 0]


def test_a_daemon_that_starts_without_the_cluster_goes_on_with_the_tunnels_that_there_are(
    two: tuple[Box, Box],
) -> None:
    one, other = two
    (process,) = other.host.wireguard_pids()
    one.host.cnmd.stop()
    one.host.kill_etcd()

    other.host.cnmd.kill()
    os.kill(process, signal.SIGKILL)
    other.host.cnmd.start()

    eventually(lambda: other.host.wireguard_pids())
    eventually(lambda: other.pings(one.ipv4))
    one.host.cnmd.start()
    eventually(lambda: one.host.status()["State"] == other.host.status()["State"] == "ready")
    eventually(lambda: other.host.cnmd.findings() == [])


def test_a_killed_process_and_a_deleted_interface_come_back(two: tuple[Box, Box]) -> None:
    one, other = two
    (process,) = one.host.wireguard_pids()

    os.kill(process, signal.SIGKILL)
    eventually(lambda: one.host.wireguard_pids() not in ([], [process]))
    eventually(lambda: one.pings(other.ipv4))
    one.host.net.run(["ip", "link", "del", interfaces(one.host)[0]])

    eventually(lambda: interfaces(one.host) and one.pings(other.ipv4))
    eventually(lambda: one.host.cnmd.findings() == [])


def test_doctor_shows_a_process_that_hangs_and_replaces_it(two: tuple[Box, Box]) -> None:
    one, other = two
    (process,) = one.host.wireguard_pids()

    os.kill(process, signal.SIGSTOP)
    (found,) = one.host.cnmd.findings()
    assert (found["Kind"], found["Object"]) == ("link", interfaces(one.host)[0])
    assert "does not answer" in found["Detail"] or "nobody answers" in found["Detail"]
    done = one.host.cnmd.cnmctl("doctor", "--repair")

    assert done.returncode == 0, done.stderr
    assert one.host.wireguard_pids() != [process]
    eventually(lambda: one.pings(other.ipv4))
    assert one.host.cnmd.findings() == []


def test_with_the_last_endpoint_everything_goes_and_with_the_next_it_comes_again(
    two: tuple[Box, Box],
) -> None:
    one, other = two
    other.host.cnmd.ask("POST", "/networks/web/disconnect", {"Container": "two"})

    assert interfaces(other.host) == []
    assert other.host.wireguard_pids() == []
    assert not (other.host.home / "wireguard.json").exists()
    eventually(lambda: [n["KeysSince"] != "" for n in one.host.status()["Nodes"]] == [True, False])

    other.host.cnmd.connect("web", "two")
    eventually(lambda: other.pings("one"))


def test_a_port_that_is_taken_is_named_and_nothing_is_half_made(two: tuple[Box, Box]) -> None:
    host = two[1].host
    host.cnmd.ask("POST", "/networks/web/disconnect", {"Container": "two"})
    with host.net.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("", 51830))
        joining = host.cnmd.cnmctl("network", "connect", "web", "two")

    assert "UDP port 51830 of this host is in use by another program" in joining.stderr
    assert interfaces(host) == host.wireguard_pids() == []
    assert host.cnmd.findings() == []
    host.cnmd.connect("web", "two")


def test_a_host_that_cannot_encrypt_says_what_to_install_and_has_nothing_half_made(
    lab: ClusterLab, two: tuple[Box, Box]
) -> None:
    host = two[1].host
    host.cnmd.ask("POST", "/networks/web/disconnect", {"Container": "two"})
    host.cnmd.config += 'wireguard-go = "/nowhere/wireguard-go"\n'
    host.cnmd.restart()
    eventually(lambda: host.status()["State"] == "ready")

    joining = host.cnmd.cnmctl("network", "connect", "web", "two")
    making = host.cnmd.cnmctl("network", "create", "-d", "overlay", "-o", "encrypted", "more")

    assert joining.returncode == making.returncode == 1
    assert "network web is encrypted: cannot create interface cw" in joining.stderr
    assert (
        "this kernel has no wireguard links: load module wireguard, or install wireguard-go" in joining.stderr
    )
    assert "network more cannot be encrypted" in making.stderr
    assert len(joining.stderr.splitlines()) == len(making.stderr.splitlines()) == 1
    assert interfaces(host) == []
    assert host.cnmd.findings() == []
