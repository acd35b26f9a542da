"""cnm-launcher: wiring and lifetime. Containers run on when it ends, and are taken up again at the next start."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence

import cnm
from cnm.config import DEFAULT_CONFIG, Settings, load
from cnm.errors import CnmError, Unavailable
from cnm.events import EventBus
from cnm.http import activation
from cnm.http.listener import UnixPlace
from cnm.http.server import Server
from cnm.launcher.api.app import create_app
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
from cnm.launcher.registry import Registry
from cnm.launcher.runtime import Runtime
from cnm.launcher.sandboxes import Sandboxes
from cnm.log_format import start_logging
from cnm.service_manager import notify

log = logging.getLogger("cnm.launcher")

_RUNTIMES = ("runc", "crun")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    names = ("root", "run", "log_format", "log_level")
    overrides = {name: getattr(options, name) for name in names}
    try:
        settings = load(options.config or DEFAULT_CONFIG, overrides, must_exist=options.config is not None)
        if os.geteuid() != 0:
            raise CnmError("it needs root: run it with sudo, or as a service")
        start_logging(settings)
        return _serve(settings)
    except CnmError as error:
        print(f"cnm-launcher: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cnm-launcher", description="Containers on cnm networks.")
    parser.add_argument("--root", metavar="DIR", help="directory of images and containers (/var/lib/cnm)")
    parser.add_argument("--run", metavar="DIR", help="directory of sockets, cnmd's too (/run/cnm)")
    parser.add_argument("--config", metavar="FILE", help=f"settings, TOML ({DEFAULT_CONFIG})")
    parser.add_argument("--log-format", choices=("text", "json"), help="text (key=value) or json")
    parser.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    parser.add_argument("--version", action="version", version=f"cnm-launcher {cnm.__version__}")
    return parser


def _serve(settings: Settings) -> int:
    places = Places(settings.root, settings.run)
    places.make()
    inherited = activation.inherited()
    place = UnixPlace(places.socket, inherited.pop(places.socket, None))
    activation.refuse(inherited)
    engine = make_engine(settings, places)
    _warn_of_what_is_absent(engine.parts, settings.launcher.runtime)
    server = Server(create_app(engine), place, threads=settings.launcher.threads)
    server.bind()  # before anything is taken up: two launchers would take up the same
    engine.start()
    heard = NetworksHeard(engine.parts, engine.cnmd_is_back)
    heard.start()
    _stop_on_signals(server)
    notify("READY=1")
    log.info("cnm-launcher %s listens on %s", cnm.__version__, places.socket)
    server.serve()
    log.info("cnm-launcher ends; containers run on")
    engine.close()
    return 0


def make_engine(settings: Settings, places: Places) -> Engine:
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
    cnmd = Cnmd(settings.socket)
    parts = Parts(
        places=places,
        programs=programs,
        registry=Registry(Records(places)),
        images=Images(places.storage, places.storage_run, programs),
        cnmd=cnmd,
        sandboxes=Sandboxes(cnmd),
        monitors={name: Monitor(runtime, places.exits) for name, runtime in runtimes.items()},
        runtimes=runtimes,
        exits=Exits(),
        events=EventBus(),
        host=read_host(programs),
    )
    return Engine(parts, cgroup_parent=table.cgroup_parent, runtime=table.runtime)


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


def _stop_on_signals(server: Server) -> None:
    def stop(number: int, _frame: object) -> None:
        log.info("stopping on %s", signal.Signals(number).name)
        notify("STOPPING=1")
        threading.Thread(target=server.stop, name="stop").start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)


if __name__ == "__main__":
    sys.exit(main())
