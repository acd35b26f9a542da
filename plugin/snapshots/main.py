"""cnm-volume-snapshots: the plugin, and the commands for restore points and backups of its volumes.

The commands work on the files themselves: the plugin may run meanwhile, and need not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cnm
from cnm import daemon_process
from cnm.errors import CnmError
from cnm.plugin.snapshots import commands
from cnm.plugin.snapshots.points import parse_source
from cnm.plugin.snapshots.volumes import Volumes

_PROGRAM = "cnm-volume-snapshots"
_ROOT = "/var/lib/cnm/snapshots"
_PLUGIN_DIR = "/run/docker/plugins"
_NAME = "cnm-snapshots"
_INTERRUPTED = 130
"""A shell's word for what SIGINT ended."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return daemon_process.exit_code(_PROGRAM, lambda: _run(options))
    except KeyboardInterrupt:
        return _INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise CnmError("it needs root: run it with sudo")
    os.umask(0o022)  # containers' users come to what is theirs, whoever runs this
    options.act(Volumes(options.root), options)
    return 0


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Volumes with restore points and backups, a volume plugin for Docker and cnm.",
    )
    made.add_argument("--root", metavar="DIR", default=_ROOT, help=f"directory of the volumes ({_ROOT})")
    made.add_argument("--version", action="version", version=f"{_PROGRAM} {cnm.__version__}")
    group = made.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(group)
    _add_volumes(group)
    points = _command(group, "point", "restore points of a volume").add_subparsers(
        metavar="COMMAND", required=True
    )
    _add_points(points)
    _add_backups(group)
    return made


_Action = Callable[[Volumes, argparse.Namespace], None]


def _command(group: Any, name: str, about: str, act: _Action | None = None) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = group.add_parser(name, help=about, description=about.capitalize() + ".")
    made.set_defaults(act=act)
    return made


def _add_serve(group: Any) -> None:
    serve = _command(group, "serve", "be the plugin, until a signal ends it", commands.serve)
    serve.add_argument(
        "--plugin-dir", metavar="DIR", default=_PLUGIN_DIR, help=f"where the socket is made ({_PLUGIN_DIR})"
    )
    serve.add_argument("--name", default=_NAME, help=f"what docker volume create --driver is told ({_NAME})")
    serve.add_argument("--log-format", choices=("text", "json"), default="text")
    serve.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def _add_volumes(group: Any) -> None:
    _command(group, "ls", "list the volumes", commands.list_volumes).add_argument(
        "--json", action="store_true"
    )
    create = _command(group, "create", "make a volume", commands.create)
    create.add_argument("volume", metavar="VOLUME")
    create.add_argument(
        "--from",
        dest="source",
        type=_source,
        metavar="VOLUME[@POINT]",
        help="begin with a copy of this content",
    )
    remove = _command(group, "rm", "remove volumes, with everything in them", commands.remove)
    remove.add_argument("volumes", metavar="VOLUME", nargs="+")
    remove.add_argument("--force", "-f", action="store_true", help="also those whose record cannot be read")
    unmount = _command(
        group, "unmount", "forget that somebody has a volume mounted who is gone", commands.unmount
    )
    unmount.add_argument("volume", metavar="VOLUME")
    unmount.add_argument("user", metavar="USER", help="as the error or `ls --json` names it")


def _add_points(group: Any) -> None:
    create = _command(group, "create", "keep the content as it is now", commands.create_point)
    _add_volume_and_point(create)
    _add_live(create)
    shown = _command(group, "ls", "list the restore points, the oldest first", commands.list_points)
    shown.add_argument("volume", metavar="VOLUME")
    shown.add_argument("--json", action="store_true")
    restore = _command(
        group, "restore", "put back the content as it was; that of now is lost", commands.restore_point
    )
    _add_volume_and_point(restore)
    remove = _command(group, "rm", "delete restore points", commands.remove_points)
    remove.add_argument("volume", metavar="VOLUME")
    remove.add_argument("points", metavar="POINT", nargs="+")


def _add_volume_and_point(command: argparse.ArgumentParser) -> None:
    command.add_argument("volume", metavar="VOLUME")
    command.add_argument("point", metavar="POINT")


def _add_live(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--live", action="store_true", help="also while containers use it: what they write may be half there"
    )


def _add_backups(group: Any) -> None:
    backup = _command(group, "backup", "write the content to a tar archive", commands.backup)
    backup.add_argument("source", type=_source, metavar="VOLUME[@POINT]")
    backup.add_argument(
        "file", metavar="FILE", help="compressed as its ending says; - for the standard output"
    )
    _add_live(backup)
    restore = _command(group, "restore", "make the content what is in a tar archive", commands.restore)
    restore.add_argument("volume", metavar="VOLUME", help="it is made if it is not there")
    restore.add_argument("file", metavar="FILE", help="- for the standard input")


def _source(text: str) -> Any:
    try:
        return parse_source(text)
    except CnmError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
