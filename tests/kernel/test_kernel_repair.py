"""Whatever somebody changes behind the kernel layer's back is found and mended; ip(8) and nft(8) are the witnesses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import KernelError
from cnm.kernel.diff import diff
from cnm.kernel.state import FdbEntry, Finding, KernelState
from tests.support.kernels import LinuxMachine, bridge, everything, linux_machine, port

IN_HOST = [
    "ip link set cnm-1 down",
    "ip link set cnm-1 mtu 1280",
    "ip link set cnm-1 address 02:00:00:00:00:99",
    "ip link set cnm-1 group 0",
    "ip link del cnm-1",
    "ip link set cv1 down",
    "ip link set cv1 mtu 1280",
    "ip link set cv1 nomaster",
    "ip link set cv1 group 0",
    "ip link set cv1 address 02:00:00:00:00:99",
    "ip link del cv1",
    "bridge link set dev cv1 isolated off",
    "bridge link set dev cv1 hairpin on",
    "bridge fdb del 02:42:0a:09:00:99 dev cv1 master",
    "ip addr del 10.9.0.1/24 dev cnm-1",
    "ip addr del fd09::1/64 dev cnm-1",
    "ip addr flush dev cnm-1",
    "ip route del 10.77.0.0/16",
    "ip -6 route del fd77::/64",
    "ip -6 route del local ::1/128 dev cnm-1 table local",
    "ip neigh del 10.9.0.2 dev cnm-1",
    "ip neigh flush dev cnm-1 nud permanent",
    "sysctl -qw net.ipv4.conf.cnm-1.route_localnet=0",
    "sysctl -qw net.ipv6.conf.cnm-1.disable_ipv6=1",
    "nft delete element inet cnm publish_any4 { tcp . 8080 }",
    "nft flush set bridge cnm guard4",
    "nft flush map inet cnm to",
]
IN_BOX = [
    "ip link set eth1 down",
    "ip link set eth1 mtu 1280",
    "ip link set eth1 address 02:00:00:00:00:99",
    "ip link set eth1 name other",
    "ip link del eth1",
    "ip addr del 10.9.0.2/24 dev eth1",
    "ip addr flush dev eth1",
    "ip route del default",
    "ip -6 route del default",
    "sysctl -qw net.ipv6.conf.eth1.disable_ipv6=1",
]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[LinuxMachine]:
    """With everything of the contract's cases applied."""
    with linux_machine(tmp_path) as made:
        made.linux.apply(everything(made))
        yield made


def differences(machine: LinuxMachine) -> list[Finding]:
    states = everything(machine)
    return diff(states, machine.linux.observe(states))


def assert_mended(machine: LinuxMachine, before: object) -> None:
    """In one go, to what it was before, by the word of others."""
    found = differences(machine)
    assert found
    machine.linux.repair(found)
    machine.linux.remove([], wait=True)
    assert differences(machine) == []
    assert machine.picture() == before


@pytest.mark.parametrize("command", IN_HOST)
def test_a_change_on_the_host_is_found_and_mended(machine: LinuxMachine, command: str) -> None:
    before = machine.picture()

    machine.run(command)

    assert_mended(machine, before)


@pytest.mark.parametrize("command", IN_BOX)
def test_a_change_in_a_sandbox_is_found_and_mended(machine: LinuxMachine, command: str) -> None:
    before = machine.picture()

    machine.run(command, machine.box)

    assert_mended(machine, before)


def test_a_namespace_that_somebody_unmounted_is_made_again_with_all_that_was_in_it(
    machine: LinuxMachine,
) -> None:
    before = machine.picture()
    machine.run(f"umount {machine.box}")

    machine.linux.remove_namespace(machine.box)
    machine.linux.create_namespace(machine.box)

    assert_mended(machine, before)


def test_a_table_that_somebody_deleted_is_written_again(machine: LinuxMachine) -> None:
    before = machine.picture()
    machine.run("nft delete table bridge cnm")

    assert list(machine.linux.broken_tables()) == [("bridge", "cnm")]
    machine.linux.start_firewall([e for state in everything(machine) for e in state.elements])

    assert list(machine.linux.broken_tables()) == []
    assert machine.picture() == before


def test_what_others_have_survives_every_repair(machine: LinuxMachine) -> None:
    for command in (
        "ip link add docker0 type bridge",
        "ip link add cv-theirs type bridge",
        "ip addr add 192.0.2.1/24 dev docker0",
        "nft add table inet theirs",
        "ip addr add 10.9.0.77/32 dev cnm-1",
    ):
        machine.run(command)
    before = machine.picture()

    machine.run("ip link set cv1 down")

    assert_mended(machine, before)


def test_a_static_forwarding_entry_points_to_the_port_and_not_to_the_host(machine: LinuxMachine) -> None:
    (entry,) = [e for e in machine.json("bridge -j fdb show dev cv1") if e["mac"] == "02:42:0a:09:00:99"][:1]

    assert (entry["state"], entry["master"]) == ("static", "cnm-1")
    assert FdbEntry("cv1", "02:42:0a:09:00:99") in [
        e for s in machine.linux.observe(everything(machine)) for e in s.fdb
    ]


def test_retired_links_are_reaped_soon_and_at_once_on_demand(machine: LinuxMachine) -> None:
    state = [KernelState(links=(port(machine),))]

    machine.linux.remove(state)
    deadline = time.monotonic() + 10
    while len(machine.json("ip -j link")) > 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    soon = {link["ifname"] for link in machine.json("ip -j link")}
    machine.linux.apply(state)
    machine.linux.remove(state, wait=True)

    assert soon == {"lo", "cnm-1"}
    assert {link["ifname"] for link in machine.json("ip -j link")} == {"lo", "cnm-1"}


def test_a_removal_cuts_traffic_before_it_returns(machine: LinuxMachine) -> None:
    machine.linux.remove([KernelState(links=(port(machine),))])

    assert not [link for link in machine.json("ip -j link") if link.get("master") or link["ifname"] == "cv1"]


def test_a_link_that_cannot_be_marked_is_not_left_behind(machine: LinuxMachine) -> None:
    """Without its mark nobody would know it for ours. The kernel takes aliases of 255 characters."""
    too_long = bridge("cnm-2")
    unmarkable = type(too_long)(too_long.name, too_long.kind, too_long.mac, alias="cnm:" + "x" * 300)

    with pytest.raises(KernelError, match="configure interface cnm-2"):
        machine.linux.apply([KernelState(links=(unmarkable,))])
    machine.linux.remove([], wait=True)

    assert {link["ifname"] for link in machine.json("ip -j link")} == {"lo", "cnm-1", "cv1"}
