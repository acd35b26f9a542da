"""Everything that dockerd sees of cnmd, started and stopped as one."""

from __future__ import annotations

import socket

from cnm.config import Settings
from cnm.controller import Controller
from cnm.dockerd_ipam import DockerdIpam
from cnm.ipam import Ipam
from cnm.leases import Leases
from cnm.network import Network
from cnm.plugin.dockerd_api import DockerdApi
from cnm.plugin.faces import DRIVERS, Face
from cnm.plugin.forgotten_leases import ForgottenLeases
from cnm.plugin.learner import Learner
from cnm.plugin.listening import PluginServers
from cnm.plugin.showing import OVERLAY, Showing
from cnm.resources import Resources


class Plugins:
    """`bind` comes before the controller's start, so that dockerd's questions wait; `start` comes after it."""

    def __init__(
        self,
        controller: Controller,
        resources: Resources,
        settings: Settings,
        inherited: dict[str, socket.socket],
    ) -> None:
        self._settings = settings
        api = DockerdApi(settings.docker_host) if settings.docker_host else None
        names = [name for name, driver in DRIVERS.items() if driver in resources.registry.names()]
        self._leases = {name: Leases(name, _ipam(name, resources), resources.store) for name in names}
        self._learner = Learner(api, controller.dockerd, self._leases)
        self._showing = Showing(api, controller, ForgottenLeases(self._leases[OVERLAY], controller.dockerd))
        resources.warners.append(self._showing.warnings)
        faces = [
            Face(
                name,
                controller.dockerd,
                self._leases[name],
                self._asks_for_direct,
                self._learner,
                self._showing,
            )
            for name in names
        ]
        self._servers = PluginServers(faces, settings, inherited)

    def bind(self) -> None:
        """What dockerd holds of the cluster is known, too, before this host agrees with it on what is in use."""
        self._leases[OVERLAY].restore()
        self._servers.bind()

    def start(self) -> None:
        for name, leases in self._leases.items():
            if name != OVERLAY:
                leases.restore()
        self._learner.start()
        self._showing.start()
        self._servers.start()

    def close(self) -> None:
        self._servers.stop()
        self._showing.close()
        self._learner.close()

    def _asks_for_direct(self, network: Network) -> bool:
        return asks_for_direct(network, self._settings)


def _ipam(name: str, resources: Resources) -> Ipam:
    return DockerdIpam(resources) if name == OVERLAY else resources.ipam("default")


def asks_for_direct(network: Network, settings: Settings) -> bool:
    """What the network says counts before what is set for all."""
    return settings.docker_direct if network.direct is None else network.direct
