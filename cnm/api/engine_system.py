"""The Engine API's words about the daemon itself: ping, version, info, and the stream of events."""

from __future__ import annotations

import os
import platform
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from flask import Response

import cnm
from cnm.api import event_stream, versions
from cnm.api.routes import Call, Routes
from cnm.wire import engine

routes = Routes()


@routes.get("/_ping", answer=str, media_type="text/plain")
def ping(_call: Call[None]) -> Response:
    """Whether the daemon answers, and which API it speaks."""
    headers = {
        "Builder-Version": "",
        "Cache-Control": "no-cache, no-store, must-revalidate",
        "Docker-Experimental": "false",
        "Pragma": "no-cache",
        "Swarm": "inactive",
    }
    return Response(b"OK", headers=headers, content_type="text/plain; charset=utf-8")


@routes.get("/version", answer=engine.Version)
def version(_call: Call[None]) -> engine.Version:
    """Versions of the daemon and of its API."""
    newest, oldest = versions.text(versions.NEWEST), versions.text(versions.OLDEST)
    details = {
        "ApiVersion": newest,
        "Arch": _architecture(),
        "Experimental": "false",
        "GoVersion": f"none, Python {platform.python_version()}",
        "KernelVersion": platform.release(),
        "MinAPIVersion": oldest,
        "Os": "linux",
    }
    return engine.Version(
        platform=engine.Platform(name="cnm: container networks"),
        components=[engine.Component(name="Engine", version=cnm.__version__, details=details)],
        version=cnm.__version__,
        api_version=newest,
        min_api_version=oldest,
        go_version=details["GoVersion"],
        os="linux",
        arch=_architecture(),
        kernel_version=platform.release(),
    )


@routes.get("/info", answer=engine.Info)
def info(call: Call[None]) -> engine.Info:
    """What the daemon runs on, and what it serves."""
    status = call.backend.status()
    return msgspec.structs.replace(
        host_info(),
        plugins=engine.Plugins(network=sorted({network.driver for network in call.backend.networks()})),
        ipv4_forwarding=status.forwarding.ipv4,
        bridge_nf_iptables=status.bridge_netfilter.ipv4,
        bridge_nf_ip6tables=status.bridge_netfilter.ipv6,
        warnings=[f"WARNING: {warning}" for warning in status.warnings],
    )


def host_info() -> engine.Info:
    """What can be said of the host without knowing its networks."""
    return engine.Info(
        id=_machine_id(),
        name=platform.node(),
        server_version=cnm.__version__,
        plugins=engine.Plugins(network=[]),
        ipv4_forwarding=True,
        bridge_nf_iptables=True,
        bridge_nf_ip6tables=True,
        kernel_version=platform.release(),
        operating_system=platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        architecture=platform.machine(),
        n_cpu=os.cpu_count() or 1,
        mem_total=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        system_time=datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    )


@routes.get(
    "/events",
    answer=engine.Event,
    query={
        "since": "tell first what happened from this time on",
        "until": "end at this time",
        "filters": "as for networks; see docs/api.md",
    },
)
def events(call: Call[None]) -> Response:
    """Events as they happen: a stream of JSON lines, without end unless `until` is given."""
    return event_stream.respond(call, now=time.time_ns())


def _architecture() -> str:
    """Go's name of the machine, which Docker's clients expect."""
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


def _machine_id() -> str:
    """The machine's id (machine-id(5)), "" where it has none."""
    path = Path("/etc/machine-id")
    return path.read_text().strip() if path.is_file() else ""
