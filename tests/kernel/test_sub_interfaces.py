"""Sub-interfaces in sandboxes and links made for another program, on the fake kernel and the real one alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cnm.errors import Conflict, KernelError, NotBuilt
from cnm.kernel.diff import diff
from cnm.kernel.state import (
    HOST,
    Address,
    FdbEntry,
    Finding,
    Group,
    KernelState,
    Link,
    LinkKind,
    Neighbor,
    Peer,
    Problem,
    Route,
    Sysctl,
)
from tests.support.kernels import MAC, LinuxMachine, Machine, fake_machine, lacks, linux_machine

PARENT = "up0"
MODES = [
    (LinkKind.MACVLAN, "bridge"),
    (LinkKind.MACVLAN, "private"),
    (LinkKind.MACVLAN, "vepa"),
    (LinkKind.MACVLAN, "passthru"),
    (LinkKind.IPVLAN, "l2:bridge"),
    (LinkKind.IPVLAN, "l2:private"),
    (LinkKind.IPVLAN, "l3:vepa"),
    (LinkKind.IPVLAN, "l3s:bridge"),
]


@pytest.fixture(params=[fake_machine, linux_machine], ids=["fake", "linux"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    """With a parent on the host."""
    with request.param(tmp_path) as made:
        made.add_link(PARENT)
        yield made


@pytest.fixture
def linux(tmp_path: Path) -> Iterator[LinuxMachine]:
    with linux_machine(tmp_path) as made:
        made.add_link(PARENT)
        yield made


def need(machine: Machine, *kinds: LinkKind) -> None:
    """Skip on a real kernel that lacks a kind."""
    for kind in kinds:
        if isinstance(machine, LinuxMachine) and (reason := lacks(kind.value)):
            pytest.skip(reason)


def sub(name: str = "eth0", **changes: Any) -> Link:
    fields: dict[str, Any] = {
        "kind": LinkKind.MACVLAN,
        "mac": MAC,
        "mtu": 1400,
        "alias": f"cnm:endpoint:{name}",
        "group": Group.SUB_INTERFACE,
        "parent": PARENT,
        "mode": "bridge",
    }
    return Link(name, **(fields | changes))


def inside(machine: Machine, *links: Link) -> KernelState:
    name = links[0].name
    return KernelState(
        namespace=machine.box,
        links=links,
        addresses=(Address(name, "10.9.0.2/24"), Address(name, "fd09::2/64")),
        routes=(Route("0.0.0.0/0", name), Route("::/0", name)),
        sysctls=(Sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0"),),
    )


def empty(machine: Machine) -> KernelState:
    return KernelState(namespace=machine.box)


def differences(machine: Machine, *states: KernelState) -> list[Finding]:
    return diff(states, machine.kernel.observe(states))


def names(machine: Machine, namespace: str = HOST) -> set[str]:
    return set(machine.kernel.interface_names(namespace)) - {"lo"}


# Sub-interfaces in a sandbox


@pytest.mark.parametrize(("kind", "mode"), MODES, ids=[f"{kind.value}-{mode}" for kind, mode in MODES])
def test_a_sub_interface_is_made_in_the_sandbox_as_often_as_one_likes(
    machine: Machine, kind: LinkKind, mode: str
) -> None:
    need(machine, kind)
    state = inside(machine, sub(kind=kind, mode=mode, mac="" if kind is LinkKind.IPVLAN else MAC))

    machine.kernel.apply([state])
    machine.kernel.apply([state])

    assert differences(machine, state) == []
    assert names(machine) == {PARENT}
    assert machine.aliases(machine.box)["eth0"] == "cnm:endpoint:eth0"


def test_the_host_may_have_an_interface_of_the_same_name(machine: Machine) -> None:
    machine.add_link("eth0")

    machine.kernel.apply([inside(machine, sub())])

    assert differences(machine, inside(machine, sub())) == []


def test_what_is_removed_is_gone_at_once_and_can_come_again(machine: Machine) -> None:
    state = inside(machine, sub(mode="passthru"))
    for _ in range(3):
        machine.kernel.apply([state])
        machine.kernel.remove([state])
        machine.kernel.remove([state])

        assert names(machine, machine.box) == set()
    assert names(machine) == {PARENT}


def test_a_sub_interface_that_somebody_renamed_is_removed_too(machine: Machine) -> None:
    state = inside(machine, sub())
    machine.kernel.apply([state])
    machine.rename_link("eth0", "mine", machine.box)

    machine.kernel.remove([state])

    assert names(machine, machine.box) == set()


def test_a_name_that_is_taken_in_the_sandbox_is_refused_and_nothing_is_left(machine: Machine) -> None:
    machine.add_link("eth0", namespace=machine.box)

    with pytest.raises(Conflict, match=r"^interface eth0 cannot be made in .*: file exists$"):
        machine.kernel.apply([inside(machine, sub())])
    machine.kernel.remove([inside(machine, sub())])

    assert names(machine, machine.box) == {"eth0"}


def test_a_parent_that_is_gone_is_named_with_the_remedy(machine: Machine) -> None:
    with pytest.raises(
        KernelError,
        match=r"^cannot create interface eth0: its parent up9 does not exist on the host: bring it back, or ",
    ):
        machine.kernel.apply([inside(machine, sub(parent="up9"))])

    assert names(machine, machine.box) == set()


def test_a_namespace_that_came_back_empty_gets_its_sub_interface_again(machine: Machine) -> None:
    state = inside(machine, sub())
    machine.kernel.apply([state])
    machine.kernel.remove_namespace(machine.box)
    machine.kernel.create_namespace(machine.box)

    machine.kernel.repair(differences(machine, state))

    assert differences(machine, state) == []


def test_a_parent_takes_its_sub_interfaces_along_and_repair_makes_them_on_the_next(machine: Machine) -> None:
    state = inside(machine, sub())
    machine.kernel.apply([state])
    machine.delete_link(PARENT)
    found = differences(machine, state)
    with pytest.raises(KernelError, match="its parent up0 does not exist"):
        machine.kernel.repair(found)
    machine.add_link(PARENT)

    machine.kernel.repair(differences(machine, state))

    assert found[0] == Finding(machine.box, Problem.MISSING, sub())
    assert differences(machine, state) == []


@pytest.mark.parametrize(
    ("changes", "words"), [({"mode": "private"}, "mode is bridge"), ({"parent": "up1"}, "parent is up0")]
)
def test_one_of_another_sort_is_found_and_made_anew_with_all_that_is_on_it(
    machine: Machine, changes: dict[str, Any], words: str
) -> None:
    machine.add_link("up1")
    machine.kernel.apply([inside(machine, sub())])
    wanted = inside(machine, sub(**changes))

    found = differences(machine, wanted)
    machine.kernel.repair(found)

    assert (found[0].problem, found[0].detail) == (Problem.CHANGED, words)
    assert differences(machine, wanted) == []


def test_one_that_nothing_wants_is_found_and_goes(machine: Machine) -> None:
    machine.kernel.apply([inside(machine, sub())])
    machine.add_link("theirs", namespace=machine.box)

    found = differences(machine, empty(machine))
    machine.kernel.repair(found)

    assert [(f.problem, getattr(f.observed, "name", "")) for f in found] == [(Problem.FOREIGN, "eth0")]
    assert names(machine, machine.box) == {"theirs"}


def test_a_bridge_of_another_daemon_in_a_given_namespace_is_its_own_affair(machine: Machine) -> None:
    machine.add_link("cnm-other", "cnm:network:other", machine.box)

    assert differences(machine, empty(machine)) == []


def test_a_kind_that_the_kernel_lacks_is_not_built(tmp_path: Path) -> None:
    with fake_machine(tmp_path) as machine:
        machine.fake.lacking = frozenset({LinkKind.IPVLAN})
        machine.add_link(PARENT)
        with pytest.raises(NotBuilt, match=r"^cannot create interface eth0: this kernel has no ipvlan links"):
            machine.kernel.apply([inside(machine, sub(kind=LinkKind.IPVLAN, mode="l2:bridge", mac=""))])

        assert names(machine, machine.box) == set()


@pytest.mark.parametrize(
    "link",
    [
        sub(kind=LinkKind.IPVLAN, mode="l2:bridge", mac=""),
        Link("up0.10", LinkKind.VLAN, alias="cnm:vlan:up0.10", parent=PARENT, mode="10"),
        Link("dm-1", LinkKind.DUMMY, MAC, alias="cnm:network:1"),
    ],
    ids=lambda link: link.kind.value,
)
def test_the_real_kernel_says_which_kind_it_lacks_and_what_to_load(linux: LinuxMachine, link: Link) -> None:
    if not lacks(link.kind.value):
        pytest.skip(f"this kernel has {link.kind.value} links")
    state = KernelState(namespace=linux.box if link.kind is LinkKind.IPVLAN else HOST, links=(link,))

    with pytest.raises(
        NotBuilt, match=rf"^cannot create interface {link.name}: this kernel has no {link.kind.value} links: "
    ):
        linux.kernel.apply([state])

    assert names(linux) == {PARENT}
    assert names(linux, linux.box) == set()


# The real kernel only


def shown(linux: LinuxMachine, namespace: str = HOST) -> dict[str, Any]:
    """What ip(8) says of each link."""
    return {link["ifname"]: link for link in linux.json("ip -j -d link", namespace)}


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_ip_shows_a_macvlan_as_it_was_wanted(linux: LinuxMachine, mode: str) -> None:
    linux.kernel.apply([inside(linux, sub(mode=mode))])

    link = shown(linux, linux.box)["eth0"]
    assert link["linkinfo"]["info_kind"] == "macvlan"
    assert link["linkinfo"]["info_data"]["mode"] == mode
    assert (link["address"], link["mtu"], link["ifalias"]) == (MAC, 1400, "cnm:endpoint:eth0")
    assert "UP" in link["flags"]
    assert link["link_index"] == shown(linux)[PARENT]["ifindex"]


def test_passthru_gives_the_parent_its_own_mac_back(linux: LinuxMachine) -> None:
    before = shown(linux)[PARENT]["address"]
    state = inside(linux, sub(mode="passthru"))

    linux.kernel.apply([state])
    linux.kernel.remove([state])

    assert shown(linux)[PARENT]["address"] == before


def test_a_parent_in_passthru_is_refused_to_another_in_words(linux: LinuxMachine) -> None:
    linux.kernel.apply([inside(linux, sub(mode="passthru"))])

    with pytest.raises(KernelError, match=r"^cannot create interface eth1 on up0: in mode passthru a parent"):
        linux.kernel.apply([inside(linux, sub("eth1", mac="02:42:0a:09:00:03"))])

    assert names(linux, linux.box) == {"eth0"}


def test_a_mac_that_is_in_use_on_the_parent_is_refused_in_words_and_nothing_is_left(
    linux: LinuxMachine,
) -> None:
    linux.run(f"ip link set {PARENT} up")
    linux.kernel.apply([inside(linux, sub())])

    with pytest.raises(
        KernelError, match=r"^cannot create interface eth1 on up0: the MAC address is in use on it, maybe"
    ):
        linux.kernel.apply([inside(linux, sub("eth1"))])

    assert names(linux, linux.box) == {"eth0"}


def test_one_whose_maker_was_killed_before_it_had_its_name_is_found_and_goes(linux: LinuxMachine) -> None:
    """Only its group says whose it is: it is made with it."""
    linux.run(
        f"ip link add link {PARENT} name cm0123456789ab netns {linux.box} group {int(Group.SUB_INTERFACE)} "
        "type macvlan mode bridge"
    )

    found = differences(linux, empty(linux))
    linux.kernel.repair(found)

    assert [finding.problem for finding in found] == [Problem.FOREIGN]
    assert names(linux, linux.box) == set()


def test_a_vlan_is_made_on_the_host_and_goes(linux: LinuxMachine) -> None:
    need(linux, LinkKind.VLAN)
    vlan = Link(
        "up0.10", LinkKind.VLAN, alias="cnm:vlan:up0.10", group=Group.SUB_INTERFACE, parent=PARENT, mode="10"
    )
    linux.run(f"ip link set {PARENT} up")
    for _ in range(3):
        linux.kernel.apply([KernelState(links=(vlan,)), inside(linux, sub(parent="up0.10"))])
        link = shown(linux)["up0.10"]
        assert (link["link"], link["linkinfo"]["info_data"]["id"]) == (PARENT, 10)
        assert differences(linux, KernelState(links=(vlan,)), inside(linux, sub(parent="up0.10"))) == []
        linux.kernel.remove([KernelState(links=(vlan,)), inside(linux, sub(parent="up0.10"))])

    linux.kernel.remove([], wait=True)
    assert names(linux) == {PARENT}


def test_a_dummy_is_a_parent_that_leads_nowhere(linux: LinuxMachine) -> None:
    need(linux, LinkKind.DUMMY)
    dummy = Link("dm-1", LinkKind.DUMMY, MAC, alias="cnm:network:1", group=Group.SUB_INTERFACE)
    states = [KernelState(links=(dummy,)), inside(linux, sub(parent="dm-1"))]

    linux.kernel.apply(states)

    assert differences(linux, *states) == []


# Links made for another program


def given_away(**changes: Any) -> Link:
    """A sub-interface on the host, for dockerd to take."""
    return replace(sub("cs1"), leaves=True, **changes)


def pair(namespace: str = HOST) -> Link:
    peer = Peer(namespace, "cp1", MAC, 1400, leaves=True)
    return Link(
        "cv1", LinkKind.VETH, "06:42:00:00:00:01", 1400, alias="cnm:endpoint:1", group=Group.PORT, peer=peer
    )


def test_a_link_that_leaves_is_no_finding_wherever_it_is(machine: Machine) -> None:
    state = KernelState(links=(given_away(),))

    before = differences(machine, state)
    machine.kernel.apply([state])
    here = differences(machine, state)
    machine.move_link("cs1", machine.box, "eth0")
    gone = differences(machine, state)

    assert (before, here, gone) == ([], [], [])


def test_a_link_that_left_is_no_orphan_where_it_went(machine: Machine) -> None:
    """Though it is of a kind, and has the alias, that we make in sandboxes."""
    machine.kernel.apply([KernelState(links=(given_away(),))])
    machine.move_link("cs1", machine.box, "eth0")

    assert differences(machine, empty(machine)) == []


def test_a_link_that_left_is_not_made_again(machine: Machine) -> None:
    state = KernelState(links=(given_away(),))
    machine.kernel.apply([state])
    machine.move_link("cs1", machine.box, "eth0")

    machine.kernel.repair(differences(machine, state))
    machine.kernel.repair([Finding(HOST, Problem.MISSING, given_away())])

    assert names(machine) == {PARENT}


def test_a_link_that_leaves_and_is_not_wanted_any_more_is_an_orphan(machine: Machine) -> None:
    machine.kernel.apply([KernelState(links=(given_away(),))])

    (found,) = differences(machine, KernelState())
    machine.kernel.repair([found])

    assert found.problem is Problem.FOREIGN
    assert names(machine) == {PARENT}


def test_a_link_that_leaves_is_removed_where_it_is_still_here(machine: Machine) -> None:
    state = KernelState(links=(given_away(),))
    machine.kernel.apply([state])

    machine.kernel.remove([state], wait=True)
    machine.kernel.remove([state], wait=True)

    assert names(machine) == {PARENT}


def test_a_link_of_others_under_the_name_of_one_that_left_stays(machine: Machine) -> None:
    state = KernelState(links=(given_away(),))
    machine.add_link("cs1")

    found = differences(machine, state)
    machine.kernel.remove([state], wait=True)

    assert found == []
    assert names(machine) == {PARENT, "cs1"}


def test_a_pair_whose_other_end_left_is_whole(machine: Machine) -> None:
    state = KernelState(links=(pair(),))
    machine.kernel.apply([state])
    machine.move_link("cp1", machine.box, "eth0")

    machine.kernel.apply([state])

    assert differences(machine, state) == []
    assert names(machine) == {PARENT, "cv1"}
    assert names(machine, machine.box) == {"eth0"}


def test_a_pair_whose_other_end_left_is_changed_in_place(machine: Machine) -> None:
    state = KernelState(links=(pair(),))
    machine.kernel.apply([state])
    machine.move_link("cp1", machine.box, "eth0")
    wanted = KernelState(links=(replace(pair(), mtu=1300),))

    (found,) = differences(machine, wanted)
    machine.kernel.repair([found])

    assert found.problem is Problem.CHANGED
    assert differences(machine, wanted) == []
    assert names(machine, machine.box) == {"eth0"}


def test_a_pair_that_is_gone_is_missing_and_is_not_made_again(machine: Machine) -> None:
    """Nor what is on it: the rest of the same repair goes on."""
    wanted = KernelState(
        links=(replace(pair(), master="cnm-1"), Link("cnm-1", LinkKind.BRIDGE, alias="cnm:network:1")),
        neighbors=(Neighbor("cnm-1", "10.9.0.2", MAC),),
        fdb=(FdbEntry("cv1", "02:42:0a:09:00:99"),),
        sysctls=(Sysctl("net/ipv6/conf/cv1/disable_ipv6", "1"),),
    )
    found = differences(machine, wanted)

    machine.kernel.repair(found)

    assert Finding(HOST, Problem.MISSING, wanted.links[0]) in found
    assert names(machine) == {PARENT, "cnm-1"}
    assert {f.wanted for f in differences(machine, wanted)} == {
        wanted.links[0], wanted.fdb[0], wanted.sysctls[0],
    }  # fmt: skip


def test_a_pair_whose_other_end_is_away_is_cut_off_first_and_deleted_when_asked_again(
    machine: Machine,
) -> None:
    state = KernelState(links=(pair(),))
    machine.kernel.apply([state])
    machine.move_link("cp1", machine.box, "eth0")

    machine.kernel.remove([state], wait=True)
    (there,) = machine.kernel.observe([state])
    machine.kernel.remove([KernelState(links=(replace(pair(), peer=None),))], wait=True)

    (cut_off,) = (link for link in there.links if link.name == "cv1")
    assert cut_off.group == Group.LEFT
    assert names(machine) == {PARENT}
    assert names(machine, machine.box) == set()


def test_a_name_for_the_other_end_that_is_taken_on_the_host_is_refused(machine: Machine) -> None:
    machine.add_link("cp1")

    with pytest.raises(
        Conflict, match=r"^interface cp1 cannot be made in the host's namespace: file exists$"
    ):
        machine.kernel.apply([KernelState(links=(pair(),))])

    assert names(machine) == {PARENT, "cp1"}
