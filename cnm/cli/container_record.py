"""Containers and images as Docker's own records of them: the field names and zero values that templates expect."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cnm.cli.template import NIL, Struct, StructMap

_NONE: Mapping[str, Any] = MappingProxyType({})


class Form(NamedTuple):
    """One Go struct of the Engine API (github.com/moby/moby/api/types).

    `renamed` are fields by keys that differ from them, `empty` the values of fields that are null in the JSON or left
    out, `inside` the structs that fields hold.
    """

    kind: str
    renamed: Mapping[str, str] = _NONE
    empty: Mapping[str, Any] = _NONE
    inside: Mapping[str, Inside] = _NONE


class Each(NamedTuple):
    """A list or a map of structs."""

    form: Form


class EachList(NamedTuple):
    """A map of lists of structs."""

    form: Form


Inside = Form | Each | EachList

_HEALTH_RESULT = Form("container.HealthcheckResult")
_HEALTH = Form("container.Health", inside={"Log": Each(_HEALTH_RESULT)})
_STATE = Form("container.State", empty={"Health": NIL}, inside={"Health": _HEALTH})
_HEALTH_CONFIG = Form(
    "container.HealthConfig",
    empty={
        "Test": (),
        **dict.fromkeys(("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"), 0),
    },
)
_CONFIG = Form(
    "container.Config",
    empty={
        "ArgsEscaped": False,
        "Healthcheck": NIL,
        "MacAddress": "",
        "NetworkDisabled": False,
        "StopSignal": "",
        "StopTimeout": NIL,
        **dict.fromkeys(("Cmd", "Entrypoint", "Env", "OnBuild", "Shell"), ()),
        **dict.fromkeys(("ExposedPorts", "Labels", "Volumes"), _NONE),
    },
    inside={"Healthcheck": _HEALTH_CONFIG},
)
_PORT_BINDING = Form("nat.PortBinding", {"HostIp": "HostIP"})
_IPAM = Form("network.EndpointIPAMConfig", empty={"IPv4Address": "", "IPv6Address": "", "LinkLocalIPs": ()})
_ENDPOINT = Form(
    "network.EndpointSettings",
    empty={"Aliases": (), "DNSNames": (), "DriverOpts": _NONE, "IPAMConfig": NIL, "Links": ()},
    inside={"IPAMConfig": _IPAM},
)
_NETWORK_SETTINGS = Form(
    "container.NetworkSettings", inside={"Ports": EachList(_PORT_BINDING), "Networks": Each(_ENDPOINT)}
)
_MOUNT_POINT = Form("container.MountPoint", empty={"Type": "", "Name": "", "Driver": ""})
_RESTART_POLICY = Form("container.RestartPolicy")
_LOG_CONFIG = Form("container.LogConfig")
_BIND_OPTIONS = Form("mount.BindOptions", empty={"Propagation": "", "NonRecursive": False})
_TMPFS_OPTIONS = Form("mount.TmpfsOptions", empty={"SizeBytes": 0, "Mode": 0, "Options": ()})
_MOUNT = Form(
    "mount.Mount",
    empty={
        "Type": "",
        "Source": "",
        "Target": "",
        "ReadOnly": False,
        "Consistency": "",
        "BindOptions": NIL,
        "VolumeOptions": NIL,
        "TmpfsOptions": NIL,
    },
    inside={"BindOptions": _BIND_OPTIONS, "TmpfsOptions": _TMPFS_OPTIONS},
)
_HOST_CONFIG = Form(
    "container.HostConfig",
    {"Dns": "DNS", "DnsOptions": "DNSOptions", "DnsSearch": "DNSSearch"},
    empty={
        **dict.fromkeys(("Init", "MemorySwappiness", "OomKillDisable", "PidsLimit"), NIL),
        **dict.fromkeys(("Annotations", "PortBindings", "StorageOpt", "Sysctls", "Tmpfs"), _NONE),
        **dict.fromkeys(
            (
                "Binds",
                "CapAdd",
                "CapDrop",
                "DeviceCgroupRules",
                "DeviceRequests",
                "Devices",
                "DNS",
                "DNSOptions",
                "DNSSearch",
                "ExtraHosts",
                "GroupAdd",
                "Links",
                "MaskedPaths",
                "Mounts",
                "ReadonlyPaths",
                "SecurityOpt",
                "Ulimits",
                "VolumesFrom",
            ),
            (),
        ),
    },
    inside={
        "LogConfig": _LOG_CONFIG,
        "PortBindings": EachList(_PORT_BINDING),
        "RestartPolicy": _RESTART_POLICY,
        "Mounts": Each(_MOUNT),
        "Ulimits": Each(Form("units.Ulimit")),
        "Devices": Each(Form("container.DeviceMapping")),
    },
)
_GRAPH_DRIVER = Form("storage.DriverData")
_CONTAINER = Form(
    "container.InspectResponse",
    {"Id": "ID"},
    empty={"ExecIDs": (), "SizeRootFs": NIL, "SizeRw": NIL},
    inside={
        "State": _STATE,
        "Config": _CONFIG,
        "HostConfig": _HOST_CONFIG,
        "GraphDriver": _GRAPH_DRIVER,
        "Mounts": Each(_MOUNT_POINT),
        "NetworkSettings": _NETWORK_SETTINGS,
    },
)
_IMAGE = Form(
    "image.InspectResponse",
    {"Id": "ID"},
    empty={"RepoDigests": (), "RepoTags": ()},
    inside={
        "Config": _CONFIG,
        "GraphDriver": _GRAPH_DRIVER,
        "RootFS": Form("image.RootFS", empty={"Layers": ()}),
    },
)


def container_record(container: dict[str, Any]) -> Struct:
    """The record of an inspected container."""
    return _record(_CONTAINER, container)


def image_record(image: dict[str, Any]) -> Struct:
    """The record of an inspected image."""
    return _record(_IMAGE, image)


def _record(form: Form, source: dict[str, Any]) -> Struct:
    fields = {
        form.renamed.get(key, key): _field(form.inside.get(key), value) for key, value in source.items()
    }
    for name, value in form.empty.items():
        if fields.get(name) is None:
            fields[name] = list(value) if value == () else {} if value is _NONE else value
    return Struct(form.kind, fields, source)


def _field(inside: Inside | None, value: Any) -> Any:
    if inside is None or value is None:
        return value
    if isinstance(inside, Form):
        return _record(inside, value)
    if isinstance(value, list):
        return [_record(inside.form, each) for each in value]
    if isinstance(inside, EachList):
        return {
            key: [_record(inside.form, each) for each in bindings or ()] for key, bindings in value.items()
        }
    return StructMap(
        {key: _record(inside.form, each) for key, each in value.items()}, Struct(inside.form.kind, {})
    )
