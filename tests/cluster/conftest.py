"""Real members of etcd on the loopback of the test process's own namespace, their data in its private memory."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.etcd import PROGRAMS, EtcdCluster, running_etcd
from tests.support.unpacked import lacking


@contextmanager
def _cluster(size: int) -> Iterator[EtcdCluster]:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    place = Path(tempfile.mkdtemp(prefix="etcd-", dir="/run"))
    try:
        with running_etcd(place, size) as cluster:
            yield cluster
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="session")
def lone_etcd() -> Iterator[EtcdCluster]:
    """One member for all tests; each has keys of its own there."""
    with _cluster(1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def _three_members() -> Iterator[EtcdCluster]:
    with _cluster(3) as cluster:
        yield cluster


@pytest.fixture
def three_etcds(_three_members: EtcdCluster) -> EtcdCluster:
    """Three members that are well, and that a test may kill or freeze."""
    for member in _three_members.members:
        if member.process is not None:
            member.thaw()
        else:
            member.spawn()
    for member in _three_members.members:
        member.wait()
    return _three_members
