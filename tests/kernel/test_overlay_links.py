"""What an overlay network has in its namespace, on the fake kernel and the real one alike."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from cnm.errors import Conflict, KernelError, NotFound
from cnm.kernel.diff import diff
from cnm.kernel.repair import state_of
from cnm.kernel.state import (
    HOST,
    FdbEntry,
    Finding,
    Group,
    KernelState,
    Link,
    LinkKind,
    Peer,
    Problem,
    RemotePeer,
)
from netns_fixtures import Host
from tests.support.kernels import Machine, fake_machine, linux_machine
from tests.support.names_lab import eventually
from tests.support.overlays import DEVICE, bridge, device, inside, mac, network, peer, port

HERE, THERE, ELSEWHERE = "192.0.2.1", "192.0.2.2", "192.0.2.3"


@pytest.fixture(params=[fake_machine, linux_machine], ids=["fake", "linux"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Machine]:
    with request.param(tmp_path) as made:
        made.kernel.create_namespace(overlay(made), bridged=True)
        yield made
        for path in (overlay(made), another(made)):
            made.kernel.remove_namespace(path)


def overlay(machine: Machine) -> str:
    return f"{machine.box}-overlay"


def another(machine: Machine) -> str:
    return f"{machine.box}-another"


def whole(machine: Machine) -> tuple[KernelState, KernelState]:
    """The network with one endpoint."""
    state = network(overlay(machine), port(1, machine.box))
    return replace(state, fdb=(FdbEntry("cv1", mac(1)),)), inside(machine.box, 1)


def differences(machine: Machine, *states: KernelState) -> list[Finding]:
    return diff(states, machine.kernel.observe(states))


def names(machine: Machine, namespace: str = HOST) -> set[str]:
    return set(machine.aliases(namespace)) - {"lo"}


def remotes(machine: Machine) -> set[RemotePeer]:
    return set(machine.kernel.observe_peers(overlay(machine), DEVICE).peers)


# Links


def test_a_network_is_made_in_its_namespace_as_often_as_one_likes(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    machine.kernel.apply(whole(machine))

    assert differences(machine, *whole(machine)) == []
    assert names(machine, overlay(machine)) == {"br0", DEVICE, "cv1"}
    assert machine.aliases(overlay(machine))[DEVICE] == "cnm:network:1"
    assert names(machine, machine.box) == {"eth0"}
    assert names(machine) == set()


def test_what_is_removed_is_gone_and_the_rest_stays(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))

    endpoint = KernelState(namespace=overlay(machine), own=True, links=(port(1, machine.box),))
    machine.kernel.remove([endpoint, whole(machine)[1]], wait=True)

    assert names(machine, machine.box) == set()
    assert names(machine, overlay(machine)) == {"br0", DEVICE}
    assert differences(machine, network(overlay(machine))) == []


def test_a_vni_is_free_at_once_when_its_device_was_removed(machine: Machine) -> None:
    for _ in range(5):
        machine.kernel.apply(whole(machine))
        machine.kernel.remove(whole(machine))
    machine.kernel.apply(whole(machine))

    assert differences(machine, *whole(machine)) == []


def test_bridged_frames_of_a_network_pass_no_firewall(tmp_path: Path) -> None:
    with linux_machine(tmp_path) as made:
        if made.kernel.sysctl("net/bridge/bridge-nf-call-iptables") is None:
            pytest.skip("br_netfilter is not loaded")
        made.kernel.create_namespace(overlay(made), bridged=True)
        try:
            host = Host("overlay", overlay(made))
            for name in ("ip", "ip6", "arp"):
                assert host.sysctl(f"net.bridge.bridge-nf-call-{name}tables") == "0"
        finally:
            made.kernel.remove_namespace(overlay(made))


def test_a_network_comes_back_in_a_new_namespace_at_once(machine: Machine) -> None:
    for _ in range(3):
        machine.kernel.apply(whole(machine))
        machine.kernel.remove(whole(machine))
        machine.kernel.remove_namespace(overlay(machine))
        machine.kernel.create_namespace(overlay(machine), bridged=True)
    machine.kernel.apply(whole(machine))

    assert differences(machine, *whole(machine)) == []


def test_a_namespace_that_went_with_all_that_was_in_it_is_made_again(machine: Machine) -> None:
    """The sandbox loses its end of the pair; the device may keep its VNI for a moment."""
    machine.kernel.apply(whole(machine))
    machine.kernel.remove_namespace(overlay(machine))
    eventually(lambda: names(machine, machine.box) == set())
    machine.kernel.create_namespace(overlay(machine), bridged=True)

    machine.kernel.repair(differences(machine, *whole(machine)))

    assert differences(machine, *whole(machine)) == []


def test_a_device_that_dies_with_its_namespace_is_waited_for(machine: Machine) -> None:
    for _ in range(3):
        machine.kernel.apply([network(overlay(machine))])
        machine.kernel.remove_namespace(overlay(machine))
        machine.kernel.create_namespace(overlay(machine), bridged=True)
    machine.kernel.apply([network(overlay(machine))])

    assert differences(machine, network(overlay(machine))) == []


def test_each_record_that_is_missing_is_found_and_comes_back(machine: Machine) -> None:
    states = whole(machine)
    machine.kernel.apply(states)

    for state in states:
        for record in (*state.links, *state.addresses, *state.fdb):
            machine.kernel.remove([state_of(state.namespace, [record], own=state.own)], wait=True)
            found = differences(machine, *states)
            machine.kernel.repair(found)

            assert record in [finding.wanted for finding in found]
            assert differences(machine, *states) == [], record


def test_many_endpoints_are_attached_at_once(machine: Machine) -> None:
    machine.kernel.apply([network(overlay(machine))])
    ports = [port(number, machine.box, ifname=f"eth{number}") for number in range(1, 17)]

    def attach(link: Link) -> None:
        with machine.here():
            machine.kernel.apply([KernelState(namespace=overlay(machine), own=True, links=(link,))])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(attach, ports))

    assert differences(machine, network(overlay(machine), *ports)) == []


# Whose a link is


def test_what_is_ours_and_unwanted_in_a_networks_namespace_goes(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))

    found = differences(machine, network(overlay(machine)), inside(machine.box, 1))
    machine.kernel.repair([f for f in found if f.namespace == overlay(machine)])

    assert Finding(overlay(machine), Problem.FOREIGN, observed=found[0].observed) == found[0]
    assert names(machine, overlay(machine)) == {"br0", DEVICE}
    assert names(machine, machine.box) == set()


def test_what_others_made_in_a_networks_namespace_stays(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    machine.add_link("theirs", "somebody:else", overlay(machine))

    assert differences(machine, *whole(machine)) == []


def test_our_mark_says_nothing_in_a_namespace_that_is_not_ours_alone(machine: Machine) -> None:
    machine.add_link("br0", "cnm:network:1", machine.box)

    assert differences(machine, KernelState(namespace=machine.box)) == []


@pytest.mark.parametrize("alias", ["", "somebody:else", "cnm:network:another"])
def test_an_interface_of_others_under_the_devices_name_is_refused_and_stays(
    machine: Machine, alias: str
) -> None:
    machine.kernel.apply([replace(network(overlay(machine)), links=(bridge(),))])
    machine.add_link(DEVICE, alias, overlay(machine))

    with pytest.raises(Conflict, match=rf"^interface {DEVICE} exists and is not ours: rename or delete it"):
        machine.kernel.apply(whole(machine))

    assert machine.aliases(overlay(machine)) == {"lo": "", "br0": "cnm:network:1", DEVICE: alias}


# Tunnels


def test_a_vni_that_an_interface_of_the_host_has_is_refused(machine: Machine) -> None:
    machine.add_vxlan("theirs", 42)

    with pytest.raises(Conflict) as refusal:
        machine.kernel.apply(whole(machine))

    assert str(refusal.value) == (
        "cannot create interface vx42: VNI 42 on UDP port 4789 is in use by interface theirs of the host: "
        "delete that, or give the network another VNI"
    )
    assert names(machine, overlay(machine)) == {"br0"}


def test_a_vni_that_a_device_in_another_namespace_has_is_refused(machine: Machine) -> None:
    machine.kernel.create_namespace(another(machine), bridged=True)
    machine.kernel.apply([network(another(machine))])

    with pytest.raises(
        Conflict, match=r"VNI 42 on UDP port 4789 is in use by a network namespace of another"
    ):
        machine.kernel.apply(whole(machine))

    assert differences(machine, network(another(machine))) == []


def test_the_same_vni_on_another_port_is_another_tunnel(machine: Machine) -> None:
    machine.kernel.create_namespace(another(machine), bridged=True)
    states = network(another(machine), port=4790), network(overlay(machine))

    machine.kernel.apply(states)

    assert differences(machine, *states) == []


@pytest.mark.parametrize(
    ("tunnel", "words"),
    [
        ({"vni": 43}, "vni is 42"),
        ({"port": 4790}, "port is 4789"),
        ({"local": "2001:db8::1"}, "local is 192.0.2.1"),
    ],
    ids=["vni", "port", "family"],
)
def test_a_device_of_another_tunnel_is_made_anew_without_its_peers(
    machine: Machine, tunnel: dict[str, object], words: str
) -> None:
    machine.kernel.apply([network(overlay(machine))])
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())
    wanted = network(overlay(machine), **tunnel)

    (finding,) = differences(machine, wanted)
    machine.kernel.repair([finding])

    assert (finding.problem, finding.detail) == (Problem.CHANGED, words)
    assert differences(machine, wanted) == []
    assert remotes(machine) == set()


def test_another_local_address_of_the_same_family_leaves_the_peers_in_place(machine: Machine) -> None:
    machine.kernel.apply([network(overlay(machine))])
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())
    wanted = network(overlay(machine), local="192.0.2.77")

    (finding,) = differences(machine, wanted)
    machine.kernel.apply([wanted])

    assert finding.detail == "local is 192.0.2.1"
    assert differences(machine, wanted) == []
    assert remotes(machine) == {peer(7, THERE)}


# Pairs whose other end another program takes


def given_away(machine: Machine) -> Link:
    return replace(port(1, machine.box), peer=Peer(HOST, "cp1", mac(1), 1450, leaves=True))


def test_the_end_that_leaves_is_made_on_the_host(machine: Machine) -> None:
    state = network(overlay(machine), given_away(machine))

    machine.kernel.apply([state])
    here = names(machine)
    machine.move_link("cp1", machine.box, "eth0")
    machine.kernel.apply([state])

    assert here == {"cp1"}
    assert names(machine) == set()
    assert differences(machine, state) == []


def test_a_pair_whose_other_end_is_away_is_cut_off_first_and_deleted_when_asked_again(
    machine: Machine,
) -> None:
    state = network(overlay(machine), given_away(machine))
    machine.kernel.apply([state])
    machine.move_link("cp1", machine.box, "eth0")
    pair = replace(state, links=(given_away(machine),))

    machine.kernel.remove([pair], wait=True)
    (there,) = machine.kernel.observe([pair])
    machine.kernel.remove([replace(pair, links=(replace(given_away(machine), peer=None),))], wait=True)

    assert [link.group for link in there.links if link.name == "cv1"] == [Group.LEFT]
    assert names(machine, overlay(machine)) == {"br0", DEVICE}
    assert names(machine, machine.box) == set()


def test_a_name_for_the_other_end_that_is_taken_on_the_host_is_refused(machine: Machine) -> None:
    machine.add_link("cp1")

    with pytest.raises(
        Conflict, match=r"^interface cp1 cannot be made in the host's namespace: file exists$"
    ):
        machine.kernel.apply([network(overlay(machine), given_away(machine))])

    assert names(machine, overlay(machine)) == {"br0", DEVICE}


# Remote endpoints


def test_remote_endpoints_are_read_as_they_were_written(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    wanted = [peer(number, THERE if number % 2 else ELSEWHERE, number % 3) for number in range(2, 2000)]

    machine.kernel.program_peers(overlay(machine), DEVICE, wanted, ())
    machine.kernel.program_peers(overlay(machine), DEVICE, wanted, ())

    assert remotes(machine) == set(wanted)


def test_remote_endpoints_are_removed_and_what_is_gone_is_no_error(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    stays, goes = peer(7, THERE), [peer(number, ELSEWHERE) for number in range(8, 1000)]
    machine.kernel.program_peers(overlay(machine), DEVICE, [stays, *goes], ())

    machine.kernel.program_peers(overlay(machine), DEVICE, (), goes)
    machine.kernel.program_peers(overlay(machine), DEVICE, (), [*goes, peer(5000, THERE)])

    assert remotes(machine) == {stays}


def test_an_endpoint_that_moved_to_another_host_is_only_added(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())

    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, ELSEWHERE)], ())
    after = remotes(machine)
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], [peer(7, ELSEWHERE)])

    assert after == {peer(7, ELSEWHERE)}
    assert remotes(machine) == {peer(7, THERE)}


def test_an_address_that_an_endpoint_gave_to_another_follows(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    before = RemotePeer(mac(7), THERE, ("10.64.0.7", "fd42::7"))
    machine.kernel.program_peers(overlay(machine), DEVICE, [before], ())

    after = before._replace(addresses=("fd42::7",)), RemotePeer(mac(8), ELSEWHERE, ("10.64.0.7",))
    machine.kernel.program_peers(overlay(machine), DEVICE, after, [before])

    assert remotes(machine) == set(after)


def test_an_address_that_an_endpoint_lost_goes(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())

    lean = peer(7, THERE)._replace(addresses=("10.64.0.7",))
    machine.kernel.program_peers(overlay(machine), DEVICE, [lean], [peer(7, THERE)])

    assert remotes(machine) == {lean}


def test_peers_may_be_of_an_underlay_of_ipv6(machine: Machine) -> None:
    machine.kernel.apply([network(overlay(machine), local="2001:db8::1")])
    wanted = [peer(7, "2001:db8::2"), peer(8, "2001:db8::3")]

    machine.kernel.program_peers(overlay(machine), DEVICE, wanted, ())
    there = remotes(machine)
    machine.kernel.program_peers(overlay(machine), DEVICE, (), wanted)

    assert there == set(wanted)
    assert remotes(machine) == set()


@pytest.mark.parametrize(
    ("bad", "words", "left"),
    [
        (RemotePeer(mac(8), THERE, ("10.64.0.300",)), r"10\.64\.0\.300 \(02:42:0a:00:00:08\) at 192\.0\.2\.2 on vx42",
         {RemotePeer(mac(8), THERE, ())}),
        (RemotePeer("02:42", THERE, ()), r"02:42 at 192\.0\.2\.2 on vx42: not an address", set()),
        (RemotePeer(mac(8), "nowhere", ("10.64.0.8",)), r"02:42:0a:00:00:08 at nowhere on vx42: not an address", set()),
        (RemotePeer(mac(8), "", ()), r"02:42:0a:00:00:08 at no VTEP on vx42: not an address", set()),
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_by_its_name_when_the_rest_is_done(
    machine: Machine, bad: RemotePeer, words: str, left: set[RemotePeer]
) -> None:
    machine.kernel.apply(whole(machine))

    with pytest.raises(KernelError, match=rf"^cannot set remote endpoint {words}"):
        machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE), bad, peer(9, THERE)], ())

    assert {p for p in remotes(machine) if p.mac != mac(8)} == {peer(7, THERE), peer(9, THERE)}
    assert {p for p in remotes(machine) if p.mac == mac(8)} == left


def test_whom_all_is_copied_to_is_added_and_removed(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))

    machine.kernel.flood(overlay(machine), DEVICE, [THERE, ELSEWHERE], ())
    machine.kernel.flood(overlay(machine), DEVICE, [THERE, "192.0.2.4"], [ELSEWHERE, "192.0.2.9"])

    have = machine.kernel.observe_peers(overlay(machine), DEVICE)
    assert sorted(have.flood) == [THERE, "192.0.2.4"]
    assert have.peers == ()


def test_remote_endpoints_are_nobodys_findings_and_outlive_a_repair(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    wanted = {peer(number, THERE) for number in range(2, 50)}
    machine.kernel.program_peers(overlay(machine), DEVICE, list(wanted), ())
    machine.kernel.flood(overlay(machine), DEVICE, [THERE], ())
    machine.kernel.remove([replace(whole(machine)[0], links=(port(1, machine.box),))], wait=True)

    machine.kernel.repair(differences(machine, *whole(machine)))

    assert differences(machine, *whole(machine)) == []
    assert remotes(machine) == wanted


def test_a_device_that_was_taken_out_of_its_bridge_is_seen_to_lack_half_of_each_peer(
    machine: Machine,
) -> None:
    machine.kernel.apply(whole(machine))
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())
    machine.kernel.remove([replace(whole(machine)[0], links=(bridge(),), fdb=())], wait=True)
    machine.kernel.apply(whole(machine))

    halves = remotes(machine)
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())

    assert halves == {peer(7, "")}
    assert remotes(machine) == {peer(7, THERE)}


def test_half_a_peer_is_removed_as_it_was_seen(machine: Machine) -> None:
    machine.kernel.apply(whole(machine))
    machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE), peer(8, THERE)], ())
    machine.kernel.remove([replace(whole(machine)[0], links=(bridge(),), fdb=())], wait=True)
    machine.kernel.apply(whole(machine))

    machine.kernel.program_peers(overlay(machine), DEVICE, (), [peer(7, ""), peer(8, THERE)])

    assert remotes(machine) == set()


def test_a_device_or_a_namespace_that_is_missing_is_said(machine: Machine) -> None:
    with pytest.raises(KernelError, match=r"^interface vx42 does not exist: cnmctl doctor shows"):
        machine.kernel.program_peers(overlay(machine), DEVICE, [peer(7, THERE)], ())
    with pytest.raises(KernelError, match=r"^interface vx42 does not exist"):
        machine.kernel.observe_peers(overlay(machine), DEVICE)
    with pytest.raises(NotFound, match=r"^network namespace /run/lost cannot be opened"):
        machine.kernel.flood("/run/lost", DEVICE, [THERE], ())


def test_a_network_of_another_kind_needs_no_tunnel(machine: Machine) -> None:
    """A bridge in a namespace of its own."""
    state = KernelState(namespace=overlay(machine), own=True, links=(bridge(), port(1, machine.box)))

    machine.kernel.apply([state, inside(machine.box, 1)])

    assert differences(machine, state, inside(machine.box, 1)) == []


def test_a_device_alone_has_no_bridge(machine: Machine) -> None:
    """On the host, too."""
    link = Link(
        "vx9",
        LinkKind.VXLAN,
        alias="cnm:network:9",
        vxlan=replace(device().vxlan, vni=9),  # type: ignore[type-var]
    )
    states = KernelState(links=(link,)), KernelState(namespace=overlay(machine), own=True)

    machine.kernel.apply(states)
    there = differences(machine, *states)
    machine.kernel.remove(states, wait=True)

    assert there == []
    assert names(machine) == set()
