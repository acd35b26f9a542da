"""The packet rung's fixtures: one world with one cnmd for a module, with br_netfilter off and on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_fixtures import Topology
from tests.packet.lab import NETWORKS, Lab, running_lab, world


@pytest.fixture(scope="module", params=[False, True], ids=["br_netfilter off", "br_netfilter on"])
def br_netfilter(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, br_netfilter: bool) -> Path:
    """For the daemon's files."""
    return tmp_path_factory.mktemp("cnmd")


@pytest.fixture(scope="module")
def lab(place: Path, br_netfilter: bool) -> Iterator[Lab]:
    """All networks of the lab."""
    with (
        Topology(world()) as topology,
        running_lab(topology, place, br_netfilter=br_netfilter, networks=tuple(NETWORKS)) as running,
    ):
        yield running
