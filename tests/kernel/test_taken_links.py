"""Another program's link is taken into a sandbox and given back: the fake kernel and the real one by the same cases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cnm.errors import Conflict, KernelError
from cnm.kernel.diff import diff
from cnm.kernel.state import Address, Finding, KernelState, Link, LinkKind, Problem, Route, Sysctl
from tests.support.kernels import MAC, LinuxMachine, Machine, fake_machine, linux_machine


@pytest.fixture(params=[fake_machine, linux_machine], ids=["fake", "linux"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with request.param(tmp_path) as made:
        made.add_pair("theirs")
        yield made


LINK = Link("eth0", LinkKind.OTHER, MAC, taken_from="theirs")


def wanted(machine: Machine, link: Link = LINK) -> KernelState:
    return KernelState(
        namespace=machine.box,
        links=(link,),
        addresses=(Address(link.name, "10.9.0.2/24"), Address(link.name, "fd09::2/64")),
        routes=(Route("198.18.0.0/24", link.name), Route("0.0.0.0/0", link.name, "10.9.0.1")),
        sysctls=(Sysctl(f"net/ipv6/conf/{link.name}/disable_ipv6", "0"),),
    )


def differences(machine: Machine, state: KernelState) -> list[Finding]:
    return diff([state], machine.kernel.observe([state]))


def test_a_link_is_taken_from_the_host_under_its_new_name(machine: Machine) -> None:
    machine.kernel.apply([wanted(machine)])

    assert differences(machine, wanted(machine)) == []
    assert "theirs" not in machine.aliases()
    assert "eth0" in machine.kernel.interface_names(machine.box)


def test_taking_again_changes_nothing(machine: Machine) -> None:
    machine.kernel.apply([wanted(machine)])
    machine.kernel.apply([wanted(machine)])

    assert differences(machine, wanted(machine)) == []


def test_it_goes_back_to_the_host_under_its_old_name(machine: Machine) -> None:
    before = set(machine.aliases())
    machine.kernel.apply([wanted(machine)])

    machine.kernel.remove([wanted(machine)])

    assert set(machine.aliases()) == before
    assert machine.kernel.interface_names(machine.box) == {"lo"}


def test_what_went_back_can_be_taken_again(machine: Machine) -> None:
    for _ in range(2):
        machine.kernel.apply([wanted(machine)])
        machine.kernel.remove([wanted(machine)])
    machine.kernel.apply([wanted(machine)])

    assert differences(machine, wanted(machine)) == []


def test_giving_back_what_was_never_taken_is_no_error(machine: Machine) -> None:
    machine.kernel.remove([wanted(machine)])
    machine.kernel.remove([replace(wanted(machine), namespace="/run/cnm/netns/none")])

    assert "theirs" in machine.aliases()


def test_without_a_mac_the_link_keeps_its_own(machine: Machine) -> None:
    link = replace(LINK, mac="")

    machine.kernel.apply([wanted(machine, link)])

    (observed,) = machine.kernel.observe([wanted(machine, link)])[:1]
    assert {found.name: found.mac for found in observed.links}["eth0"] == "06:00:00:00:00:01"


def test_a_link_that_is_not_there_is_said(machine: Machine) -> None:
    with pytest.raises(KernelError, match="interface gone is not in the host's namespace"):
        machine.kernel.apply([wanted(machine, replace(LINK, taken_from="gone"))])


def test_a_name_that_is_taken_in_the_sandbox_leaves_the_link_on_the_host(machine: Machine) -> None:
    machine.add_link("eth0", namespace=machine.box)

    with pytest.raises(Conflict, match="interface eth0 exists in"):
        machine.kernel.apply([wanted(machine)])

    assert "theirs" in machine.aliases()


def test_a_link_whose_old_name_is_taken_meanwhile_goes_back_under_another(machine: Machine) -> None:
    machine.kernel.apply([wanted(machine)])
    machine.add_link("theirs")

    machine.kernel.remove([wanted(machine)])

    assert machine.kernel.interface_names(machine.box) == {"lo"}
    assert any(name.startswith("gb") for name in machine.aliases())


def test_doctor_calls_nothing_of_it_foreign(machine: Machine) -> None:
    machine.kernel.apply([wanted(machine)])

    assert diff([], machine.kernel.observe([KernelState()])) == []


def test_a_link_that_went_back_by_itself_is_missing_and_mended(machine: Machine) -> None:
    machine.kernel.apply([wanted(machine)])
    machine.kernel.remove([wanted(machine)])

    found = differences(machine, wanted(machine))
    assert Finding(machine.box, Problem.MISSING, LINK) in found
    machine.kernel.repair(found)

    assert differences(machine, wanted(machine)) == []


def test_a_name_in_use_on_the_host_does_not_hold_up_the_way_back(tmp_path: Path) -> None:
    """The host has an eth0 of its own, as most do."""
    with linux_machine(tmp_path) as machine:
        machine.add_pair("theirs")
        machine.add_link("eth0")
        machine.kernel.apply([wanted(machine)])

        machine.kernel.remove([wanted(machine)])

        assert {"theirs", "eth0"} <= set(machine.aliases())


def test_the_link_is_up_in_the_sandbox_and_down_afterwards(tmp_path: Path) -> None:
    with linux_machine(tmp_path) as machine:
        machine.add_pair("theirs")
        machine.kernel.apply([wanted(machine)])
        assert _is_up(machine, "eth0", machine.box)

        machine.kernel.remove([wanted(machine)])

        assert not _is_up(machine, "theirs")


def _is_up(machine: LinuxMachine, name: str, namespace: str = "") -> bool:
    (link,) = machine.json(f"ip -j link show {name}", namespace)
    return "UP" in link["flags"]
