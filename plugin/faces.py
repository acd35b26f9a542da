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
from cnm.plugin.network_driver import NetworkDriver, News
from cnm.plugin.showing import OVERLAY, Showing
from cnm.wire import plugin

DRIVERS = {"cnm": "bridge", OVERLAY: "overlay", "cnm-macvlan": "macvlan", "cnm-ipvlan": "ipvlan"}
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
        asks_for_direct: Callable[[Network], bool],
        learner: Learner,
        showing: Showing | None = None,
    ) -> None:
        """`showing` is whoever makes the cluster's networks appear in dockerd."""
        self.name = name
        self._asks_for_direct = asks_for_direct
        self._leases = leases
        self._learner = learner
        self._showing = showing
        calls = {"Plugin.Activate": Call(plugin.Record, self.activate)}
        news = News(self._network_made, learner.has_news, self._asks_for_names)
        calls |= NetworkDriver(DRIVERS[name], dockerd, self._direct, news).calls()
        calls |= IpamDriver(leases, dockerd.subnets_to_avoid, self._pool_made).calls()
        self.app = PluginApp(name, calls, learner.heard)

    def activate(self, _body: plugin.Record) -> plugin.Activation:
        """A dockerd asks this once, before anything else."""
        self._leases.dockerd_started()
        self._learner.dockerd_started()
        if self._showing:
            self._showing.has_news()
        return plugin.Activation(implements=[plugin.NETWORK_DRIVER, plugin.IPAM_DRIVER])

    def _direct(self, network: Network) -> bool:
        """Only what was asked for, and only where it is known to be safe for whoever asks."""
        return self._asks_for_direct(network) and self._learner.direct_is_safe(self.app.peer)

    def _network_made(self, network: Network) -> None:
        self._leases.network_made(pool.subnet for pool in network.pools)
        self._learner.made(network.id, self.app.peer)

    def _asks_for_names(self, endpoint_id: str, servers: tuple[str, ...] | None) -> None:
        if self._showing and self.name == OVERLAY:
            self._showing.asks(endpoint_id, servers)

    def _pool_made(self, pool_id: str) -> None:
        self._learner.made(f"{self.name} {pool_id}", self.app.peer)
