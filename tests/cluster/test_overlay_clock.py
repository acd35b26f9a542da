"""The clock of a host jumps under its cnmd: what goes on, what is told, what comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from cnm.cluster import keys
from tests.cluster.boxes import Box, agreed, create, disagreement, etcd
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab
from tests.support.unpacked import ROOT, environment

_LIBRARY = next(ROOT.glob("usr/lib/*-linux-gnu/faketime/libfaketimeMT.so.1"), None)

pytestmark = [
    pytest.mark.root,
    NEEDS_ETCD,
    pytest.mark.skipif(_LIBRARY is None, reason="libfaketime not unpacked in .tools: run make setup"),
]


_SITE = """import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""
"""libfaketime shifts the deadline that Python's time.sleep gives clock_nanosleep(2), though that is of the monotonic
clock: EINVAL."""


_NOTICED = 1
"""Seconds for which libfaketime keeps what it read: if it looked each time, gRPC would take a whole core."""


class Clock:
    """Of one cnmd: as far from the host's as `jump` says, the monotonic one apart."""

    def __init__(self, host: ClusterHost, file: Path) -> None:
        self._file = file
        self.jump("+0")
        site = file.with_name("site")
        site.mkdir()
        (site / "sitecustomize.py").write_text(_SITE)
        faked = {
            "PYTHONPATH": f"{site}:{ROOT.parents[1]}",
            "LD_PRELOAD": str(_LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": str(_NOTICED),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        host.cnmd.stop()
        host.cnmd.popen = partial(host.net.popen, env={**os.environ, **environment(), **faked})
        host.start()
        eventually(lambda: host.status()["State"] == "ready")

    def jump(self, offset: str) -> None:
        """To that far from the host's clock, as faketime(1) takes it: +1d, -30m."""
        self._file.write_text(offset)
        time.sleep(_NOTICED)


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    with joined_lab(members=1, clients=1) as made:
        create(list(made.h.values()), "web", Internal=True)
        yield made


@pytest.fixture(scope="module")
def clock(lab: ClusterLab) -> Clock:
    return Clock(lab.h[2], lab.h[2].cnmd.place / "clock")


@pytest.fixture(scope="module")
def boxes(lab: ClusterLab, clock: Clock) -> tuple[Box, Box]:
    return Box(lab.h[1], "one", "web"), Box(lab.h[2], "two", "web")


def told(host: ClusterHost) -> list[str]:
    return list(host.status()["Warnings"])


def created(lab: ClusterLab) -> int:
    """When the others saw h2 come, as a revision: another one where they had lost it meanwhile."""
    return int(etcd(lab.h[1], "get", keys.node("h2"))["kvs"][0]["create_revision"])


def works(lab: ClusterLab, boxes: tuple[Box, Box]) -> None:
    """New endpoints come on both hosts, and reach each other."""
    pair = [Box(host, f"new-{host.name}", "web") for host in lab.h.values()]
    for one, other in zip((*pair, *boxes), (*reversed(pair), *reversed(boxes)), strict=True):
        eventually(
            lambda one=one, other=other: one.ping(other.ipv4)
        )  # watches come back a moment after the node
    for box in pair:
        box.remove()
    agreed(
        lambda: disagreement(lab.h[1], list(lab.h.values()), [box.endpoint["NetworkId"] for box in boxes[:1]])
    )


@pytest.mark.parametrize("offset", ["+2h", "-30m", "+30d"])
def test_a_jump_within_the_certificates_time_changes_nothing(
    lab: ClusterLab, clock: Clock, boxes: tuple[Box, Box], offset: str
) -> None:
    before = created(lab)

    clock.jump(offset)

    works(lab, boxes)
    assert created(lab) == before
    assert lab.h[2].status()["State"] == "ready"
    assert told(lab.h[2]) == []
    clock.jump("+0")


def test_a_daemon_that_starts_with_a_clock_far_off_says_so_and_comes_back_with_the_right_one(
    lab: ClusterLab, clock: Clock, boxes: tuple[Box, Box]
) -> None:
    words = "its certificate is not valid yet by this host's clock: is that right?"
    clock.jump("-2d")
    lab.h[2].cnmd.restart()

    eventually(lambda: f"member 192.0.2.1:2379 is away: {words}" in told(lab.h[2]))
    assert lab.h[2].status()["State"] == "away"
    status, answer = lab.h[2].cnmd.request("POST", "/networks/create", {"Name": "late", "Driver": "overlay"})
    assert status == 503
    assert words in answer["message"]

    clock.jump("+0")

    eventually(lambda: lab.h[2].status()["State"] == "ready")
    eventually(lambda: told(lab.h[2]) == [])
    works(lab, boxes)
