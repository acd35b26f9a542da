"""The launcher rung's fixtures: real runc and conmon, one folder of containers for a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.small_containers import Containers, containers
from tests.support.unpacked import lacking


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    """Makes containers; what is left of them ends with the module."""
    if reason := lacking("runc", "conmon", "busybox"):
        pytest.skip(reason)
    with containers(tmp_path_factory.mktemp("c")) as made:
        yield made
