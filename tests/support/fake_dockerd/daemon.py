"""A dockerd for plugins: the user's verbs, each with the calls that the real one makes for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.fake_dockerd.answers import LinkExists, accept_any_link, check_implements
from tests.support.fake_dockerd.client import PluginClient
from tests.support.fake_dockerd.endpoints import Endpoints
from tests.support.fake_dockerd.errors import DockerError, ProtocolViolation
from tests.support.fake_dockerd.ipam import Ipam, NullIpam, Overlaps, OwnIpam, PluginIpam
from tests.support.fake_dockerd.model import (
    Attachment,
    Container,
    Endpoint,
    Network,
    Port,
    Sandbox,
    Subnet,
    new_id,
)
from tests.support.fake_dockerd.mover import KeyFiles, Mover
from tests.support.fake_dockerd.networks import NetworkDriver
from tests.support.fake_dockerd.plugin import Call, Plugin
from tests.support.fake_dockerd.versions import VERSIONS

Order = Callable[[list[str]], list[str]]


def as_given(names: list[str]) -> list[str]:
    """Networks in the order in which the container came to them."""
    return names


class FakeDockerd:
    """dockerd of one version, with one network and IPAM plugin.

    version       "20.10", "28.5" or "29.7"
    socket        the plugin's
    name          of its drivers
    netns         directory of the sandboxes' keys
    mover         makes sandboxes and moves links, see mover.py; without one a key is an empty file
    link_exists   whether a link is in the host's namespace
    overlaps      whether a pool (CIDR text) overlaps the host's routes
    order         in which order a starting container's networks are joined; dockerd's is random
    delays        seconds before each further attempt when the plugin cannot be reached; dockerd: 1, 2, 4, 8

    Verbs raise DockerError where the docker command fails, after what dockerd undoes, and ProtocolViolation where the
    plugin answers what it may not. Not for use by several threads.
    """

    def __init__(
        self,
        version: str,
        socket: str | Path,
        *,
        netns: str | Path,
        name: str = "cnm",
        mover: Mover | None = None,
        link_exists: LinkExists = accept_any_link,
        overlaps: Overlaps = lambda _pool: False,
        order: Order = as_given,
        delays: Sequence[float] = (),
    ) -> None:
        self.version = VERSIONS[version]
        self.name, self.order, self.overlaps = name, order, overlaps
        self.networks: dict[str, Network] = {}
        self.containers: dict[str, Container] = {}
        self._netns = Path(netns)
        client = PluginClient(str(socket), self.version.host, delays=delays)
        self._plugin = Plugin(client, link_exists)
        self._mover = mover or KeyFiles()
        self._driver = NetworkDriver(name, self._plugin, self.version)
        self._ipam = PluginIpam(self._plugin, self.version, lambda pool: self.overlaps(pool))
        self._others: dict[str, Ipam] = {"null": NullIpam(), "default": OwnIpam()}
        self._endpoints = Endpoints(name, self._plugin, self.version, self._ipam_of, self._mover)
        self._activated: dict[str, Any] = {}

    @property
    def calls(self) -> list[Call]:
        """Everything that was asked of the plugin, oldest first."""
        return self._plugin.calls

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Calls within are recorded as caused by `text`."""
        self._plugin.step = text
        try:
            yield
        finally:
            self._plugin.step = ""

    # Networks

    def network_create(
        self,
        name: str,
        *,
        subnets: Sequence[Subnet | str] = (),
        driver: str = "",
        ipam_driver: str = "",
        options: Mapping[str, str] | None = None,
        ipam_options: Mapping[str, str] | None = None,
        internal: bool = False,
        ipv4: bool = True,
        ipv6: bool = False,
    ) -> Network:
        """`docker network create`. Drivers are the plugin's unless named: "bridge"; "default", "null" or any other."""
        if name in self.networks:
            raise DockerError(f"network with name {name} already exists")
        network = Network(
            id=new_id(),
            name=name,
            driver=driver or self.name,
            ipam=ipam_driver or self.name,
            options=dict(options or {}),
            ipam_options=dict(ipam_options or {}),
            internal=internal,
            ipv4=ipv4 or not self.version.ipv4_can_be_off,
            ipv6=ipv6,
        )
        self._activate_for(network)
        wanted = [Subnet(s) if isinstance(s, str) else s for s in subnets]
        self._driver.create(network, self._ipam_of(network), wanted)
        self.networks[name] = network
        return network

    def network_rm(self, name: str) -> None:
        """`docker network rm`."""
        network = self._network(name)
        if any(e.network is network for c in self.containers.values() for e in _live(c)):
            raise DockerError(f"error while removing network: network {name} has active endpoints")
        self._driver.remove(network, self._ipam_of(network))
        del self.networks[name]

    # Containers

    def create(
        self,
        name: str,
        networks: Mapping[str, Attachment] | str = "",
        *,
        attachment: Attachment | None = None,
        ports: Sequence[str] = (),
        expose: Sequence[str] = (),
        publish_all: bool = False,
        dns: Sequence[str] = (),
        restart_always: bool = False,
    ) -> Container:
        """`docker create`: no calls. `networks` is one network's name, with `attachment`, or several with theirs;
        `publish_all` is -P."""
        if name in self.containers:
            raise DockerError(f"container name {name} is already in use")
        if isinstance(networks, str):
            networks = {networks: attachment or Attachment()} if networks else {}
        for network in networks:
            self._network(network)
        published = [*ports, *expose] if publish_all else ports
        container = Container(
            name,
            dict(networks),
            ports=[port for text in published for port in Port.parse(text)],
            exposed=[port.exposed for text in expose for port in Port.parse(text)],
            dns=list(dns),
            restarts_always=restart_always,
        )
        self.containers[name] = container
        return container

    def run(
        self,
        name: str,
        networks: Mapping[str, Attachment] | str = "",
        *,
        attachment: Attachment | None = None,
        ports: Sequence[str] = (),
        expose: Sequence[str] = (),
        publish_all: bool = False,
        dns: Sequence[str] = (),
        restart_always: bool = False,
    ) -> Container:
        """`docker run -d`; see `create`. A container that cannot start stays, as Docker leaves it."""
        container = self.create(
            name,
            networks,
            attachment=attachment,
            ports=ports,
            expose=expose,
            publish_all=publish_all,
            dns=dns,
            restart_always=restart_always,
        )
        self.start(name)
        return container

    def start(self, name: str) -> None:
        """`docker start`; everything is undone when one network fails."""
        container = self._container(name)
        if container.sandbox is not None:
            return
        container.sandbox = self._new_sandbox()
        try:
            if self.version.key_exists_at_start:
                self._mover.make(container.sandbox)
            for network in self.order(list(container.attachments)):
                self._attach(container, network, starting=True)
            if not self.version.key_exists_at_start:
                self._mover.make(container.sandbox)
                self._endpoints.populate(container.sandbox)
        except (DockerError, ProtocolViolation):
            self.stop(name)
            raise

    def stop(self, name: str) -> None:
        """`docker stop` and `kill`, and a container that ends by itself."""
        container = self._container(name)
        if container.sandbox is None:
            return
        self._endpoints.detach_all(container)
        if Path(container.sandbox.key).exists():
            self._mover.remove(container.sandbox)
        container.sandbox = None

    def restart(self, name: str) -> None:
        """`docker restart`."""
        self.stop(name)
        self.start(name)

    def rm(self, name: str) -> None:
        """`docker rm -f`; of a stopped container: no calls."""
        self.stop(name)
        del self.containers[name]

    def connect(self, network: str, name: str, attachment: Attachment | None = None) -> None:
        """`docker network connect`; of a stopped container: no calls."""
        container = self._container(name)
        self._network(network)
        if network in container.attachments:
            raise DockerError(f"endpoint with name {name} already exists in network {network}")
        container.attachments[network] = attachment or Attachment()
        if container.sandbox is None:
            return
        try:
            self._attach(container, network, starting=False)
        except (DockerError, ProtocolViolation):
            container.attachments.pop(network, None)
            raise

    def disconnect(self, network: str, name: str) -> None:
        """`docker network disconnect`, with or without -f; of a stopped container: no calls."""
        container = self._container(name)
        if network not in container.attachments:
            raise DockerError(f"container {name} is not connected to network {network}")
        endpoint = next((e for e in _live(container) if e.network.name == network), None)
        if endpoint is not None:
            self._endpoints.detach(container, endpoint)
        del container.attachments[network]

    # dockerd itself

    def daemon_stop(self, *, live_restore: bool = False) -> None:
        """SIGTERM. Without live-restore every container stops; those that restart always come again with dockerd."""
        if not live_restore:
            for container in self.containers.values():
                self.stop(container.name)
        self.daemon_kill()

    def daemon_kill(self) -> None:
        """SIGKILL: no calls."""
        self._plugin.close()
        self._activated = {}

    def daemon_start(self, *, live_restore: bool = False) -> None:
        """A start after `daemon_stop` or `daemon_kill`.

        Containers that still run go on with live-restore; without it what a killed dockerd left is deleted. That last
        case is read from dockerd's code, the others are recorded traffic.
        """
        self._endpoints.connectivity.forget()
        running = [c for c in self.containers.values() if c.sandbox is not None]
        if any(self._uses_ipam(network) for network in self.networks.values()):
            self._activate("IpamDriver")
            self._replay(running if live_restore else [])
        for container in running:
            if live_restore:
                self._continue(container)
            else:
                self.stop(container.name)
        for container in self.containers.values():
            if container.restarts_always and container.sandbox is None:
                self.start(container.name)

    def _continue(self, container: Container) -> None:
        if self.version.asks_live_endpoints:
            self._endpoints.ask_live(container)

    def _replay(self, running: list[Container]) -> None:
        """What a plugin that RequiresRequestReplay is asked again; of live endpoints the first address only."""
        if not self._ipam.requires_replay:
            return
        for network in self.networks.values():
            if not self._uses_ipam(network):
                continue
            for pool in network.pools:
                with contextlib.suppress(DockerError):
                    self._ipam.replay_pool(pool, network.ipam_options)
            for endpoint in (e for c in running for e in _live(c) if e.network is network):
                pool_id, address = endpoint.leases[0]
                self._ipam.replay_address(next(p for p in network.pools if p.id == pool_id), address)

    # Common

    def _activate_for(self, network: Network) -> None:
        if network.driver == self.name:
            self._activate("NetworkDriver")
        if network.ipam == self.name:
            self._activate("IpamDriver")

    def _activate(self, wanted: str) -> None:
        """Once for all kinds of plugin that it is, whatever is wanted first."""
        if not self._activated:
            self._activated = self._plugin.ask("/Plugin.Activate")
            kinds = self._activated.get("Implements") or []
            if "NetworkDriver" in kinds:
                self._driver.activate()
            if "IpamDriver" in kinds:
                self._ipam.activate()
        check_implements("/Plugin.Activate", self._activated, wanted)

    def _uses_ipam(self, network: Network) -> bool:
        return network.ipam == self.name

    def _ipam_of(self, network: Network) -> Ipam:
        if self._uses_ipam(network):
            return self._ipam
        return self._others.setdefault(network.ipam, OwnIpam(f"{network.ipam}Local"))

    def _attach(self, container: Container, network: str, *, starting: bool) -> None:
        self._activate_for(self._network(network))
        attachment = container.attachments[network]
        self._endpoints.attach(container, self._network(network), attachment, starting=starting)

    def _new_sandbox(self) -> Sandbox:
        sandbox_id = new_id()
        return Sandbox(sandbox_id, str(self._netns / sandbox_id[:12]))

    def _network(self, name: str) -> Network:
        if name not in self.networks:
            raise DockerError(f"network {name} not found")
        return self.networks[name]

    def _container(self, name: str) -> Container:
        if name not in self.containers:
            raise DockerError(f"No such container: {name}")
        return self.containers[name]


def _live(container: Container) -> list[Endpoint]:
    return container.sandbox.endpoints if container.sandbox is not None else []
