"""`cnmctl info`: what the launcher says of itself and of its host, in the form of `docker info`."""

from __future__ import annotations

import json
import sys

from cnm import __version__
from cnm.cli.client import Client
from cnm.cli.flags import STRING, Arguments, Command, Flag
from cnm.cli.launcher_client import launcher_or_cnmd
from cnm.cli.output import FORMAT_HELP
from cnm.cli.quantities import binary_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_COUNTS = (
    (" Containers", "Containers"),
    ("  Running", "ContainersRunning"),
    ("  Paused", "ContainersPaused"),
    ("  Stopped", "ContainersStopped"),
    (" Images", "Images"),
)
_ENGINE = (
    (" Logging Driver", "LoggingDriver"),
    (" Cgroup Driver", "CgroupDriver"),
    (" Cgroup Version", "CgroupVersion"),
)
_HOST = (
    (" Kernel Version", "KernelVersion"),
    (" Operating System", "OperatingSystem"),
    (" OSType", "OSType"),
    (" Architecture", "Architecture"),
    (" CPUs", "NCPU"),
)


def info(client: Client, arguments: Arguments) -> int:
    form = arguments["format"]
    found = launcher_or_cnmd(client).get("/info")
    if form == "json":
        print(json.dumps(found, separators=(",", ":"), ensure_ascii=False))
        return 0
    if form:
        from cnm.cli.template import Template

        print(Template(form).execute(found, missing_key_fails=True))
        return 0
    print("Client:", f" Version:    {__version__}", "", "Server:", *_server(found), "", sep="\n")
    for warning in found.get("Warnings") or ():
        print(warning, file=sys.stderr)
    return 0


def _server(found: dict[str, Any]) -> Iterator[str]:
    """Lines in Docker's order; what the server does not say is left out."""
    yield from _lines(found, _COUNTS)
    yield from _lines(found, ((" Server Version", "ServerVersion"), (" Storage Driver", "Driver")))
    yield from (f"  {name}: {value}" for name, value in found.get("DriverStatus") or ())
    yield from _lines(found, _ENGINE)
    plugins = found.get("Plugins") or {}
    yield " Plugins:"
    yield from (f"  {kind}: {' '.join(plugins.get(kind) or ())}" for kind in ("Volume", "Network", "Log"))
    if runtimes := found.get("Runtimes"):
        yield f" Runtimes: {' '.join(sorted(runtimes))}"
        yield f" Default Runtime: {found.get('DefaultRuntime', '')}"
    yield from _lines(found, ((" Init Binary", "InitBinary"),))
    for name, key in (("containerd", "ContainerdCommit"), ("runc", "RuncCommit"), ("init", "InitCommit")):
        if version := (found.get(key) or {}).get("ID"):
            yield f" {name} version: {version}"
    yield from _security(found.get("SecurityOptions") or ())
    yield from _lines(found, _HOST)
    yield f" Total Memory: {binary_size(found.get('MemTotal') or 0)}"
    yield from _lines(found, ((" Name", "Name"), (" ID", "ID"), (" Docker Root Dir", "DockerRootDir")))
    yield from _lines(found, ((" Debug Mode", "Debug"),))
    if labels := found.get("Labels"):
        yield " Labels:"
        yield from (f"  {label}" for label in labels)
    yield from _lines(found, ((" Live Restore Enabled", "LiveRestoreEnabled"),))


def _lines(found: dict[str, Any], keys: tuple[tuple[str, str], ...]) -> Iterator[str]:
    for label, key in keys:
        value = found.get(key, "")
        if value != "":
            yield f"{label}: {str(value).lower() if isinstance(value, bool) else value}"


def _security(options: list[str] | tuple[()]) -> Iterator[str]:
    """`name=seccomp,profile=default` as the name, and its profile below."""
    if options:
        yield " Security Options:"
    for option in options:
        parts = dict(part.partition("=")[::2] for part in option.split(","))
        yield f"  {parts.get('name', option)}"
        if "profile" in parts:
            yield f"   Profile: {parts['profile']}"


INFO = Command(
    "info",
    "Show what the launcher and its host are like",
    info,
    "",
    (Flag("format", STRING, FORMAT_HELP, "f"),),
)
