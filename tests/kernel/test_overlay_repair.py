"""An overlay network's namespace on the real kernel: what ip(8) and bridge(8) say of it, and what others do to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnm.errors import Conflict, KernelError
from cnm.kernel import link_messages
from cnm.kernel.diff import diff
from cnm.kernel.netlink import NetlinkSocket
from cnm.kernel.state import HOST, Address, FdbEntry, Finding, Group, KernelState, Neighbor, Peer, Problem
from tests.support.kernels import LinuxMachine, linux_machine
from tests.support.names_lab import eventually
from tests.support.overlays import DEVICE, addresses, device, inside, mac, network, peer, port

THERE, ELSEWHERE = "192.0.2.2", "192.0.2.3"
IN_OVERLAY = [
    "ip link set br0 down",
    "ip link set br0 mtu 1280",
    "ip link del br0",
    "ip link set vx42 down",
    "ip link set vx42 mtu 1280",
    "ip link set vx42 address 02:00:00:00:00:99",
    "ip link set vx42 nomaster",
    "ip link set vx42 group 0",
    "ip link set vx42 type vxlan id 42 local 192.0.2.77",
    "ip link set vx42 type vxlan id 42 learning",
    "ip link del vx42",
    "bridge link set dev vx42 learning on",
    "bridge link set dev cv1 isolated on",
    "bridge fdb del 02:42:0a:00:00:01 dev cv1 master",
    "ip link set cv1 down",
    "ip link set cv1 nomaster",
    "ip link del cv1",
]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[LinuxMachine]:
    """With a network and one endpoint applied."""
    with linux_machine(tmp_path) as made:
        made.linux.create_namespace(overlay(made), bridged=True)
        made.linux.apply(whole(made))
        yield made
        made.linux.remove_namespace(overlay(made))


def overlay(machine: LinuxMachine) -> str:
    return f"{machine.box}-overlay"


def whole(machine: LinuxMachine) -> tuple[KernelState, KernelState]:
    state = network(overlay(machine), port(1, machine.box))
    return replace(state, fdb=(FdbEntry("cv1", mac(1)),)), inside(machine.box, 1)


def differences(machine: LinuxMachine) -> list[Finding]:
    return diff(whole(machine), machine.linux.observe(whole(machine)))


def link(machine: LinuxMachine, name: str) -> dict[str, Any]:
    (found,) = machine.json(f"ip -j -d link show dev {name}", overlay(machine))
    return dict(found)


def forwarding(machine: LinuxMachine, address: str) -> list[dict[str, Any]]:
    """The entries of a MAC, the device's own first."""
    entries = machine.json("bridge -j fdb show dev vx42", overlay(machine))
    return sorted((e for e in entries if e["mac"] == address), key=lambda e: "master" in e)


# What others see


def test_the_device_is_what_others_see(machine: LinuxMachine) -> None:
    seen = link(machine, DEVICE)
    data = seen["linkinfo"]["info_data"]

    assert (data["id"], data["local"], data["port"]) == (42, "192.0.2.1", 4789)
    assert (data["learning"], data["proxy"], data["udp_csum"]) == (False, True, True)
    assert (seen["mtu"], seen["address"], seen["master"]) == (1450, "02:42:00:00:00:02", "br0")
    assert (seen["ifalias"], seen["inet6_addr_gen_mode"]) == ("cnm:network:1", "none")
    assert seen["linkinfo"]["info_slave_data"]["learning"] is False
    assert link(machine, "cv1")["linkinfo"]["info_slave_data"]["learning"] is True


def test_its_packets_come_and_go_by_the_hosts_namespace(machine: LinuxMachine) -> None:
    assert ":4789" in machine.run("ss -lun")
    assert ":4789" not in machine.run("ss -lun", overlay(machine))


def test_nothing_in_the_namespace_gives_itself_an_address(machine: LinuxMachine) -> None:
    links = machine.json("ip -j addr", overlay(machine))

    assert {link["ifname"]: link["addr_info"] for link in links if link["ifname"] != "lo"} == {
        "br0": [], DEVICE: [], "cv1": [],
    }  # fmt: skip
    assert "UP" in next(link["flags"] for link in links if link["ifname"] == "lo")


def test_a_remote_endpoint_is_what_others_see(machine: LinuxMachine) -> None:
    machine.linux.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())

    own, bridged = forwarding(machine, mac(7))
    neighbors = machine.json("ip -j neigh show dev vx42", overlay(machine))
    assert (own["dst"], own["flags"], own["state"]) == (THERE, ["self"], "static")
    assert (bridged["master"], bridged["state"]) == ("br0", "static")
    assert sorted((n["dst"], n["lladdr"], n["state"]) for n in neighbors) == [
        (address, mac(7), ["PERMANENT"]) for address in addresses(7)
    ]


def test_whom_all_is_copied_to_is_what_others_see(machine: LinuxMachine) -> None:
    machine.linux.flood(overlay(machine), DEVICE, [THERE, ELSEWHERE], ())

    entries = forwarding(machine, "00:00:00:00:00:00")
    assert sorted((e["dst"], e["flags"], e["state"]) for e in entries) == [
        (THERE, ["self"], "permanent"),
        (ELSEWHERE, ["self"], "permanent"),
    ]


def test_entries_of_another_control_plane_and_learned_ones_are_not_ours(machine: LinuxMachine) -> None:
    for command in (
        f"bridge fdb add {mac(8)} dev vx42 dst {THERE} self extern_learn",
        f"bridge fdb add {mac(9)} dev vx42 dst {THERE} self dynamic",
        f"ip neigh add 10.64.0.8 lladdr {mac(8)} dev vx42 nud reachable",
        "bridge fdb add 01:00:5e:00:00:01 dev br0 self permanent",
    ):
        machine.run(command, overlay(machine))

    assert machine.linux.observe_peers(overlay(machine), DEVICE) == ((), ())


# What others do


@pytest.mark.parametrize("command", IN_OVERLAY)
def test_a_change_in_a_networks_namespace_is_found_and_mended(machine: LinuxMachine, command: str) -> None:
    machine.run(command, overlay(machine))

    found = differences(machine)
    machine.linux.repair(found)
    machine.linux.remove([], wait=True)

    assert found
    assert differences(machine) == []
    assert_connected(machine)


def assert_connected(machine: LinuxMachine) -> None:
    """The bridge, as a host, reaches the sandbox."""
    machine.linux.apply(
        [KernelState(namespace=overlay(machine), own=True, addresses=(Address("br0", "10.64.9.9/8"),))]
    )
    machine.run(f"ping -c 1 -W 3 {addresses(1)[0]}", overlay(machine))


def test_a_device_that_nobody_could_mark_is_an_orphan(machine: LinuxMachine) -> None:
    """Its maker was killed in between."""
    machine.linux.remove([network(overlay(machine))], wait=True)
    with open(overlay(machine)) as namespace, NetlinkSocket() as netlink:
        netlink.execute([link_messages.create_inside(device(), "cm0123456789ab", namespace.fileno())])

    found = differences(machine)
    machine.linux.repair(found)

    orphans = [f.observed for f in found if f.problem is Problem.FOREIGN]
    assert [(getattr(o, "name", ""), getattr(o, "group", 0)) for o in orphans] == [
        ("cm0123456789ab", Group.SEGMENT)
    ]
    assert differences(machine) == []


def test_what_an_earlier_process_did_not_come_to_delete_is_deleted(machine: LinuxMachine) -> None:
    index = link(machine, "cv1")["ifindex"]
    with machine.linux._namespaces.inside(overlay(machine)), NetlinkSocket() as netlink:
        netlink.execute([link_messages.retire("cv1", index, "cr1")])

    differences(machine)

    eventually(lambda: "cr1" not in machine.linux.interface_names(overlay(machine)))


def test_a_udp_port_of_another_program_is_refused(machine: LinuxMachine) -> None:
    machine.linux.remove([network(overlay(machine))], wait=True)
    with machine.here(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind(("0.0.0.0", 4790))
        with pytest.raises(Conflict) as refusal:
            machine.linux.apply([network(overlay(machine), port=4790)])

    assert str(refusal.value) == (
        "cannot create interface vx42: UDP port 4790 of the host is in use by another program: end that, or choose "
        "another port"
    )
    assert DEVICE not in machine.linux.interface_names(overlay(machine))


def test_a_pair_that_was_given_away_is_cut_off_at_once(machine: LinuxMachine) -> None:
    given = replace(port(2, machine.box), peer=Peer(HOST, "cp2", mac(2), 1450, leaves=True))
    state = KernelState(namespace=overlay(machine), own=True, links=(given,))
    machine.linux.apply([state])
    machine.move_link("cp2", machine.box, "eth7")
    machine.run("ip link set eth7 up", machine.box)
    eventually(lambda: link(machine, "cv2")["linkinfo"]["info_slave_data"]["state"] == "forwarding")

    machine.linux.remove([state])

    assert link(machine, "cv2")["linkinfo"]["info_slave_data"]["state"] == "disabled"


# Thousands of entries


def test_what_is_looked_at_does_not_grow_with_the_peers(
    machine: LinuxMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [peer(number, THERE) for number in range(100, 2100)]
    machine.linux.program_peers(overlay(machine), DEVICE, wanted, ())
    read: list[int] = []
    dump = NetlinkSocket.dump

    def counted(netlink: NetlinkSocket, request: Any) -> Any:
        messages = dump(netlink, request)
        read.append(len(messages))
        return messages

    monkeypatch.setattr(NetlinkSocket, "dump", counted)
    machine.linux.apply(whole(machine))
    assert differences(machine) == []

    assert 0 < sum(read) < 50
    assert set(machine.linux.observe_peers(overlay(machine), DEVICE).peers) == set(wanted)


def test_neighbours_that_are_wanted_are_found_among_others(machine: LinuxMachine) -> None:
    machine.linux.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())
    wanted = KernelState(
        namespace=overlay(machine), own=True, neighbors=(Neighbor("br0", "10.64.0.1", mac(1)),)
    )

    before = diff([wanted], machine.linux.observe([wanted]))
    machine.linux.repair([f for f in before if f.wanted])

    (after,) = machine.linux.observe([wanted])
    assert [f.problem for f in before if f.wanted] == [Problem.MISSING]
    assert after.neighbors == wanted.neighbors


def test_every_refused_entry_of_many_is_found_and_leaves_no_half(machine: LinuxMachine) -> None:
    """By far more answers than a socket's buffer usually holds: the bridge takes what its port refuses."""
    bad = [peer(number, "2001:db8::2") for number in range(10, 1510)]

    with pytest.raises(KernelError) as refusal:
        machine.linux.program_peers(overlay(machine), DEVICE, [*bad, peer(7, THERE)], ())

    assert str(refusal.value) == (
        "cannot set remote endpoint 02:42:0a:00:00:0a at 2001:db8::2 on vx42, nor 1499 other entries: "
        "address family not supported by protocol"
    )
    assert machine.linux.observe_peers(overlay(machine), DEVICE).peers == (peer(7, THERE),)


def test_an_endpoint_that_went_where_it_cannot_be_reached_is_not_sought_where_it_was(
    machine: LinuxMachine,
) -> None:
    machine.linux.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())

    with pytest.raises(KernelError, match=r"02:42:0a:00:00:07 at 2001:db8::2"):
        machine.linux.program_peers(overlay(machine), DEVICE, [peer(7, "2001:db8::2")], ())

    assert machine.linux.observe_peers(overlay(machine), DEVICE).peers == ()
