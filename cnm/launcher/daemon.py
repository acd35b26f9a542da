"""cnm-launcher: wiring and lifetime. Containers run on when it ends, and are taken up again at the next start."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Sequence

import cnm
from cnm import daemon_process
from cnm.api.routes import slow
from cnm.config import Settings
from cnm.errors import Unavailable
from cnm.events import EventBus
from cnm.http import activation
from cnm.http.listener import UnixPlace
from cnm.http.server import Server
from cnm.launcher.api.app import create_app, declared_routes
from cnm.launcher.cnmd import Cnmd
from cnm.launcher.engine import Engine
from cnm.launcher.exits import Exits
from cnm.launcher.host import read_host
from cnm.launcher.hybrid_cgroups import before_crun
from cnm.launcher.images import Images
from cnm.launcher.monitor import Monitor
from cnm.launcher.networks_heard import NetworksHeard
from cnm.launcher.parts import Parts
from cnm.launcher.places import Places
from cnm.launcher.programs import Programs
from cnm.launcher.records import Records
from cnm.launcher.registries import Registries
from cnm.launcher.registry import Registry
from cnm.launcher.runtime import Runtime
from cnm.launcher.sandboxes import Sandboxes
from cnm.launcher.volumes.other_hosts import ClusterHosts
from cnm.launcher.volumes.plugins import VolumePlugins
from cnm.launcher.volumes.volumes import Volumes
from cnm.service_manager import notify
from cnm.wire.plugin_client import Plugins
from cnm.wire.plugin_discovery import Places as PluginPlaces
from cnm.wire.plugin_retry import RealClock

log = logging.getLogger("cnm.launcher")

_PROGRAM = "cnm-launcher"
_RUNTIMES = ("runc", "crun")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = daemon_process.parser(
        _PROGRAM,
        "Containers on cnm networks.",
        root="directory of images and containers",
        run="directory of sockets, cnmd's too",
    ).parse_args(arguments)
    return daemon_process.exit_code(
        _PROGRAM, lambda: daemon_process.start(daemon_process.read_settings(options), _serve)
    )


def _serve(settings: Settings) -> int:
    places = Places(settings.root, settings.run)
    places.make()
    inherited = activation.inherited()
    place = UnixPlace(places.socket, inherited.pop(places.socket, None))
    activation.refuse(inherited)
    clock = RealClock()
    engine = make_engine(settings, places, clock)
    _warn_of_what_is_absent(engine.parts, settings.launcher.runtime)
    is_slow = slow(declared_routes())
    server = Server(create_app(engine), place, threads=settings.launcher.threads, is_slow=is_slow)
    server.bind()  # before anything is taken up: two launchers would take up the same
    engine.start()
    heard = NetworksHeard(engine.parts, engine.cnmd_is_back)
    heard.start()

    def stop() -> None:
        clock.close()  # no request waits for a plugin to come back
        server.stop()

    daemon_process.stop_on_signals(log, stop)
    gc.freeze()  # what a start makes stays: looking through it would hold up a request for tens of milliseconds
    notify("READY=1")
    log.info("cnm-launcher %s listens on %s", cnm.__version__, places.socket)
    server.serve()
    log.info("cnm-launcher ends; containers run on")
    engine.close()
    return 0


def make_engine(settings: Settings, places: Places, clock: RealClock | None = None) -> Engine:
    """With all its parts. Raises CnmError for what is not as it must be."""
    table = settings.launcher
    programs = Programs(
        runc=table.runc,
        crun=table.crun,
        conmon=table.conmon,
        podman=table.podman,
        init=table.init,
        seccomp_profile=table.seccomp_profile,
    )
    before = {"crun": before_crun()}
    runtimes = {
        name: Runtime(programs, places.runtime(name), name, before.get(name, ())) for name in _RUNTIMES
    }
    cnmd, events = Cnmd(settings.socket), EventBus()
    registries = Registries(table.insecure_registries, table.registry_mirrors)
    parts = Parts(
        places=places,
        programs=programs,
        registry=Registry(Records(places)),
        images=Images(places.storage, places.storage_run, programs, registries),
        volumes=Volumes(
            places.volumes, events, _volume_plugins(settings, clock or RealClock()), ClusterHosts(cnmd)
        ),
        cnmd=cnmd,
        sandboxes=Sandboxes(cnmd),
        monitors={name: Monitor(runtime, places.exits) for name, runtime in runtimes.items()},
        runtimes=runtimes,
        exits=Exits(),
        events=events,
        host=read_host(programs),
    )
    return Engine(
        parts,
        cgroup_parent=table.cgroup_parent,
        runtime=table.runtime,
        volume_port=table.volume_port,
    )


def _volume_plugins(settings: Settings, clock: RealClock) -> VolumePlugins:
    """Found where cnmd finds network plugins, and never cnmd itself, which would take us for a dockerd that starts."""
    places = PluginPlaces(
        socket_dirs=settings.remote_plugin_dirs or (settings.plugin_dir,),
        spec_dirs=settings.remote_plugin_spec_dirs,
        own_sockets=settings.own_sockets,
        own_addresses=tuple(settings.plugin_tcp.listen.values()) if settings.plugin_tcp else (),
    )
    return VolumePlugins(Plugins(places, clock, settings.remote_plugin_timeout), clock)


def _warn_of_what_is_absent(parts: Parts, runtime: str) -> None:
    """It starts without, and shows containers; those that need it do not start."""
    for name in (runtime, "conmon", "podman"):
        try:
            parts.programs.path(name)
        except Unavailable as error:
            log.warning("%s", error)
    if parts.host.seccomp is None:
        log.warning(
            "no seccomp profile is installed, containers run without: install golang-github-containers-common, "
            "or say where one is in the settings of the launcher"
        )


if __name__ == "__main__":
    sys.exit(main())
