"""Devices of wireguard-go, and of the kernel where it has any, held to the same cases; wg(8) reads what was set."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cnm.cluster.wireguard_go import WireGuardGo
from cnm.cluster.wireguard_keys import generate_private_key, public_key
from cnm.errors import Conflict, InvalidParameter, KernelError, NotBuilt, NotFound
from cnm.kernel import generic_netlink, wireguard
from cnm.kernel.diff import diff
from cnm.kernel.netlink import NetlinkSocket
from cnm.kernel.state import Address, Group, KernelState, Link, LinkKind, Route
from cnm.kernel.wireguard_netlink import KernelDevice
from cnm.kernel.wireguard_records import DeviceChange, WireGuardPeer
from netns_fixtures import Host, Topology
from tests.support.kernels import Machine, fake_machine, lacks, linux_machine
from tests.support.unpacked import environment, lacking, program

NAME = "cwtest0"
KEY, OTHER_KEY = generate_private_key(), generate_private_key()
PUBLIC, OTHER_PUBLIC = public_key(KEY), public_key(OTHER_KEY)
PEER = WireGuardPeer(OTHER_PUBLIC, ("192.0.2.2", 51820), ("10.99.0.2/32", "fd99::2/128"), 25)


@contextmanager
def kernel_device(host: Host) -> Iterator[None]:
    if reason := lacks("wireguard"):
        pytest.skip(reason)
    host.run(["ip", "link", "add", NAME, "type", "wireguard"])
    yield


@contextmanager
def process_device(host: Host) -> Iterator[None]:
    if reason := lacking("wireguard-go"):
        pytest.skip(reason)
    process = WireGuardGo(NAME, str(program("wireguard-go")), lambda: None)
    process.start()
    yield
    process.end()


@pytest.fixture(params=[kernel_device, process_device], ids=["kernel", "wireguard-go"])
def host(request: pytest.FixtureRequest, make_topology: Callable[..., Topology]) -> Iterator[Host]:
    """With a device called NAME, up; the calling thread is inside."""
    made = make_topology({"hosts": {"host": {}}}).hosts["host"]
    with made.enter(), request.param(made):
        made.run(["ip", "link", "set", NAME, "up"])
        yield made


def shown(host: Host, what: str) -> str:
    """By wg(8)."""
    if lacking("wg"):
        pytest.skip(lacking("wg"))
    return host.run([str(program("wg")), "show", NAME, what], env=environment()).stdout


def test_wg_shows_what_was_set(host: Host) -> None:
    secret = generate_private_key()
    wireguard.set_device(NAME, KEY, 51820, [PEER])
    wireguard.set_peers(NAME, WireGuardPeer(public_key(secret), ("2001:db8::7", 7), preshared_key=secret))

    assert shown(host, "private-key").strip() == KEY
    assert shown(host, "listen-port").strip() == "51820"
    assert dict(line.split("\t", 1) for line in shown(host, "allowed-ips").splitlines()) == {
        OTHER_PUBLIC: "10.99.0.2/32 fd99::2/128",
        public_key(secret): "(none)",
    }
    assert f"{OTHER_PUBLIC}\t192.0.2.2:51820" in shown(host, "endpoints")
    assert f"{public_key(secret)}\t[2001:db8::7]:7" in shown(host, "endpoints")
    assert f"{public_key(secret)}\t{secret}" in shown(host, "preshared-keys")
    assert f"{OTHER_PUBLIC}\t25" in shown(host, "persistent-keepalive")


def test_what_was_set_is_read(host: Host) -> None:
    wireguard.set_device(NAME, KEY, 51820, [PEER])

    device = wireguard.get_device(NAME)

    assert (device.name, device.private_key, device.listen_port) == (NAME, KEY, 51820)
    assert [status.peer for status in device.peers.values()] == [PEER]
    assert device.peers[OTHER_PUBLIC].last_handshake == 0


def test_many_peers_are_set_and_read(host: Host) -> None:
    peers = {
        key: WireGuardPeer(key, allowed_ips=(f"10.{number // 250}.0.{number % 250}/32",))
        for number, key in enumerate(public_key(generate_private_key()) for _ in range(450))
    }

    wireguard.set_device(NAME, KEY, 51820, list(peers.values()))

    assert {key: status.peer for key, status in wireguard.get_device(NAME).peers.items()} == peers


def test_an_address_moves_to_the_peer_that_got_it_last(host: Host) -> None:
    other = WireGuardPeer(PUBLIC, allowed_ips=("10.99.0.2/32",))
    wireguard.set_device(NAME, generate_private_key(), 51820, [PEER])

    wireguard.set_peers(NAME, other)

    peers = wireguard.get_device(NAME).peers
    assert peers[PUBLIC].peer.allowed_ips == ("10.99.0.2/32",)
    assert peers[OTHER_PUBLIC].peer.allowed_ips == ("fd99::2/128",)


def test_peers_are_changed_removed_and_replaced(host: Host) -> None:
    wireguard.set_device(NAME, generate_private_key(), 51820, [PEER])
    changed = WireGuardPeer(OTHER_PUBLIC, ("192.0.2.3", 1), ("10.99.0.3/32",), 0)

    wireguard.set_peers(NAME, changed)
    assert [status.peer for status in wireguard.get_device(NAME).peers.values()] == [changed]

    wireguard.remove_peers(NAME, OTHER_PUBLIC, PUBLIC)
    assert wireguard.get_device(NAME).peers == {}

    wireguard.set_peers(NAME, PEER)
    wireguard.set_device(NAME, generate_private_key(), 51821, [WireGuardPeer(PUBLIC)])
    assert list(wireguard.get_device(NAME).peers) == [PUBLIC]


def test_a_port_in_use_is_refused(host: Host) -> None:
    host.serve_udp(4000)

    with pytest.raises(KernelError, match=f"WireGuard interface {NAME}: address already in use"):
        wireguard.set_device(NAME, KEY, 4000, [])


def test_no_key_is_refused_before_anything_is_said(host: Host) -> None:
    with pytest.raises(InvalidParameter, match="a WireGuard key is 32 bytes in base64"):
        wireguard.set_device(NAME, "secret", 4000, [])

    assert wireguard.get_device(NAME).listen_port != 4000


def test_a_device_that_is_not_there_is_named(make_topology: Callable[..., Topology]) -> None:
    """A kernel without any says that."""
    with (
        make_topology({"hosts": {"host": {}}}).hosts["host"].enter(),
        pytest.raises((NotFound, NotBuilt), match=r"no WireGuard interface cwnone|kernel has no wireguard"),
    ):
        wireguard.get_device("cwnone")


def test_the_number_of_a_family_is_found_and_of_none_it_is_said() -> None:
    with NetlinkSocket(generic_netlink.NETLINK_GENERIC) as netlink:
        assert generic_netlink.family(netlink, "nlctrl") == 16
        with pytest.raises(NotBuilt, match="this kernel has no nothing: load module nothing"):
            generic_netlink.family(netlink, "nothing")


def test_the_kernels_own_link_is_made_by_our_message(tmp_path: Path) -> None:
    wanted = KernelState(links=(link(LinkKind.WIREGUARD),))
    with linux_machine(tmp_path) as machine:
        if reason := lacks("wireguard"):
            with pytest.raises(NotBuilt, match="this kernel has no wireguard links: load module wireguard"):
                machine.kernel.apply([wanted])
            pytest.skip(reason)
        machine.kernel.apply([wanted])
        device = KernelDevice(NAME)
        device.change(DeviceChange(KEY, 51820, [PEER]))

        assert diff([wanted], machine.kernel.observe([wanted])) == []
        assert device.read().peers[OTHER_PUBLIC].peer == PEER


# The link of a process


@pytest.fixture(params=[fake_machine, linux_machine], ids=["fake", "linux"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with request.param(tmp_path) as made:
        yield made


def link(kind: LinkKind = LinkKind.TUN) -> Link:
    return Link(NAME, kind, mtu=1420, alias="cnm:wireguard:1", group=Group.TUNNEL)


def tunnel() -> KernelState:
    return KernelState(
        links=(link(),),
        addresses=(Address(NAME, "10.99.0.1/32"), Address(NAME, "fd99::1/128")),
        routes=(Route("10.99.0.0/16", NAME, metric=77), Route("fd99::/64", NAME, metric=77)),
    )


def test_the_link_of_a_process_is_there_without_it_until_it_is_removed(machine: Machine) -> None:
    for _ in range(2):
        machine.kernel.apply([tunnel()])
        assert diff([tunnel()], machine.kernel.observe([tunnel()])) == []

    machine.kernel.remove([tunnel()], wait=True)

    assert NAME not in machine.aliases()


def test_a_changed_link_of_a_process_is_found_and_mended(tmp_path: Path) -> None:
    with linux_machine(tmp_path) as machine:
        machine.kernel.apply([tunnel()])
        machine.run(f"ip link set {NAME} mtu 1000 group 0 down")

        findings = diff([tunnel()], machine.kernel.observe([tunnel()]))
        machine.kernel.repair(findings)

        assert [finding.detail for finding in findings if finding.observed] == [
            "mtu is 1000, group is not set, is down"
        ]
        assert diff([tunnel()], machine.kernel.observe([tunnel()])) == []


def test_a_link_of_others_with_that_name_is_left_alone(machine: Machine) -> None:
    machine.add_link(NAME)

    with pytest.raises(Conflict, match=f"interface {NAME} exists and is not ours"):
        machine.kernel.apply([tunnel()])

    machine.kernel.remove([tunnel()], wait=True)
    assert machine.aliases()[NAME] == ""
