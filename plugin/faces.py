"""The plugins that dockerd finds: one name a driver, each with its network driver and its IPAM driver."""

from __future__ import annotations

import os
from collections.abc import Callable

from cnm.dockerd_verbs import DockerdVerbs
from cnm.leases import Leases
from cnm.network import Network
from cnm.plugin.app import Call, PluginApp
from cnm.plugin.ipam_driver import IpamDriver
from cnm.plugin.learner import Learner
from cnm.plugin.network_driver import NetworkDriver
from cnm.wire import plugin

DRIVERS = {"cnm": "bridge", "cnm-macvlan": "macvlan", "cnm-ipvlan": "ipvlan"}
"""By the name that dockerd knows the plugin by: of its socket, or of the file that tells where it listens."""


def socket_path(directory: str, name: str) -> str:
    return os.path.join(directory, f"{name}.sock")


class Face:
    """One plugin as a WSGI application."""

    def __init__(
        self,
        name: str,
        dockerd: DockerdVerbs,
        leases: Leases,
        direct: Callable[[Network], bool],
        learner: Learner,
    ) -> None:
        self.name = name
        self._leases = leases
        self._learner = learner
        calls = {"Plugin.Activate": Call(plugin.Record, self._activate)}
        calls |= NetworkDriver(DRIVERS[name], dockerd, direct, learner.has_news).calls()
        calls |= IpamDriver(leases, dockerd.subnets_to_avoid).calls()
        self.app = PluginApp(name, calls, learner.heard)

    def _activate(self, _body: plugin.Record) -> plugin.Activation:
        """A dockerd asks this once, before anything else."""
        self._leases.dockerd_started()
        self._learner.dockerd_started()
        return plugin.Activation(implements=[plugin.NETWORK_DRIVER, plugin.IPAM_DRIVER])
