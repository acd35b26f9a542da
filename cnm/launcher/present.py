"""Containers as the Engine API shows them: `inspect` and the lines of `ps`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from cnm.launcher import docker_form
from cnm.launcher.container import Container, Status
from cnm.launcher.log_options import keeps_log
from cnm.launcher.mount_points import Kind, MountPoint
from cnm.launcher.places import Places
from cnm.launcher.references import familiar
from cnm.launcher.sandboxes import PREDEFINED
from cnm.wire.engine import EndpointIpamConfig, EndpointSettings

_NEVER = "0001-01-01T00:00:00Z"

Endpoints = Iterable[Mapping[str, Any]]
"""As cnmd shows them (`cnm.wire.control.Endpoint`)."""


def moment(nanoseconds: int) -> str:
    """RFC 3339 with nanoseconds, Go's zero time for 0."""
    if not nanoseconds:
        return _NEVER
    seconds, rest = divmod(nanoseconds, 10**9)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


# inspect


def inspected(container: Container, endpoints: Endpoints, places: Places) -> dict[str, Any]:
    """GET /containers/{ref}/json, without what costs time (sizes)."""
    endpoints = list(endpoints)
    return {
        "Id": container.id,
        "Created": moment(container.created),
        "Path": container.args[0],
        "Args": list(container.args[1:]),
        "State": state(container),
        "Image": container.image,
        "ResolvConfPath": _file(container, places, "resolv.conf"),
        "HostnamePath": _file(container, places, "hostname"),
        "HostsPath": _file(container, places, "hosts"),
        "LogPath": _log(container, places),
        "Name": f"/{container.name}",
        "RestartCount": container.state.restart_count,
        "Driver": container.driver,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": docker_form.host_config(container.host),
        "GraphDriver": {"Name": "overlay2", "Data": _graph(container, places)},
        "Mounts": mounts_of(container),
        "Config": docker_form.config(container.config),
        "NetworkSettings": _network_settings(container, endpoints, places),
    }


def state(container: Container) -> dict[str, Any]:
    found = container.state
    return {
        "Status": found.status.value,
        "Running": found.status.is_alive or found.status is Status.RESTARTING,
        "Paused": found.status is Status.PAUSED,
        "Restarting": found.status is Status.RESTARTING,
        "OOMKilled": found.oom_killed,
        "Dead": found.status is Status.DEAD,
        "Pid": found.pid,
        "ExitCode": found.exit_code,
        "Error": found.error,
        "StartedAt": moment(found.started),
        "FinishedAt": moment(found.finished),
    }


def _file(container: Container, places: Places, name: str) -> str:
    return f"{places.root}/sandboxes/{container.id}/{name}" if container.state.status.is_alive else ""


def _log(container: Container, places: Places) -> str:
    is_there = container.state.started and keeps_log(container.host.log_config)
    return places.log(container.id) if is_there else ""


def _graph(container: Container, places: Places) -> dict[str, str]:
    place = places.container(container.id)
    return {
        "LowerDir": ":".join(
            f"{places.storage}/overlay/{layer}/diff" for layer in reversed(container.layers)
        ),
        "MergedDir": f"{place}/rootfs",
        "UpperDir": f"{place}/rw/upper",
        "WorkDir": f"{place}/rw/work",
    }


def mounts_of(container: Container) -> list[dict[str, Any]]:
    """Binds, volumes and the tmpfs mounts of `--mount`, as Docker lists them."""
    return [
        _mount(point)
        for point in container.points
        if point.kind is not Kind.TMPFS or point.asked.type == Kind.TMPFS.value
    ]


def _mount(point: MountPoint) -> dict[str, Any]:
    volume = {"Name": point.name, "Driver": point.driver} if point.kind is Kind.VOLUME else {}
    return {
        "Type": point.kind.value,
        **volume,
        "Source": point.source,
        "Destination": point.destination,
        "Mode": point.mode,
        "RW": point.writable,
        "Propagation": point.propagation,
    }


def _network_settings(container: Container, endpoints: Endpoints, places: Places) -> dict[str, Any]:
    endpoints = list(endpoints)
    known = {each["Network"]: each for each in endpoints}
    runs = container.state.status.is_alive
    default = endpoint_settings(container, EndpointSettings(), known["bridge"]) if "bridge" in known else {}
    return {
        "Bridge": "",
        "SandboxID": container.id if runs else "",
        "SandboxKey": f"{places.run}/netns/{container.short}" if runs else "",
        "Ports": port_map(container, endpoints),
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        **{key: default.get(key, empty) for key, empty in _OF_THE_DEFAULT.items()},
        "Networks": {
            name: endpoint_settings(container, settings, known.get(name))
            for name, settings in sorted(container.networks.items())
        },
    }


_OF_THE_DEFAULT: Mapping[str, str | int] = {
    "EndpointID": "",
    "Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "IPAddress": "",
    "IPPrefixLen": 0,
    "IPv6Gateway": "",
    "MacAddress": "",
}


def endpoint_settings(
    container: Container, asked: EndpointSettings, endpoint: Mapping[str, Any] | None
) -> dict[str, Any]:
    """One of `NetworkSettings.Networks`; addresses are there while it runs."""
    found = endpoint or {}
    ipv4, _, length4 = found.get("IPv4Address", "").partition("/")
    ipv6, _, length6 = found.get("IPv6Address", "").partition("/")
    names = [container.name, *(asked.aliases or ()), container.short] if endpoint else None
    return {
        "IPAMConfig": _given(asked.ipam_config),
        "Links": asked.links,
        "Aliases": asked.aliases,
        "MacAddress": found.get("MacAddress", ""),
        "DriverOpts": asked.driver_opts,
        "GwPriority": asked.gw_priority or 0,
        "NetworkID": found.get("NetworkId", ""),
        "EndpointID": found.get("Id", ""),
        "Gateway": found.get("Gateway", ""),
        "IPAddress": ipv4,
        "IPPrefixLen": int(length4 or 0),
        "IPv6Gateway": found.get("IPv6Gateway", ""),
        "GlobalIPv6Address": ipv6,
        "GlobalIPv6PrefixLen": int(length6 or 0),
        "DNSNames": list(dict.fromkeys(names)) if names else None,
    }


def with_old_aliases(settings: dict[str, Any], container: Container) -> dict[str, Any]:
    """Up to API 1.44 the aliases had what is in `DNSNames` since; docker-compose 1 connects anew without."""
    for name, network in settings["Networks"].items():
        if name not in PREDEFINED and network["NetworkID"]:
            own = [container.short, container.config.hostname or container.short]
            network["Aliases"] = list(dict.fromkeys([*(network["Aliases"] or ()), *own]))
    return settings


def _given(asked: EndpointIpamConfig | None) -> dict[str, Any] | None:
    if asked is None:
        return None
    return {key: value for key, value in msgspec.to_builtins(asked).items() if value}


def port_map(container: Container, endpoints: Endpoints) -> dict[str, list[dict[str, str]] | None]:
    """Exposed ports, None for those that are not published. Nothing where it does not run."""
    if not container.state.status.is_alive:
        return {}
    found: dict[str, list[dict[str, str]] | None] = dict.fromkeys(container.config.exposed_ports or {})
    for port in _published(endpoints):
        for offset in range(port["Count"]):
            key = f"{port['ContainerPort'] + offset}/{port['Protocol']}"
            number = str(port["HostPort"] + offset)
            bound = [{"HostIp": address, "HostPort": number} for address in _addresses(port["HostIp"])]
            found[key] = [*(found.get(key) or ()), *bound]
    return found


def _addresses(address: str) -> tuple[str, ...]:
    """Docker tells of both families where a port is published at every address."""
    return (address,) if address else ("0.0.0.0", "::")


def _published(endpoints: Endpoints) -> Iterable[Mapping[str, Any]]:
    return (port for endpoint in endpoints for port in endpoint["Ports"])


# ps


def listed(container: Container, endpoints: Endpoints, image_name: str, health: str) -> dict[str, Any]:
    """One of GET /containers/json, without sizes; `health` is "" where it is not checked."""
    endpoints = list(endpoints)
    settings = container.networks
    known = {each["Network"]: each for each in endpoints}
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": image_name,
        "ImageID": container.image,
        "Command": command_text(container),
        "Created": container.created // 10**9,
        "Ports": ports_listed(container, endpoints),
        "Labels": container.config.labels or {},
        "State": container.state.status.value,
        "Status": status_text(container, time.time_ns(), health),
        "HostConfig": {"NetworkMode": container.host.network_mode},
        "NetworkSettings": {
            "Networks": {
                name: endpoint_settings(container, each, known.get(name))
                for name, each in sorted(settings.items())
            }
        },
        "Mounts": mounts_of(container),
    }


def image_name(container: Container, names: Iterable[str]) -> str:
    """What was asked for, the id where that names another image by now."""
    asked = container.config.image or ""
    known = {familiar(name) for name in names}
    if asked in known or f"{asked}:latest" in known or container.image.partition(":")[2].startswith(asked):
        return asked
    return container.image


def command_text(container: Container) -> str:
    """As a shell would have it: what has blanks in it is quoted."""
    return " ".join(f"'{arg}'" if " " in arg else arg for arg in container.args)


def ports_listed(container: Container, endpoints: Endpoints) -> list[dict[str, Any]]:
    if not container.state.status.is_alive:
        return []
    found = []
    for key, bound in sorted(port_map(container, endpoints).items()):
        number, _, protocol = key.partition("/")
        if bound is None:
            found.append({"PrivatePort": int(number), "Type": protocol})
        for each in bound or ():
            found.append(
                {
                    "IP": each["HostIp"],
                    "PrivatePort": int(number),
                    "PublicPort": int(each["HostPort"]),
                    "Type": protocol,
                }
            )
    return found


def status_text(container: Container, now: int, health: str = "") -> str:
    """As `Up 5 minutes (healthy)`."""
    found = container.state
    if found.status is Status.RUNNING:
        up = f"Up {duration_text(now - found.started)}"
        return f"{up} ({'health: starting' if health == 'starting' else health})" if health else up
    if found.status is Status.PAUSED:
        return f"Up {duration_text(now - found.started)} (Paused)"
    if found.status is Status.RESTARTING:
        return f"Restarting ({found.exit_code}) {duration_text(now - found.finished)} ago"
    if found.status is Status.REMOVING:
        return "Removal In Progress"
    if found.status is Status.DEAD:
        return "Dead"
    if not found.started:
        return "Created"
    return f"Exited ({found.exit_code}) {duration_text(now - found.finished)} ago"


def duration_text(nanoseconds: int) -> str:
    """Docker's rounding: 'Less than a second', 'About a minute', '3 hours', …"""
    seconds = nanoseconds // 10**9
    minutes, hours = seconds // 60, round(seconds / 3600)
    if seconds < 60:
        return {0: "Less than a second", 1: "1 second"}.get(seconds, f"{seconds} seconds")
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"
