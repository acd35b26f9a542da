"""What the commands of cnm-volume-snapshots do, and how they show what there is."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from cnm.errors import Conflict
from cnm.plugin.snapshots import backups
from cnm.plugin.snapshots.points import RestorePoints
from cnm.plugin.snapshots.volumes import Volume, Volumes


def serve(volumes: Volumes, options: argparse.Namespace) -> None:
    from cnm.plugin.snapshots.serving import serve

    serve(volumes, options)


def list_volumes(volumes: Volumes, options: argparse.Namespace) -> None:
    if options.json:
        _print_json([_as_json(volume) for volume in volumes.all()])
        return
    found = volumes.all()
    for each in found:
        if each.fault:
            print(f"volume {each.name}: {each.fault}", file=sys.stderr)
    rows = [
        (each.name, each.record.created, _amount(each.size()), str(len(each.point_names())), _users(each))
        for each in found
    ]
    _print_table(("VOLUME", "CREATED", "SIZE", "POINTS", "USERS"), rows)


def _as_json(volume: Volume) -> dict[str, Any]:
    return {
        "Name": volume.name,
        "CreatedAt": volume.record.created,
        "Mountpoint": volume.data,
        "Size": volume.size(),
        "RestorePoints": volume.point_names(),
        "Users": list(volume.record.users),
        "Error": volume.fault,
    }


def _users(volume: Volume) -> str:
    return ",".join(user[:12] for user in volume.record.users)


def create(volumes: Volumes, options: argparse.Namespace) -> None:
    if options.source:
        made = volumes.create(options.volume, RestorePoints(volumes).copied_from(options.source))
    else:
        made = volumes.create(options.volume)
    if not made:
        raise Conflict(f"there is a volume {options.volume} already: choose another name")
    print(options.volume)


def remove(volumes: Volumes, options: argparse.Namespace) -> None:
    for volume in options.volumes:
        volumes.remove(volume, force=options.force)
        print(volume)


def unmount(volumes: Volumes, options: argparse.Namespace) -> None:
    volumes.forget(options.volume, options.user)


def create_point(volumes: Volumes, options: argparse.Namespace) -> None:
    RestorePoints(volumes).create(options.volume, options.point, live=options.live)
    print(options.point)


def list_points(volumes: Volumes, options: argparse.Namespace) -> None:
    found = RestorePoints(volumes).all(options.volume)
    if options.json:
        _print_json([{"Name": p.name, "CreatedAt": p.record.created, "Size": p.record.size} for p in found])
        return
    rows = [(point.name, point.record.created, _amount(point.record.size)) for point in found]
    _print_table(("POINT", "CREATED", "SIZE"), rows)


def restore_point(volumes: Volumes, options: argparse.Namespace) -> None:
    RestorePoints(volumes).restore(options.volume, options.point)


def remove_points(volumes: Volumes, options: argparse.Namespace) -> None:
    RestorePoints(volumes).delete(options.volume, options.points)
    print(*options.points, sep="\n")


def backup(volumes: Volumes, options: argparse.Namespace) -> None:
    backups.backup(RestorePoints(volumes), options.source, options.file, live=options.live)


def restore(volumes: Volumes, options: argparse.Namespace) -> None:
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
