"""The pytest plugin: the fixtures, the `topology` marker, and the isolation of the process when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from netns_fixtures import isolation
from netns_fixtures.errors import IsolationError
from netns_fixtures.topology import Source, Topology

TopologyFactory = Callable[[Source], Topology]

_obstacle = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the one setting, off by default: a plugin that is merely installed must not change anything."""
    parser.addini(
        "netns_isolate", "run the tests in network and mount namespaces of their own", "bool", False
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Isolate each process that runs tests, before other plugins and conftests open anything."""
    config.addinivalue_line(
        "markers", "topology(source): what the fixtures `topology` and `module_topology` build"
    )
    if not config.getini("netns_isolate") or _is_controller(config):
        return
    try:
        isolation.isolate()
    except IsolationError as error:
        config.stash[_obstacle] = str(error)


@pytest.fixture
def make_topology(request: pytest.FixtureRequest) -> Iterator[TopologyFactory]:
    """Build topologies, from any description, that are taken down after the test."""
    with _factory(request) as make:
        yield make


@pytest.fixture(scope="module")
def make_module_topology(request: pytest.FixtureRequest) -> Iterator[TopologyFactory]:
    """Build topologies, from any description, that are taken down after the module's last test."""
    with _factory(request) as make:
        yield make


@pytest.fixture
def topology(request: pytest.FixtureRequest, make_topology: TopologyFactory) -> Topology:
    """The topology of the nearest `topology` marker, built anew for the test."""
    return make_topology(_marked(request))


@pytest.fixture(scope="module")
def module_topology(request: pytest.FixtureRequest, make_module_topology: TopologyFactory) -> Topology:
    """The topology of the module's own `topology` marker (`pytestmark`), built once for the module."""
    return make_module_topology(_marked(request))


def _is_controller(config: pytest.Config) -> bool:
    """Whether this process of pytest-xdist only hands tests out; its workers isolate themselves."""
    return config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")


@contextmanager
def _factory(request: pytest.FixtureRequest) -> Iterator[TopologyFactory]:
    if not isolation.is_isolated():
        if reason := request.config.stash.get(_obstacle, "") or isolation.obstacle():
            pytest.skip(reason)
        isolation.require_isolation()
    directory = request.path.parent
    with ExitStack() as running:

        def make(source: Source) -> Topology:
            located = directory / source if isinstance(source, str | Path) else source
            return running.enter_context(Topology(located))

        yield make


def _marked(request: pytest.FixtureRequest) -> Source:
    marker = request.node.get_closest_marker("topology")
    if marker is None or len(marker.args) != 1:
        remedy = '@pytest.mark.topology("FILE.toml")'
        if request.scope == "module":
            remedy = 'pytestmark = pytest.mark.topology("FILE.toml")'
        raise pytest.UsageError(f"{request.node.nodeid}: no topology is named; write {remedy}")
    source: Source = marker.args[0]
    return source
