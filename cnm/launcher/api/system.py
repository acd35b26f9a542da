"""The Engine API's words about the daemon itself, and what it does not serve."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from flask import Response

import cnm
from cnm.api import engine_system, event_stream
from cnm.api.routes import Routes
from cnm.errors import NotBuilt, NotFound, Unavailable
from cnm.launcher.api.calls import Call
from cnm.launcher.api.containers import list_all
from cnm.launcher.api.images import images_shown
from cnm.launcher.api.volumes import volumes_with_sizes
from cnm.launcher.container import Status
from cnm.launcher.host import Feature
from cnm.launcher.image_sizes import layer_sizes
from cnm.launcher.log_options import JSON_FILE
from cnm.wire import codec, engine

routes = Routes()

_LIMITS = {
    "MemoryLimit": Feature.MEMORY,
    "SwapLimit": Feature.SWAP,
    "CpuCfsPeriod": Feature.CPU_QUOTA,
    "CpuCfsQuota": Feature.CPU_QUOTA,
    "CPUShares": Feature.CPU_SHARES,
    "CPUSet": Feature.CPUSET,
    "PidsLimit": Feature.PIDS,
    "OomKillDisable": Feature.OOM_KILL_DISABLE,
    "KernelMemory": Feature.KERNEL_MEMORY,
    "KernelMemoryTCP": Feature.KERNEL_MEMORY_TCP,
}
_SWARM = ("/swarm", "/services", "/tasks", "/nodes", "/secrets", "/configs")


@routes.get("/_ping", answer=str, media_type="text/plain")
def ping(call: Call[None]) -> Response:
    """Whether the daemon answers, and which API it speaks."""
    return engine_system.ping(call)  # type: ignore[arg-type]


@routes.get("/version", answer=engine.Version)
def version(call: Call[None]) -> engine.Version:
    """Versions of the daemon and of its API."""
    return engine_system.version(call)  # type: ignore[arg-type]


@routes.get("/info")
def info(call: Call[None]) -> Response:
    """What the daemon runs on, and what it has."""
    parts = call.engine.parts
    states = [container.state.status for container in call.engine.registry.all()]
    running = states.count(Status.RUNNING) + states.count(Status.RESTARTING)
    found = _of_networks(call)
    found |= {
        "Containers": len(states),
        "ContainersRunning": running,
        "ContainersPaused": states.count(Status.PAUSED),
        "ContainersStopped": len(states) - running - states.count(Status.PAUSED),
        "Images": len(parts.images.all()),
        "Driver": "overlay2",
        "DockerRootDir": parts.places.root,
        "ServerVersion": cnm.__version__,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": str(parts.host.cgroup_version),
        "LoggingDriver": JSON_FILE,
        **_facts(call),
        "Runtimes": {name: {"path": runtime.program} for name, runtime in parts.runtimes.items()},
        "DefaultRuntime": call.engine.default_runtime,
        "InitBinary": parts.host.init,
        "Plugins": {
            **found.get("Plugins", {}),
            "Volume": [driver.name for driver in parts.volumes.drivers.known()],
        },
        "SecurityOptions": ["name=seccomp,profile=builtin"] if parts.host.seccomp else [],
    }
    return Response(codec.encode(found) + b"\n", content_type="application/json")


def _of_networks(call: Call[None]) -> dict[str, Any]:
    """What cnmd knows; the host's part of it, with a warning, where cnmd is away."""
    try:
        found: dict[str, Any] = call.engine.parts.cnmd.ask("GET", "/info")
    except Unavailable as error:
        away = msgspec.structs.replace(engine_system.host_info(), warnings=[f"WARNING: {error}"])
        return dict(msgspec.to_builtins(away))
    return found


def _facts(call: Call[None]) -> dict[str, Any]:
    """What Docker's clients print, or expect to be there."""
    features = call.engine.parts.host.features
    return {
        **{name: feature in features for name, feature in _LIMITS.items()},
        "IndexServerAddress": "https://index.docker.io/v1/",
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": threading.active_count(),
        "NEventsListener": call.engine.parts.events.listeners,
        "GenericResources": None,
        "RegistryConfig": call.engine.parts.images.podman.registries.shown(),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
    }


@routes.get(
    "/events",
    answer=engine.Event,
    query={
        "since": "tell first what happened from this time on",
        "until": "end at this time",
        "filters": "as for containers and networks; see docs/api.md",
    },
)
def events(call: Call[None]) -> Response:
    """Events as they happen: a stream of JSON lines, without end unless `until` is given."""
    return event_stream.respond(call, now=time.time_ns())  # type: ignore[arg-type]


@routes.get("/system/df")
def disk_use(call: Call[None]) -> dict[str, Any]:
    """What images, containers and volumes take of the disk."""
    return {
        "LayersSize": sum(layer_sizes(call.engine.parts.images.all()).values()),
        "Images": images_shown(call, shared=True),
        "Containers": list_all(call),
        "Volumes": volumes_with_sizes(call),
        "BuildCache": [],
    }


@routes.get("/plugins", query={"filters": "makes no difference here"})
def list_plugins(_call: Call[None]) -> list[Any]:
    """No plugins are managed here: cnmd's are what they are."""
    return []


@routes.get("/plugins/{plugin}/json")
def inspect_plugin(_call: Call[None], plugin: str) -> Any:
    """Always 404, in Docker's words."""
    raise NotFound(f'plugin "{plugin}" not found')


def _not_built(text: str) -> Callable[..., Any]:
    """A handler that says so."""

    def refuse(_call: Call[None], **_names: str) -> Any:
        """Always 501: not built."""
        raise NotBuilt(text)

    return refuse


def _no_swarm(_call: Call[None], **_names: str) -> Any:
    """Always 503: this daemon is in no swarm."""
    raise Unavailable("This node is not a swarm manager: cnm has no swarm mode")


_BUILDING = _not_built("BuildKit is not served: set DOCKER_BUILDKIT=0 to build with the classic builder")
_DISTRIBUTION = _not_built("manifests are not shown: pull the image and inspect it")

for _path in ("/build/cancel", "/grpc"):
    routes.post(_path)(_BUILDING)
routes.get("/distribution/{image}/json")(_DISTRIBUTION)
routes.post("/plugins/pull")(_not_built("plugins are not managed here: cnmd uses those that run"))
for _path in ("/swarm/init", "/swarm/join", "/swarm/leave", "/swarm/update", "/services/create"):
    routes.post(_path)(_no_swarm)
for _path in _SWARM:
    routes.get(_path)(_no_swarm)
    if _path != "/swarm":
        routes.get(f"{_path}/{{name}}")(_no_swarm)
