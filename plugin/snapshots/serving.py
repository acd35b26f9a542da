"""The plugin as a process: its socket where dockerd looks for it, from its start to a signal."""

from __future__ import annotations

import argparse
import logging
import os

import cnm
from cnm import daemon_process
from cnm.config import Settings
from cnm.errors import CnmError
from cnm.http import activation
from cnm.http.listener import UnixPlace
from cnm.http.server import Server
from cnm.log_format import start_logging
from cnm.plugin.app import PluginApp
from cnm.plugin.snapshots.driver import Driver
from cnm.plugin.snapshots.volumes import Volumes, check_name
from cnm.service_manager import notify

log = logging.getLogger("cnm.plugin.snapshots")

_THREADS = 16
"""A mount that waits for a copy holds one."""


def serve(volumes: Volumes, options: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT. Raises Conflict where one serves already, and CnmError."""
    start_logging(Settings(log_format=options.log_format, log_level=options.log_level))
    check_name("plugin", options.name)
    path = os.path.join(options.plugin_dir, f"{options.name}.sock")
    _make(options.plugin_dir)
    inherited = activation.inherited()
    place = UnixPlace(path, inherited.pop(path, None))
    activation.refuse(inherited)
    app = PluginApp(options.name, Driver(volumes).calls())
    server = Server(app, place, threads=_THREADS, error_key="Err")
    server.bind()
    volumes.recover()
    daemon_process.stop_on_signals(log, server.stop)
    notify("READY=1")
    log.info("%s %s listens on %s", options.name, cnm.__version__, path)
    server.serve()


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, 0o755, exist_ok=True)
    except OSError as error:
        raise CnmError(f"cannot make {folder}: {(error.strerror or '').lower()}") from None
