"""Two hundred changes in random order on three hosts at once; afterwards kernel, daemons and etcd say the same."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

from cnm.cluster import keys
from netns_fixtures import Host
from tests.cluster.boxes import agreed, disagreement, overlay_lab, records, takes_part, together, values
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually

pytestmark = [pytest.mark.root, NEEDS_ETCD]

CHANGES = 200
SEED = int(os.environ.get("CNM_TEST_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
"""Another one each time; that of a run that failed is in its output."""
_FINE = {404, 409, 403}
"""What a change may be answered that another host was quicker with: gone, taken, in use."""


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    with overlay_lab(members=3) as made:
        yield made


@dataclass
class Actor:
    """Changes what it likes on its host, and knows what it has: networks (of all hosts) and sandboxes in them."""

    host: ClusterHost
    random: random.Random
    inside: dict[str, set[str]] = field(default_factory=dict)
    """Names of networks by sandbox."""
    made: int = 0
    refused: list[str] = field(default_factory=list)

    def act(self, count: int) -> None:
        for _ in range(count):
            kind = self.random.choices(
                (self.create, self.join, self.leave, self.delete, self.remove), (2, 8, 4, 2, 1)
            )[0]
            kind()

    def networks(self) -> list[str]:
        found = self.host.cnmd.ask("GET", "/networks")
        return sorted(network["Name"] for network in found if network["Driver"] == "overlay")

    def change(self, method: str, path: str, body: Any = None) -> bool:
        """Whether it was done; AssertionError for an answer that no race explains."""
        status, answer = self.host.cnmd.request(method, path, body)
        assert status < 400 or status in _FINE, f"{self.host.name}: {method} {path}: {status} {answer}"
        if status >= 400:
            self.refused.append(f"{method} {path}: {answer}")
        return status < 400

    def create(self) -> None:
        """Under one of a few names, which other hosts like as well."""
        name = f"net{self.random.randrange(5)}"
        if name not in self.networks():
            options = {"EnableIPv6": self.random.random() < 0.5, "Internal": self.random.random() < 0.8}
            self.change("POST", "/networks/create", {"Name": name, "Driver": "overlay", **options})

    def join(self) -> None:
        networks = self.networks()
        if not networks:
            return self.create()
        if not self.inside or self.random.random() < 0.5:
            name = f"box-{self.host.name}-{self.made}"
            self.made += 1
            self.host.cnmd.create_sandbox(name)
            self.inside[name] = set()
        box, network = self.random.choice(sorted(self.inside)), self.random.choice(networks)
        body = {"Container": box, "EndpointConfig": {}}
        if network not in self.inside[box] and self.change("POST", f"/networks/{network}/connect", body):
            self.inside[box].add(network)

    def leave(self) -> None:
        joined = [
            (box, network) for box, networks in sorted(self.inside.items()) for network in sorted(networks)
        ]
        if joined:
            box, network = self.random.choice(joined)
            assert self.change("POST", f"/networks/{network}/disconnect", {"Container": box})
            self.inside[box].discard(network)

    def delete(self) -> None:
        if networks := self.networks():
            self.change("DELETE", f"/networks/{self.random.choice(networks)}")

    def remove(self) -> None:
        if self.inside:
            box = self.random.choice(sorted(self.inside))
            assert self.change("DELETE", f"/cnm/v1/sandboxes/{box}?force=1")
            del self.inside[box]


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

    for actor in actors:
        assert actor.networks() == sorted(ids(lab))
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


def test_everybody_reaches_everybody_in_a_network(lab: ClusterLab, actors: list[Actor]) -> None:
    for ident in ids(lab).values():
        found = records(lab.h[1], keys.endpoints(ident))
        addresses = [shared["ipv4"] for shared in found.values()]
        for actor in actors:
            own = [
                shared["names"][0] for key, shared in found.items() if key.startswith(f"{actor.host.name}/")
            ]
            if own:
                with Host(own[0], sandbox(actor.host, own[0])["NetnsPath"]) as box:
                    assert [address for address in addresses if not box.ping(address)] == [], own[0]


def sandbox(host: ClusterHost, name: str) -> Any:
    return host.cnmd.ask("GET", f"/cnm/v1/sandboxes/{name}")


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
