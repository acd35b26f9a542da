"""A network as Docker's own record of it: the field names and zero values that templates expect."""

from __future__ import annotations

from typing import Any

from cnm.cli.template import Moment, Struct, StructMap


def network_record(network: dict[str, Any]) -> Struct:
    """The record of an inspected network (`network.Inspect` in Docker's API package)."""
    source = network.get("ConfigFrom") or {}
    containers = network.get("Containers") or {}
    fields = {
        "Name": network["Name"],
        "ID": network["Id"],
        "Created": Moment(network.get("Created", "")),
        "Scope": network.get("Scope", ""),
        "Driver": network.get("Driver", ""),
        "EnableIPv4": network.get("EnableIPv4", False),
        "EnableIPv6": network.get("EnableIPv6", False),
        "IPAM": _ipam(network.get("IPAM") or {}),
        "Internal": network.get("Internal", False),
        "Attachable": network.get("Attachable", False),
        "Ingress": network.get("Ingress", False),
        "ConfigFrom": _texts("network.ConfigReference", source, "Network"),
        "ConfigOnly": network.get("ConfigOnly", False),
        "Containers": StructMap({key: _container(each) for key, each in containers.items()}, _container({})),
        "Options": network.get("Options") or {},
        "Labels": network.get("Labels") or {},
        "Peers": network.get("Peers") or [],
        "Services": network.get("Services") or {},
    }
    return Struct("network.Inspect", fields, json=network)


def _ipam(ipam: dict[str, Any]) -> Struct:
    configs = []
    for config in ipam.get("Config") or []:
        record = _texts("network.IPAMConfig", config, "Subnet", "IPRange", "Gateway")
        record.fields["AuxAddress"] = config.get("AuxiliaryAddresses") or {}
        configs.append(record)
    fields = {"Driver": ipam.get("Driver", ""), "Options": ipam.get("Options") or {}, "Config": configs}
    return Struct("network.IPAM", fields, json=ipam)


def _container(container: dict[str, Any]) -> Struct:
    names = ("Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address")
    return _texts("network.EndpointResource", container, *names)


def _texts(kind: str, source: dict[str, Any], *names: str) -> Struct:
    return Struct(kind, {name: source.get(name, "") for name in names}, json=source)
