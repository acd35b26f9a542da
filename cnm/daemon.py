"""cnmd: wiring and lifetime. What it made in the kernel stays when it ends, and is taken up again at the next start."""

from __future__ import annotations

import argparse
import gc
import logging
import os
import resource
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib.metadata import entry_points
from ipaddress import ip_address

import cnm
from cnm import daemon_process, wanted
from cnm.api.wsgi import create_app
from cnm.claim import Claim
from cnm.cluster.cluster import Cluster
from cnm.cluster.tunnels import Tunnels
from cnm.collector import Collector
from cnm.config import Settings
from cnm.controller import Controller
from cnm.driver import Registry
from cnm.drivers.remote import RemoteDriver
from cnm.encryption import Way
from cnm.errors import CnmError, InvalidParameter
from cnm.firewall import ruleset, sets
from cnm.http import activation
from cnm.http.listener import UnixPlace
from cnm.http.server import Server
from cnm.ipam import Allocator, NullIpam
from cnm.kernel.filter_tables import FilterTables
from cnm.kernel.iptables import HostIptables
from cnm.kernel.linux import LinuxKernel
from cnm.kernel.monitor import Monitor
from cnm.kernel.reservations import Reservations
from cnm.kernel.wireguard_netlink import is_in_kernel
from cnm.membership.entering import Entering
from cnm.membership.membership import Departure, Membership
from cnm.naming import Naming
from cnm.neighbours.docker import Docker
from cnm.neighbours.neighbour import Neighbour
from cnm.neighbours.resolved import Resolved
from cnm.neighbours.worker import Neighbours
from cnm.plugin import tcp
from cnm.plugin.dockerd_api import DockerdApi
from cnm.plugin.service import Plugins
from cnm.relaying import Relaying
from cnm.relays import Relays
from cnm.resolvers import Resolver
from cnm.resources import Resources
from cnm.service_manager import notify
from cnm.store import Store
from cnm.watcher import Watcher
from cnm.wire.plugin_client import Plugins as RemotePlugins
from cnm.wire.plugin_discovery import Places
from cnm.wire.plugin_retry import RealClock

log = logging.getLogger("cnm")

_NO_HOST = "0" * 32
"""Stands for the host's id where nothing is given out."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = _parser().parse_args(arguments)

    def act() -> int:
        settings = daemon_process.read_settings(options)
        if options.check_config:
            return _check(settings, daemon_process.config_path(options))
        return daemon_process.start(settings, _serve)

    return daemon_process.exit_code("cnmd", act)


def _parser() -> argparse.ArgumentParser:
    parser = daemon_process.parser(
        "cnmd",
        "The container network daemon.",
        root="directory of the store",
        run="directory of sockets and namespaces",
    )
    parser.add_argument(
        "--plugin-dir", metavar="DIR", help="where Docker looks for plugins (/run/docker/plugins)"
    )
    parser.add_argument("--docker-host", metavar="URL", help="dockerd's API (unix:///run/docker.sock)")
    parser.add_argument("--check-config", action="store_true", help="check the settings and exit")
    return parser


def _check(settings: Settings, path: str) -> int:
    """Whatever a start would stumble on, as far as that can be known without one. Raises InvalidParameter."""
    try:
        _allocator(settings, _NO_HOST)
        if settings.docker_host:
            DockerdApi(settings.docker_host)
        tcp.check(settings)
    except InvalidParameter as error:
        raise InvalidParameter(f"{path}: {error}") from None
    print(f"{path}: ok")
    return 0


def _serve(settings: Settings) -> int:
    _raise_file_limit()
    inherited = activation.inherited()
    _make_directories(settings)
    claim = Claim(settings.run)
    # The nft context comes before anything else opens files: libnftables waits with select(), which fails from
    # descriptor 1,024 on.
    kernel = LinuxKernel(sets.ELEMENT_SETS, ruleset.start_text)
    try:
        store = Store(settings.database)
        clock = RealClock()
        remote = _remote_plugins(settings, clock)
        resources = _resources(settings, store, kernel, remote)
        controller = Controller(resources)
        entering = Entering(controller)
        membership = Membership(
            settings, kernel.uplink_addresses, Departure(controller.empty_cluster, controller.left_cluster)
        )
        membership.on_change(entering.changed)
        place = UnixPlace(settings.socket, inherited.pop(settings.socket, None))
        server = Server(create_app(controller, membership), place, threads=settings.threads)
        plugins = Plugins(controller, resources, settings, inherited) if settings.plugins else None
        activation.refuse(inherited)
        if plugins:
            plugins.bind()
        controller.start()
        neighbours = resources.neighbours
        watcher = Watcher(controller, Monitor([kernel.firewall_port]), neighbours.tables_changed)
        watcher.start()
        collector = Collector(controller, settings.forget_seconds)
        collector.start()
        if plugins:
            plugins.start()
        neighbours.start(partial(wanted.bridges, resources))
        membership.start()

        def stop() -> None:
            clock.close()  # no request waits for a plugin to come back
            server.stop()

        daemon_process.stop_on_signals(log, stop)
        server.bind()
        gc.freeze()  # what a start makes stays: looking through it would hold up a request for tens of milliseconds
        notify("READY=1")
        log.info("cnmd %s listens on %s", cnm.__version__, settings.socket)
        server.serve()
        log.info("cnmd ends; networks and sandboxes stay")
        entering.close()
        membership.close()
        controller.close_cluster()
        if plugins:
            plugins.close()
        collector.close()
        watcher.close()
        neighbours.close()
        remote.close()
        resources.relaying.close()
        resources.naming.close()
        store.close()
    finally:
        kernel.close()
        claim.close()
    return 0


def _remote_plugins(settings: Settings, clock: RealClock) -> RemotePlugins:
    """Other people's plugins, where the settings have them looked for."""
    places = Places(
        socket_dirs=settings.remote_plugin_dirs or (settings.plugin_dir,),
        spec_dirs=settings.remote_plugin_spec_dirs,
        own_sockets=settings.own_sockets,
        own_addresses=tuple(settings.plugin_tcp.listen.values()) if settings.plugin_tcp else (),
    )
    return RemotePlugins(places, clock, settings.remote_plugin_timeout)


def _resources(settings: Settings, store: Store, kernel: LinuxKernel, remote: RemotePlugins) -> Resources:
    allocator = _allocator(settings, _host_id(store))
    reservations = Reservations()
    resources = Resources(
        settings=settings,
        store=store,
        kernel=kernel,
        registry=Registry(
            (point.load()() for point in entry_points(group="cnm.drivers")),
            lambda name: RemoteDriver(name, remote),
        ),
        plugins=remote,
        ipams={"default": allocator, "null": NullIpam()},
        reservations=reservations,
        relaying=Relaying(Relays(settings.run), reservations),
        naming=Naming(kernel, Resolver(settings.run), settings),
        cluster=Cluster(kernel, kernel.on_link_routes),
        encrypting=_encrypting(settings, kernel),
    )
    resolved = Resolved(
        partial(_loopback_name_server, resources.naming), partial(wanted.named_bridges, resources)
    )
    known: list[Neighbour] = [Docker(FilterTables(), HostIptables()), resolved]
    resources.neighbours = Neighbours(known, enabled=settings.neighbours)
    return resources


def _encrypting(settings: Settings, kernel: LinuxKernel) -> Way:
    program = settings.wireguard_go or "wireguard-go"

    def make(cluster_id: str, node: str, moved: Callable[[], None]) -> Tunnels:
        return Tunnels(cluster_id, node, kernel, program=program, moved=moved)

    kernel_has_it = cache(is_in_kernel)  # whoever asks has the kernel look for the module
    loaded = "/sys/module/wireguard"
    return Way(make, lambda: bool(shutil.which(program)) or os.path.exists(loaded) or kernel_has_it())


def _loopback_name_server(naming: Naming) -> str:
    return next((each for each in naming.listens_at() if ip_address(each).is_loopback), "")


def _allocator(settings: Settings, host_id: str) -> Allocator:
    pools = [(pool.base, pool.size) for pool in settings.default_address_pools]
    return Allocator(host_id, local_pools=pools)


def _host_id(store: Store) -> str:
    """What this host's IPv6 default pool is derived from; made once."""
    known = store.setting("host-id")
    if known is None:
        known = os.urandom(16).hex()
        store.remember("host-id", known)
    return known


def _make_directories(settings: Settings) -> None:
    for directory in (settings.root, settings.run):
        try:
            os.makedirs(directory, mode=0o711, exist_ok=True)
        except OSError as error:
            raise CnmError(f"cannot make {directory}: {os.strerror(error.errno or 0).lower()}") from None


def _raise_file_limit() -> None:
    """Every published port is an open socket."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    sys.exit(main())
