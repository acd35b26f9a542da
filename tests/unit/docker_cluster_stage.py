"""Hosts of a cluster, each with a dockerd that is played: its plugin calls, and its API for the worker that asks it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cnm.cluster import keys
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.records import Claim, SharedEndpoint, decode, encode
from cnm.dockerd_ipam import DockerdIpam
from cnm.ipam import Ipam
from cnm.network import Network
from cnm.plugin.dockerd_api import DockerdApi
from cnm.plugin.faces import Face
from cnm.plugin.forgotten_leases import ForgottenLeases
from cnm.plugin.learner import Learner
from cnm.plugin.showing import OVERLAY, Showing
from tests.support.fake_docker_api import FakeDockerApi
from tests.support.fake_dockerd import FakeDockerd
from tests.unit.cluster_stage import CLUSTER, Host, eventually
from tests.unit.plugin_stage import PluginStage, dockerd


class DockerHost(Host, PluginStage):
    """`dockerd` is used by the test, and by its API's threads under its lock: `docker(…)` for everything in tests."""

    plugin = OVERLAY

    def __init__(
        self, name: str, address: str, place: Path, store: MemoryStore, version: str, dns_listen: str
    ) -> None:
        self.seconds = 0.0
        """What the clock of forgotten leases says."""
        self._running = ExitStack()
        self._api_socket = place / "docker.sock"
        self.working = False
        super().__init__(name, address, place, store, dns_listen=dns_listen)
        self._serve()
        self.dockerd: FakeDockerd = dockerd(self, version)
        self.api = FakeDockerApi(self.dockerd)
        self._running_api = ExitStack()
        self._running_api.enter_context(self.api.serve(self._api_socket))

    def start(self) -> None:
        super().start()
        api = DockerdApi(f"unix://{self._api_socket}")
        forgotten = ForgottenLeases(self.leases, self.controller.dockerd, lambda: self.seconds)
        self.showing = Showing(api, self.controller, forgotten)
        self.resources.warners.append(self.showing.warnings)
        learner = Learner(None, self.controller.dockerd, {self.plugin: self.leases})
        self.face = Face(
            OVERLAY, self.controller.dockerd, self.leases, lambda _network: False, learner, self.showing
        )
        if self.working:
            self.work()

    def _serve(self) -> None:
        self._running.enter_context(self.serving())

    def work(self) -> None:
        """The worker is at work from now on, and after each restart."""
        self.working = True
        self.showing.start()

    def plugin_ipam(self) -> Ipam:
        return DockerdIpam(self.resources)

    def end(self) -> None:
        self.showing.close()
        self._running.close()
        super().end()

    def close(self) -> None:
        self._running_api.close()
        self.dockerd.daemon_kill()
        self.end()

    def restart(self) -> None:
        self.end()
        self.start()
        self._serve()

    def docker(self, verb: Callable[..., Any], *arguments: Any, **more: Any) -> Any:
        """A verb of the dockerd, as `host.docker(host.dockerd.run, …)`."""
        with self.api.lock:
            return verb(*arguments, **more)

    def run(self, container: str, network: str = "web", **more: Any) -> Any:
        """Its endpoint on the network, as dockerd has it."""
        made = self.docker(self.dockerd.run, container, network, **more)
        return next(e for e in made.sandbox.endpoints if e.network.name == network)

    def show(self, name: str = "web", **request: Any) -> Network:
        options = {"cnm.docker": "true"} | request.pop("options", {})
        return self.overlay(name, options=options, **request)

    def status_warnings(self) -> list[str]:
        return [line for line in self.controller.status().warnings if "ocker" in line]


class DockerHosts:
    """Some hosts of one cluster; their workers look when a test says so, or all the time after `work`."""

    def __init__(
        self, place: Path, count: int = 2, version: str = "20.10", dns_listen: str = "127.0.0.12,172.17.0.1"
    ) -> None:
        self.store = MemoryStore()
        self.etcd = MemoryEtcd(self.store)
        self.etcd.put(keys.CLUSTER, encode(CLUSTER))
        for number in range(1, count + 1):
            (place / f"h{number}").mkdir()
        self.all = [
            DockerHost(
                f"h{number}", f"192.0.2.{number}", place / f"h{number}", self.store, version, dns_listen
            )
            for number in range(1, count + 1)
        ]
        for host in self.all:
            eventually(lambda host=host: len(host.resources.cluster.nodes.all()) == count)

    def close(self) -> None:
        for host in self.all:
            host.close()

    def know(self, name: str = "web") -> None:
        """All have heard of the network."""
        eventually(lambda: all(name in {n.name for n in host.controller.networks()} for host in self.all))

    def shown(self, name: str = "web", **request: Any) -> Network:
        """A network of the cluster that is in every dockerd."""
        made = self.all[0].show(name, **request)
        self.know(name)
        for host in self.all:
            host.showing.look()
            assert name in host.dockerd.networks
        return made

    # What is in etcd

    def claims(self) -> dict[str, str]:
        """Nodes by the address that they claim."""
        items = self.etcd.list(keys.ADDRESSES).items
        return {item.key.rpartition("/")[2]: decode(item.value, Claim).node for item in items}

    def endpoints(self, network: Network) -> dict[str, SharedEndpoint]:
        items = self.etcd.list(keys.endpoints(network.id)).items
        return {item.key.rpartition("/")[2]: decode(item.value, SharedEndpoint) for item in items}

    def keys_of(self, prefix: str) -> list[str]:
        return [item.key for item in self.etcd.list(prefix).items]
