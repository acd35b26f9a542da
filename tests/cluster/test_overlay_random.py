"""Two hundred changes in random order on three hosts at once; afterwards kernel, daemons and etcd say the same."""

from __future__ import annotations

import random
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from cnm.cluster import keys
from tests.cluster.actor import SEED, Actor
from tests.cluster.boxes import agreed, disagreement, records, takes_part, unreached, values
from tests.cluster.hosts import NEEDS_ETCD, ClusterLab, eventually, joined_lab, together

pytestmark = [pytest.mark.root, NEEDS_ETCD]

CHANGES = 200


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    with joined_lab(members=3) as made:
        yield made


@pytest.fixture(scope="module")
def actors(lab: ClusterLab) -> list[Actor]:
    """After all that they did."""
    print(f"CNM_TEST_SEED={SEED}")
    made = [Actor(host, random.Random(f"{SEED} {host.name}")) for host in lab.h.values()]
    share, rest = divmod(CHANGES, len(made))
    together(made, lambda actor: actor.act(share + (rest if actor is made[0] else 0)))
    return made


def ids(lab: ClusterLab) -> dict[str, str]:
    """Of the cluster's networks, by name."""
    return {shared["name"]: ident for ident, shared in records(lab.h[1], keys.NETWORKS).items()}


def test_kernels_daemons_and_etcd_agree(lab: ClusterLab, actors: list[Actor]) -> None:
    agreed(lambda: disagreement(lab.h[1], list(lab.h.values()), list(ids(lab).values())))

    agreed(
        lambda: [
            f"{actor.host.name} knows {known}, there are {there}"
            for there in [sorted(ids(lab))]
            for actor in actors
            if (known := actor.networks()) != there
        ]
    )
    for actor in actors:
        doctor = actor.host.cnmd.cnmctl("doctor")
        assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_etcd_has_what_was_done_and_no_more(lab: ClusterLab, actors: list[Actor]) -> None:
    networks = ids(lab)
    joined = {
        (actor.host.name, box, network)
        for actor in actors
        for box, names in actor.inside.items()
        for network in names
    }

    told = {
        (key.split("/")[0], shared["names"][0], name)
        for name, ident in networks.items()
        for key, shared in records(lab.h[1], keys.endpoints(ident)).items()
    }
    assert told == joined
    parts = {tuple(key.split("/")) for key in records(lab.h[1], keys.PARTICIPANTS)}
    assert parts == {(host, networks[network]) for host, _, network in joined}
    assert all(key.partition("/")[0] in networks.values() for key in records(lab.h[1], keys.ENDPOINTS))


def test_every_address_is_claimed_once_by_who_has_it(lab: ClusterLab, actors: list[Actor]) -> None:
    have: list[tuple[str, str]] = []
    for key, shared in records(lab.h[1], keys.ENDPOINTS).items():
        have += [(key.split("/")[1], shared[each]) for each in ("ipv4", "ipv6") if each in shared]

    claims = records(lab.h[1], keys.ADDRESSES)
    claimed = [(claim["node"], key.rpartition("/")[2]) for key, claim in claims.items() if "node" in claim]

    assert len({ip_address(address) for _, address in have}) == len(have)
    assert sorted(claimed) == sorted(have)


def test_nothing_is_left_of_what_was_removed(lab: ClusterLab, actors: list[Actor]) -> None:
    alive = {ident[:12] for ident in ids(lab).values()}
    assert {ident[:12] for ident in values(lab.h[1], keys.NETWORK_NAMES).values()} == alive
    assert {ident[:12] for ident in values(lab.h[1], keys.VNIS).values()} == alive
    for actor in actors:
        spaces = {path.name for path in (actor.host.cnmd.place / "run" / "netns").iterdir()}
        sandboxes = {
            each["NetnsPath"].rpartition("/")[2] for each in actor.host.cnmd.ask("GET", "/cnm/v1/sandboxes")
        }
        probe = spaces - sandboxes - alive
        assert len(probe) == 1  # the segment that paths between hosts are probed with
        assert all(takes_part(actor.host, ident) == (ident[:12] in spaces) for ident in ids(lab).values())


def test_hosts_reach_each_other_in_every_network(lab: ClusterLab, actors: list[Actor]) -> None:
    assert any(networks for actor in actors for networks in actor.inside.values())
    for ident in ids(lab).values():
        assert unreached(lab.h[1], list(lab.h.values()), ident) == []


def test_all_of_it_goes(lab: ClusterLab, actors: list[Actor]) -> None:
    for actor in actors:
        for box in sorted(actor.inside):
            assert actor.change("DELETE", f"/cnm/v1/sandboxes/{box}?force=1")
    for name in ids(lab):
        actors[0].change("DELETE", f"/networks/{name}")

    for prefix in (
        keys.NETWORKS,
        keys.NETWORK_NAMES,
        keys.VNIS,
        keys.ADDRESSES,
        keys.ENDPOINTS,
        keys.PARTICIPANTS,
    ):
        eventually(lambda prefix=prefix: values(lab.h[1], prefix) == {})
    for actor in actors:
        eventually(lambda actor=actor: actor.networks() == [])
        assert actor.host.cnmd.findings() == []
