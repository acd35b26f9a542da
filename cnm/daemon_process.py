"""What cnmd and cnm-launcher do alike as processes: flags, settings, the need for root, logs, their end by a signal."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable

import cnm
from cnm.config import DEFAULT_CONFIG, Settings, load
from cnm.errors import CnmError
from cnm.log_format import start_logging
from cnm.service_manager import notify


def parser(program: str, description: str, *, root: str, run: str) -> argparse.ArgumentParser:
    """With the flags that both have; `root` and `run` say what this one has in these directories."""
    made = argparse.ArgumentParser(prog=program, description=description)
    made.add_argument("--root", metavar="DIR", help=f"{root} (/var/lib/cnm)")
    made.add_argument("--run", metavar="DIR", help=f"{run} (/run/cnm)")
    made.add_argument("--config", metavar="FILE", help=f"settings, TOML ({DEFAULT_CONFIG})")
    made.add_argument("--log-format", choices=("text", "json"), help="text (key=value) or json")
    made.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    made.add_argument("--version", action="version", version=f"{program} {cnm.__version__}")
    return made


def config_path(options: argparse.Namespace) -> str:
    return options.config or DEFAULT_CONFIG


def read_settings(options: argparse.Namespace) -> Settings:
    """The file's, under the flags that are settings. Raises InvalidParameter."""
    flags = {name: value for name, value in vars(options).items() if name in Settings.__struct_fields__}
    return load(config_path(options), flags, must_exist=options.config is not None)


def exit_code(program: str, act: Callable[[], int]) -> int:
    """What `act` returns; a CnmError is one line on stderr and its own exit code."""
    try:
        return act()
    except CnmError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return error.exit_code


def start(settings: Settings, serve: Callable[[Settings], int]) -> int:
    """What `serve` returns at its end. Raises CnmError where we are not root."""
    if os.geteuid() != 0:
        raise CnmError("it needs root: run it with sudo, or as a service")
    start_logging(settings)
    return serve(settings)


def stop_on_signals(log: logging.Logger, stop: Callable[[], None]) -> None:
    """SIGTERM and SIGINT have `stop` called in a thread of its own, and the service manager told."""

    def told(number: int, _frame: object) -> None:
        log.info("stopping on %s", signal.Signals(number).name)
        notify("STOPPING=1")
        threading.Thread(target=stop, name="stop").start()

    signal.signal(signal.SIGTERM, told)
    signal.signal(signal.SIGINT, told)
