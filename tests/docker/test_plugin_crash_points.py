"""cnmd is killed and started again before each single call of a container's life: nobody notices, nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, PLUGINS, DockerLab, eventually, running_lab
from tests.support.plugin_proxy import PluginProxy
from tests.support.thorough import THOROUGH

pytestmark = [
    NEEDS_DOCKERD,
    pytest.mark.timeout(900),
]


class Killer:
    """Kills cnmd before the call of one number, and starts it again."""

    def __init__(self) -> None:
        self.at = 0
        self.lab: DockerLab | None = None

    def __call__(self, number: int, _path: str) -> None:
        if number == self.at:
            assert self.lab is not None
            self.lab.cnmd.kill()
            self.lab.cnmd.start()


@pytest.fixture(scope="module")
def killer() -> Killer:
    return Killer()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, killer: Killer) -> Iterator[PluginProxy]:
    plugins = tmp_path_factory.mktemp("plugins")
    proxy = PluginProxy(Path(PLUGINS) / "cnm.sock", str(plugins / "cnm.sock"), killer)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, proxy: PluginProxy, killer: Killer) -> Iterator[DockerLab]:
    plugins = str(Path(proxy.target).parent)
    with running_lab(tmp_path_factory.mktemp("lab"), plugins=plugins) as running:
        killer.lab = running
        yield running


def live(lab: DockerLab) -> None:
    """Two networks, a container with a port in one, connected to the other, disconnected, restarted, removed."""
    lab.docker("network", "create", "--driver", "cnm", "--ipam-driver", "cnm", "web")
    lab.docker("network", "create", "--driver", "cnm", "db")
    lab.run("front", "--network", "web", "--publish", "8080:80", command=("httpd", "-f", "-h", "/www"))
    lab.docker("network", "connect", "db", "front")
    eventually(lab.fetches)
    lab.docker("network", "disconnect", "web", "front")
    lab.docker("restart", "--time", "0", "front")
    eventually(lab.fetches)
    lab.docker("rm", "--force", "front")
    lab.docker("network", "rm", "web", "db")


def test_a_cnmd_killed_between_any_two_calls_is_not_noticed(
    lab: DockerLab, proxy: PluginProxy, killer: Killer
) -> None:
    proxy.calls.clear()
    live(lab)
    calls = [call for call in proxy.calls if not call.endswith("EndpointOperInfo")]
    assert len(calls) > 20
    lab.assert_nothing_is_left()

    at = 0
    # The first one is Plugin.Activate, once in dockerd's life.
    for number in range(2, len(proxy.calls) + 1, 1 if THOROUGH else 12):
        proxy.calls.clear()
        killer.at = number
        live(lab)
        at = number
        lab.assert_nothing_is_left()

    assert at >= 15
