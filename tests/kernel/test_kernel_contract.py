"""The fake kernel and the real one, held to the same contract by the same cases."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cnm.errors import Conflict, KernelError, NotFound
from cnm.firewall import sets
from cnm.kernel.diff import diff
from cnm.kernel.repair import state_of
from cnm.kernel.state import (
    Finding,
    FirewallElement,
    KernelState,
    Problem,
    Record,
)
from tests.support.kernels import (
    Machine,
    box_state,
    bridge,
    everything,
    fake_machine,
    linux_machine,
    port,
)


@pytest.fixture(params=[fake_machine, linux_machine], ids=["fake", "linux"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with request.param(tmp_path) as made:
        yield made


def differences(machine: Machine, *states: KernelState) -> list[Finding]:
    return diff(states, machine.kernel.observe(states))


# Apply and remove


def test_what_is_applied_is_there(machine: Machine) -> None:
    machine.kernel.apply(everything(machine))

    assert differences(machine, *everything(machine)) == []
    assert machine.aliases()["cv1"] == "cnm:endpoint:1"
    assert "eth1" in machine.kernel.interface_names(machine.box)


def test_nobody_looks_for_a_namespace_that_nothing_is_wanted_in(machine: Machine) -> None:
    machine.kernel.apply([KernelState(namespace="/nowhere")])

    assert differences(machine, KernelState(namespace="/nowhere")) == []


def test_applying_again_changes_nothing(machine: Machine) -> None:
    machine.kernel.apply(everything(machine))
    machine.kernel.apply(everything(machine))

    assert differences(machine, *everything(machine)) == []


def test_nothing_that_is_wanted_is_there_before(machine: Machine) -> None:
    host, box = everything(machine)
    # The switches of interfaces that do not exist are not there either.
    wanted = 2 + 2 + 3 + 2 + 1 + 2 + 3 + 1 + 2 + 2 + 1

    found = differences(machine, host, box)

    assert [finding.problem for finding in found] == [Problem.MISSING] * wanted


def test_what_is_removed_is_gone_with_all_that_was_on_it(machine: Machine) -> None:
    before, inside = machine.aliases(), machine.aliases(machine.box)
    machine.kernel.apply(everything(machine))

    machine.kernel.remove(everything(machine), wait=True)

    assert machine.aliases() == before
    assert machine.aliases(machine.box) == inside
    assert diff([], machine.kernel.observe(everything(machine))) == []


def test_removing_again_or_what_never_was_is_no_error(machine: Machine) -> None:
    machine.kernel.remove(everything(machine))
    machine.kernel.apply(everything(machine))
    machine.kernel.remove(everything(machine))
    machine.kernel.remove(everything(machine), wait=True)

    assert set(machine.aliases()) == {"lo"}


def test_removing_a_part_leaves_the_rest(machine: Machine) -> None:
    host, box = everything(machine)
    machine.kernel.apply([host, box])

    machine.kernel.remove(
        [KernelState(routes=host.routes[:1], neighbors=host.neighbors[:1], elements=host.elements[:1])]
    )

    assert {finding.wanted for finding in differences(machine, host, box)} == {
        host.routes[0], host.neighbors[0], host.elements[0],
    }  # fmt: skip


def test_what_was_removed_can_be_applied_again_at_once(machine: Machine) -> None:
    """Before the old interfaces are really gone."""
    for _ in range(5):
        machine.kernel.apply(everything(machine))
        machine.kernel.remove(everything(machine))
    machine.kernel.apply(everything(machine))

    assert differences(machine, *everything(machine)) == []


# What is not ours


@pytest.mark.parametrize("alias", ["", "somebody:else", "cnm:network:another"])
def test_an_interface_of_others_under_our_name_is_refused_and_stays(machine: Machine, alias: str) -> None:
    machine.add_link("cnm-1", alias)
    before = machine.aliases()

    with pytest.raises(Conflict, match=r"^interface cnm-1 exists and is not ours: rename or delete it"):
        machine.kernel.apply([KernelState(links=(bridge(),))])
    machine.kernel.remove([KernelState(links=(bridge(),))], wait=True)

    assert machine.aliases() == before


def test_a_name_that_is_taken_in_the_sandbox_is_refused_and_no_pair_is_made(machine: Machine) -> None:
    machine.add_link("eth1", namespace=machine.box)
    machine.kernel.apply([KernelState(links=(bridge(),))])

    with pytest.raises(Conflict, match=r"interface eth1 cannot be made in .*: file exists"):
        machine.kernel.apply(everything(machine))
    machine.kernel.remove(everything(machine), wait=True)

    assert set(machine.aliases()) == {"lo"}
    assert set(machine.aliases(machine.box)) == {"lo", "eth1"}


def test_a_port_of_a_bridge_that_is_missing_is_refused(machine: Machine) -> None:
    with pytest.raises(
        KernelError, match=r"interface cnm-1 does not exist: cnmctl doctor shows what is missing"
    ):
        machine.kernel.apply([KernelState(links=(port(machine),))])

    assert set(machine.aliases()) == {"lo"}


def test_a_default_route_of_others_is_refused_and_stays(machine: Machine) -> None:
    machine.add_default_route(machine.box)

    with pytest.raises(Conflict, match=r"cannot set route to 0\.0\.0\.0/0: file exists"):
        machine.kernel.apply(everything(machine))
    machine.kernel.remove(everything(machine), wait=True)

    (theirs,) = [
        route
        for state in machine.kernel.observe(
            [KernelState(namespace=machine.box, routes=box_state(machine).routes)]
        )
        for route in state.routes
    ]
    assert (theirs.destination, theirs.link) == ("0.0.0.0/0", "lo")


# Namespaces


def test_a_namespace_is_made_once_and_removed_as_often_as_one_likes(machine: Machine, tmp_path: Path) -> None:
    path = str(tmp_path / "deep" / "new")

    machine.kernel.create_namespace(path)
    with pytest.raises(Conflict, match="exists already"):
        machine.kernel.create_namespace(path)

    assert machine.kernel.namespace_alive(path)
    assert machine.kernel.interface_names(path) == {"lo"}
    machine.kernel.remove_namespace(path)
    machine.kernel.remove_namespace(path)
    assert not machine.kernel.namespace_alive(path)


def test_a_namespace_that_is_missing_is_said_at_apply_and_passed_over_at_remove(machine: Machine) -> None:
    lost = replace(box_state(machine), namespace="/run/lost")

    with pytest.raises(
        NotFound, match=r"^network namespace /run/lost cannot be opened: no such file or directory$"
    ):
        machine.kernel.apply([lost])
    machine.kernel.remove([lost])

    assert machine.kernel.observe([lost]) in ((), (KernelState(),))


def test_a_namespace_that_is_removed_takes_its_pairs_along(machine: Machine) -> None:
    machine.kernel.apply(everything(machine))
    machine.kernel.remove_namespace(machine.box)
    machine.kernel.create_namespace(machine.box)

    machine.kernel.repair(differences(machine, *everything(machine)))

    assert differences(machine, *everything(machine)) == []


# Differences and repair


def records(state: KernelState) -> list[Record]:
    """Those that can be taken away one by one."""
    return [*state.links, *state.addresses, *state.routes, *state.neighbors, *state.fdb, *state.elements]


def test_each_record_that_is_missing_is_found_and_comes_back(machine: Machine) -> None:
    states = everything(machine)
    machine.kernel.apply(states)

    for state in states:
        for record in records(state):
            machine.kernel.remove([state_of(state.namespace, [record])], wait=True)
            found = differences(machine, *states)
            machine.kernel.repair(found)

            assert record in [finding.wanted for finding in found]
            assert differences(machine, *states) == [], record


def test_what_is_ours_and_unwanted_is_found_and_goes(machine: Machine) -> None:
    machine.kernel.apply([*everything(machine), KernelState(links=(bridge("cnm-2"),))])
    element = FirewallElement(sets.SAME, ("cnm-2", "cnm-2"))
    machine.kernel.apply([KernelState(elements=(element,))])

    found = differences(machine, *everything(machine))
    machine.kernel.repair(found)

    assert {finding.problem for finding in found} == {Problem.FOREIGN}
    assert {getattr(finding.observed, "name", finding.observed) for finding in found} == {"cnm-2", element}
    assert differences(machine, *everything(machine)) == []
    assert "cnm-2" not in machine.aliases()


def test_what_is_others_and_unwanted_is_no_finding(machine: Machine) -> None:
    machine.kernel.apply(everything(machine))
    for name in ("docker0", "cnm-looks-ours", "cv0123456789ab"):
        machine.add_link(name)
    machine.add_link("theirs", "somebody:else")

    assert differences(machine, *everything(machine)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"mtu": 1300}, "mtu is 1400"), ({"up": True, "mac": "02:42:00:00:00:07"}, "mac is 02:42:00:00:00:01")],
)
def test_a_link_that_differs_is_found_in_words_and_changed(
    machine: Machine, changes: dict[str, object], words: str
) -> None:
    machine.kernel.apply([KernelState(links=(bridge(),))])
    wanted = KernelState(links=(replace(bridge(), **changes),))  # type: ignore[arg-type]

    (finding,) = differences(machine, wanted)
    machine.kernel.repair([finding])

    assert (finding.problem, finding.detail) == (Problem.CHANGED, words)
    assert differences(machine, wanted) == []


def test_states_of_many_threads_are_all_applied(machine: Machine) -> None:
    machine.kernel.apply([KernelState(links=(bridge(),))])
    ports = [KernelState(links=(port(machine, number),)) for number in range(2, 18)]

    def attach(state: KernelState) -> None:
        with machine.here():
            machine.kernel.apply([state])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(attach, ports))

    assert differences(machine, KernelState(links=(bridge(),)), *ports) == []
    assert len(machine.kernel.interface_names(machine.box)) == 17
