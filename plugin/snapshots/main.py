"""cnm-volume-snapshots: the plugin, and the commands for restore points and backups of its volumes.

The commands work on the files themselves: the plugin may run meanwhile, and need not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import cnm
from cnm import daemon_process
from cnm.errors import CnmError, Conflict
from cnm.plugin.snapshots import backups
from cnm.plugin.snapshots.points import RestorePoints, parse_source
from cnm.plugin.snapshots.volumes import Volumes

_PROGRAM = "cnm-volume-snapshots"
_ROOT = "/var/lib/cnm/snapshots"
_PLUGIN_DIR = "/run/docker/plugins"
_NAME = "cnm-snapshots"


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    return daemon_process.exit_code(_PROGRAM, lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise CnmError("it needs root: run it with sudo")
    options.act(Volumes(options.root), options)
    return 0


def _serve(volumes: Volumes, options: argparse.Namespace) -> None:
    from cnm.plugin.snapshots.serving import serve

    serve(volumes, options)


def _list(volumes: Volumes, options: argparse.Namespace) -> None:
    if options.json:
        _print_json([_as_json(volume) for volume in volumes.all()])
        return
    rows = [
        (each.name, each.record.created, _amount(each.size()), str(len(each.point_names())), _users(each))
        for each in volumes.all()
    ]
    _print_table(("VOLUME", "CREATED", "SIZE", "POINTS", "USERS"), rows)


def _as_json(volume: Any) -> dict[str, Any]:
    return {
        "Name": volume.name,
        "CreatedAt": volume.record.created,
        "Mountpoint": volume.data,
        "Size": volume.size(),
        "RestorePoints": volume.point_names(),
        "Users": list(volume.record.users),
    }


def _users(volume: Any) -> str:
    return ",".join(user[:12] for user in volume.record.users)


def _create(volumes: Volumes, options: argparse.Namespace) -> None:
    if options.source:
        made = volumes.create(options.volume, RestorePoints(volumes).copied_from(options.source))
    else:
        made = volumes.create(options.volume)
    if not made:
        raise Conflict(f"there is a volume {options.volume} already: choose another name")
    print(options.volume)


def _unmount(volumes: Volumes, options: argparse.Namespace) -> None:
    volumes.forget(options.volume, options.user)


def _point_create(volumes: Volumes, options: argparse.Namespace) -> None:
    RestorePoints(volumes).create(options.volume, options.point, live=options.live)
    print(options.point)


def _point_list(volumes: Volumes, options: argparse.Namespace) -> None:
    found = RestorePoints(volumes).all(options.volume)
    if options.json:
        _print_json([{"Name": p.name, "CreatedAt": p.record.created, "Size": p.record.size} for p in found])
        return
    rows = [(point.name, point.record.created, _amount(point.record.size)) for point in found]
    _print_table(("POINT", "CREATED", "SIZE"), rows)


def _point_restore(volumes: Volumes, options: argparse.Namespace) -> None:
    RestorePoints(volumes).restore(options.volume, options.point)


def _point_remove(volumes: Volumes, options: argparse.Namespace) -> None:
    RestorePoints(volumes).delete(options.volume, options.points)
    print(*options.points, sep="\n")


def _backup(volumes: Volumes, options: argparse.Namespace) -> None:
    backups.backup(RestorePoints(volumes), options.source, options.file, live=options.live)


def _restore(volumes: Volumes, options: argparse.Namespace) -> None:
    backups.restore(volumes, options.volume, options.file)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _amount(size: float) -> str:
    """As Docker writes sizes: powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}TB"


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="Volumes with restore points and backups, a volume plugin for Docker and cnm.",
    )
    made.add_argument("--root", metavar="DIR", default=_ROOT, help=f"directory of the volumes ({_ROOT})")
    made.add_argument("--version", action="version", version=f"{_PROGRAM} {cnm.__version__}")
    commands = made.add_subparsers(metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_volumes(commands)
    points = _command(commands, "point", "restore points of a volume").add_subparsers(
        metavar="COMMAND", required=True
    )
    _add_points(points)
    _add_backups(commands)
    return made


_Action = Callable[[Volumes, argparse.Namespace], None]


def _command(commands: Any, name: str, about: str, act: _Action | None = None) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about.capitalize() + "."
    )
    made.set_defaults(act=act)
    return made


def _add_serve(commands: Any) -> None:
    serve = _command(commands, "serve", "be the plugin, until a signal ends it", _serve)
    serve.add_argument(
        "--plugin-dir", metavar="DIR", default=_PLUGIN_DIR, help=f"where the socket is made ({_PLUGIN_DIR})"
    )
    serve.add_argument("--name", default=_NAME, help=f"what docker volume create --driver is told ({_NAME})")
    serve.add_argument("--log-format", choices=("text", "json"), default="text")
    serve.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")


def _add_volumes(commands: Any) -> None:
    _command(commands, "ls", "list the volumes", _list).add_argument("--json", action="store_true")
    create = _command(commands, "create", "make a volume", _create)
    create.add_argument("volume", metavar="VOLUME")
    create.add_argument(
        "--from",
        dest="source",
        type=_source,
        metavar="VOLUME[@POINT]",
        help="begin with a copy of this content",
    )
    unmount = _command(commands, "unmount", "forget that somebody has a volume mounted who is gone", _unmount)
    unmount.add_argument("volume", metavar="VOLUME")
    unmount.add_argument("user", metavar="USER", help="as the error or `ls --json` names it")


def _add_points(commands: Any) -> None:
    create = _command(commands, "create", "keep the content as it is now", _point_create)
    _add_volume_and_point(create)
    _add_live(create)
    shown = _command(commands, "ls", "list the restore points, the oldest first", _point_list)
    shown.add_argument("volume", metavar="VOLUME")
    shown.add_argument("--json", action="store_true")
    restore = _command(
        commands, "restore", "put back the content as it was; that of now is lost", _point_restore
    )
    _add_volume_and_point(restore)
    remove = _command(commands, "rm", "delete restore points", _point_remove)
    remove.add_argument("volume", metavar="VOLUME")
    remove.add_argument("points", metavar="POINT", nargs="+")


def _add_volume_and_point(command: argparse.ArgumentParser) -> None:
    command.add_argument("volume", metavar="VOLUME")
    command.add_argument("point", metavar="POINT")


def _add_live(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--live", action="store_true", help="also while containers use it: what they write may be half there"
    )


def _add_backups(commands: Any) -> None:
    backup = _command(commands, "backup", "write the content to a tar archive", _backup)
    backup.add_argument("source", type=_source, metavar="VOLUME[@POINT]")
    backup.add_argument(
        "file", metavar="FILE", help="compressed as its ending says; - for the standard output"
    )
    _add_live(backup)
    restore = _command(commands, "restore", "make the content what is in a tar archive", _restore)
    restore.add_argument("volume", metavar="VOLUME", help="it is made if it is not there")
    restore.add_argument("file", metavar="FILE", help="- for the standard input")


def _source(text: str) -> Any:
    try:
        return parse_source(text)
    except CnmError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    sys.exit(main())
