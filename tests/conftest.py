"""Every test process leaves the machine's namespaces before anything else; most rungs need root for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netns_fixtures import IsolationError, isolate
from tests.support.machine import Machine, processes_left

_NEED_ROOT = ("kernel", "packet", "docker", "cluster", "faults")
_MACHINE = pytest.StashKey[Machine]()


def pytest_configure(config: pytest.Config) -> None:
    if os.geteuid() == 0 and not _only_directs_workers(config):
        config.stash[_MACHINE] = Machine()
        try:
            isolate()
        except IsolationError as error:
            raise pytest.UsageError(str(error)) from error


def _only_directs_workers(config: pytest.Config) -> bool:
    return config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if any(item.path.is_relative_to(here / rung) for rung in _NEED_ROOT):
            item.add_marker(pytest.mark.root)
        if os.geteuid() != 0 and item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root: sudo make test"))


@pytest.fixture(autouse=True)
def thread_stays_where_it_was() -> Iterator[None]:
    """A test that forgot to leave a namespace would have those after it fail."""
    before = _namespaces()
    yield
    assert _namespaces() == before


def _namespaces() -> tuple[str, ...]:
    """Of the calling thread."""
    return tuple(os.readlink(f"/proc/thread-self/ns/{kind}") for kind in ("net", "mnt"))


@pytest.fixture(scope="session", autouse=True)
def machine_is_left_as_it_was(pytestconfig: pytest.Config) -> Iterator[None]:
    """Nothing of ours is outside the test's own namespaces at the end, and no process inside them."""
    yield
    if machine := pytestconfig.stash.get(_MACHINE, None):
        assert processes_left() == []
        assert machine.changes() == []
