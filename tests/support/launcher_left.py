"""What containers leave, looked for everywhere: processes, cgroups, mounts, files, layers, links, sandboxes."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.launcher import Launcher

_RUN_FOLDERS = ("builds", "containers", "exits", "runc", "crun", "execs", "namespaces", "views")
_HEX_DIGITS = 64
_GIVEN_UP, _GATHERED_SECONDS = "cr", 5.0
"""Beginning of the names of links that cnmd removes in the background, many at a time."""
_CGROUPS = Path("/sys/fs/cgroup")


def left(launcher: Launcher) -> list[str]:
    """One text for each thing, of a launcher without containers."""
    return [
        *processes(launcher),
        *_cgroups(launcher),
        *_mounts(launcher),
        *_files(launcher),
        *_layers(launcher.place / "root/launcher/storage"),
        *_half_done(launcher.place / "root/launcher"),
        *_links(launcher),
        *_networks(launcher),
    ]


def processes(launcher: Launcher) -> list[str]:
    """Those in cgroups of containers, and programs that work for them."""
    inside = [f"process {pid} in a cgroup" for pid in pids(launcher)]
    return [*inside, *(f"process {text}" for text in _programs(str(launcher.run_dir / "launcher")))]


def pids(launcher: Launcher) -> set[int]:
    """Of all processes of containers."""
    found = set()
    for hierarchy in _hierarchies():
        for tasks in (hierarchy / launcher.cgroup).rglob("cgroup.procs"):
            try:
                found |= {int(pid) for pid in tasks.read_text().split()}
            except OSError:  # it went meanwhile
                continue
    return found


def monitors(launcher: Launcher) -> list[int]:
    """Pids of all conmons."""
    told = _programs(str(launcher.run_dir / "launcher"))
    return [int(text.split()[0]) for text in told if "conmon" in text.split()[1]]


def _hierarchies() -> list[Path]:
    return [_CGROUPS, *(path for path in _CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())]


def _programs(folder: str) -> Iterator[str]:
    """What was told of a path below the folder, but launchers themselves; dead ones have no arguments."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = os.fsdecode((entry / "cmdline").read_bytes()).split("\0")
            except OSError:  # it ended meanwhile
                continue
            if any(argument.startswith(folder) for argument in arguments):
                yield f"{entry.name} {' '.join(arguments)}"


def _cgroups(launcher: Launcher) -> Iterator[str]:
    for hierarchy in _hierarchies():
        place = hierarchy / launcher.cgroup
        if place.is_dir():
            yield from (f"cgroup {path}" for path in place.iterdir() if path.is_dir())


def _mounts(launcher: Launcher) -> Iterator[str]:
    """But containers-storage's own, which podman leaves mounted while it is there, and a test's disk."""
    disk = f"{launcher.place}/root"
    storages = (f"{launcher.place}/root/launcher/storage", f"{launcher.run_dir}/launcher/storage")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point.startswith(f"{launcher.place}/") and point != disk and not point.startswith(storages):
            yield f"mount {point}"


def _files(launcher: Launcher) -> Iterator[str]:
    below_run = (launcher.run_dir / "launcher" / name for name in _RUN_FOLDERS)
    for place in (launcher.place / "root/launcher/containers", launcher.place / "run/netns", *below_run):
        if place.is_dir():
            yield from (f"file {path}" for path in sorted(os.listdir(place)))


def _half_done(root: Path) -> Iterator[str]:
    """What requests have while they last, and what was being written or deleted."""
    for place in ("storage/incoming", "builds"):
        yield from (f"file {path}" for path in sorted(_in(root / place)))
    for place, mark in (("remembered-builds", "*.new*"), ("volumes", ".*"), ("storage", "*.new")):
        yield from (f"file {path}" for path in sorted(map(str, (root / place).glob(mark))))


def _in(folder: Path) -> list[str]:
    return list(map(str, folder.iterdir())) if folder.is_dir() else []


def _layers(storage: Path) -> Iterator[str]:
    """Layers that no image has, what is no layer's or image's, and containers of podman's."""
    layers = {str(each["id"]): str(each.get("parent", "")) for each in _listed(storage, "layers")}
    needed = set()
    for image in _listed(storage, "images"):
        layer = str(image.get("layer", ""))
        while layer:
            needed.add(layer)
            layer = layers[layer]
    yield from (f"layer {layer}" for layer in sorted(layers.keys() - needed))
    yield from (f"container {each['id']} of the storage" for each in _listed(storage, "containers"))
    if (storage / "overlay").is_dir():
        there = {path.name for path in (storage / "overlay").iterdir() if len(path.name) == _HEX_DIGITS}
        yield from (f"folder of a layer {name}" for name in sorted(there - needed))
    images = {str(each["id"]) for each in _listed(storage, "images")}
    folders = {Path(path).name for path in _in(storage / "overlay-images")}
    yield from (f"folder of an image {name}" for name in sorted(folders - images) if len(name) == _HEX_DIGITS)


def _listed(storage: Path, what: str) -> list[dict[str, Any]]:
    path = storage / f"overlay-{what}" / f"{what}.json"
    text = path.read_text() if path.exists() else ""
    return list(json.loads(text) or []) if text else []


def _links(launcher: Launcher) -> list[str]:
    """Ends of containers' interfaces in the host's namespace, when those that cnmd has given up have gone, too."""
    deadline = time.monotonic() + _GATHERED_SECONDS
    while found := _names(launcher):
        if time.monotonic() > deadline or not any(name.startswith(_GIVEN_UP) for name in found):
            break
        time.sleep(0.05)
    return [f"link {name}" for name in found]


def _names(launcher: Launcher) -> list[str]:
    assert launcher.cnmd.process is not None
    namespace = f"--net=/proc/{launcher.cnmd.process.pid}/ns/net"
    command = ["nsenter", namespace, "ip", "-json", "link", "show", "type", "veth"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [each["ifname"] for each in json.loads(told or "[]") if each]


def _networks(launcher: Launcher) -> Iterator[str]:
    for noun in ("sandboxes", "endpoints"):
        yield from (f"{noun} {each['Name']}" for each in launcher.cnmd.ask("GET", f"/cnm/v1/{noun}"))
    yield from (f"doctor: {finding}" for finding in launcher.cnmd.findings())
