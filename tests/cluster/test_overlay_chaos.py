"""Random changes on three hosts whose daemons and members of etcd are killed all the time; afterwards all agree."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException

import pytest

from cnm.cluster import keys
from tests.cluster.actor import SEED, Actor
from tests.cluster.boxes import agreed, disagreement, records, unreached
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab, together

pytestmark = [pytest.mark.root, NEEDS_ETCD]

KILLS = 9
"""Three of each kind; what is killed is looked after before the next one."""


class Undeterred(Actor):
    """Goes on as long as `going` is set, whatever is killed under it."""

    def go(self, going: threading.Event) -> None:
        interrupted = False
        while going.is_set():
            try:
                if interrupted:
                    self.know()
                self.act(1)
                interrupted = False
            except (OSError, HTTPException):  # its daemon was killed
                interrupted = True
                time.sleep(0.05)


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    with joined_lab(members=3) as made:
        yield made


def restart_cnmd(host: ClusterHost) -> None:
    host.cnmd.kill()
    host.start()


def kill_etcd(host: ClusterHost) -> None:
    before = eventually(host.etcd_pids)
    host.kill_etcd()
    eventually(lambda: host.etcd_pids() not in ([], before))


def freeze_etcd(host: ClusterHost) -> None:
    host.kill_etcd(signal.SIGSTOP)
    time.sleep(2.0)
    host.kill_etcd(signal.SIGCONT)


@pytest.fixture(scope="module")
def actors(lab: ClusterLab) -> list[Undeterred]:
    """After all that was done, by them and to them."""
    print(f"CNM_TEST_SEED={SEED}")
    dice, going = random.Random(SEED), threading.Event()
    made = [
        Undeterred(host, random.Random(f"{SEED} {host.name}"), fine=frozenset({403, 404, 409, 503}))
        for host in lab.h.values()
    ]
    blows = [(act, host) for act in (restart_cnmd, kill_etcd, freeze_etcd) for host in lab.h.values()]
    dice.shuffle(blows)

    def strike() -> None:
        try:
            for act, host in blows:
                time.sleep(dice.uniform(0.1, 0.5))
                act(host)
        finally:
            going.clear()

    going.set()
    together([strike, *(actor.go for actor in made)], lambda act: act() if act is strike else act(going))
    for actor in made:
        eventually(lambda actor=actor: actor.host.status()["State"] == "ready")
        actor.know()
    return made


def test_kernels_daemons_and_etcd_agree(lab: ClusterLab, actors: list[Undeterred]) -> None:
    def found() -> list[str]:
        return disagreement(lab.h[1], list(lab.h.values()), list(records(lab.h[1], keys.NETWORKS)))

    agreed(found)
    names = sorted(shared["name"] for shared in records(lab.h[1], keys.NETWORKS).values())
    for actor in actors:
        eventually(lambda actor=actor: actor.networks() == names)


def test_no_address_is_claimed_twice_or_for_nobody(lab: ClusterLab, actors: list[Undeterred]) -> None:
    def differing() -> list[str]:
        have = [
            (key.split("/")[1], shared[each])
            for key, shared in records(lab.h[1], keys.ENDPOINTS).items()
            for each in ("ipv4", "ipv6")
            if each in shared
        ]
        claims = records(lab.h[1], keys.ADDRESSES)
        claimed = [
            (claim["node"], key.rpartition("/")[2]) for key, claim in claims.items() if "node" in claim
        ]
        return [f"{each} is claimed and not there" for each in claimed if each not in have] + [
            f"{each} is there and not claimed" for each in have if claimed.count(each) != 1
        ]

    agreed(differing)


def test_sandboxes_reach_each_other_afterwards(lab: ClusterLab, actors: list[Undeterred]) -> None:
    assert any(networks for actor in actors for networks in actor.inside.values())
    for ident in records(lab.h[1], keys.NETWORKS):
        assert unreached(lab.h[1], list(lab.h.values()), ident) == []
