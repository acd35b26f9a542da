"""A container as Docker's own record of it: the field names and zero values that templates expect."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from cnm.cli.template import Struct, StructMap

_NONE: Mapping[str, Any] = MappingProxyType({})


class Form(NamedTuple):
    """One Go struct of the Engine API (github.com/moby/moby/api/types).

    `renamed` are fields by keys that differ from them, `absent` the values of fields whose keys are left out of the
    JSON, `inside` the structs that fields hold.
    """

    kind: str
    renamed: Mapping[str, str] = _NONE
    absent: Mapping[str, Any] = _NONE
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
_STATE = Form("container.State", absent={"Health": None}, inside={"Health": _HEALTH})
_HEALTH_CONFIG = Form(
    "container.HealthConfig",
    absent={"Test": [], "Interval": 0, "Timeout": 0, "StartPeriod": 0, "StartInterval": 0, "Retries": 0},
)
_CONFIG = Form(
    "container.Config",
    absent={
        "ExposedPorts": {},
        "Healthcheck": None,
        "ArgsEscaped": False,
        "NetworkDisabled": False,
        "MacAddress": "",
        "OnBuild": [],
        "StopSignal": "",
        "StopTimeout": None,
        "Shell": [],
    },
    inside={"Healthcheck": _HEALTH_CONFIG},
)
_PORT_BINDING = Form("nat.PortBinding", {"HostIp": "HostIP"})
_IPAM = Form("network.EndpointIPAMConfig", absent={"IPv4Address": "", "IPv6Address": "", "LinkLocalIPs": []})
_ENDPOINT = Form("network.EndpointSettings", inside={"IPAMConfig": _IPAM})
_NETWORK_SETTINGS = Form(
    "container.NetworkSettings", inside={"Ports": EachList(_PORT_BINDING), "Networks": Each(_ENDPOINT)}
)
_MOUNT_POINT = Form("container.MountPoint", absent={"Type": "", "Name": "", "Driver": ""})
_RESTART_POLICY = Form("container.RestartPolicy")
_LOG_CONFIG = Form("container.LogConfig")
_BIND_OPTIONS = Form("mount.BindOptions", absent={"Propagation": "", "NonRecursive": False})
_TMPFS_OPTIONS = Form("mount.TmpfsOptions", absent={"SizeBytes": 0, "Mode": 0, "Options": []})
_MOUNT = Form(
    "mount.Mount",
    absent={
        "Type": "",
        "Source": "",
        "Target": "",
        "ReadOnly": False,
        "Consistency": "",
        "BindOptions": None,
        "VolumeOptions": None,
        "TmpfsOptions": None,
    },
    inside={"BindOptions": _BIND_OPTIONS, "TmpfsOptions": _TMPFS_OPTIONS},
)
_HOST_CONFIG = Form(
    "container.HostConfig",
    {"Dns": "DNS", "DnsOptions": "DNSOptions", "DnsSearch": "DNSSearch"},
    absent={"Mounts": [], "Annotations": {}, "StorageOpt": {}, "Tmpfs": {}, "Sysctls": {}, "Init": None},
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
    absent={"SizeRw": None, "SizeRootFs": None},
    inside={
        "State": _STATE,
        "Config": _CONFIG,
        "HostConfig": _HOST_CONFIG,
        "GraphDriver": _GRAPH_DRIVER,
        "Mounts": Each(_MOUNT_POINT),
        "NetworkSettings": _NETWORK_SETTINGS,
    },
)


def container_record(container: dict[str, Any]) -> Struct:
    """The record of an inspected container."""
    return _record(_CONTAINER, container)


def _record(form: Form, source: dict[str, Any]) -> Struct:
    fields = {
        form.renamed.get(key, key): _field(form.inside.get(key), value) for key, value in source.items()
    }
    return Struct(
        form.kind, {**fields, **{key: form.absent[key] for key in form.absent.keys() - fields}}, source
    )


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
