"""From what a client sent to what the model is asked for; every value that needs no model is checked here.

All functions raise InvalidParameter naming the value, or NotBuilt naming the feature that is missing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from cnm.endpoint import EndpointRequest, PortRequest, Protocol
from cnm.errors import InvalidParameter, NotBuilt
from cnm.network import IpamConfig, NetworkRequest
from cnm.wire import engine

IFNAME_OPTION = "com.docker.network.endpoint.ifname"
"""Docker's endpoint option for the interface's name in the sandbox."""

_LONGEST_NAME = 255
_LONGEST_IFNAME = 15
"""IFNAMSIZ less the closing zero (linux/if.h)."""
_PRIORITIES = range(-(2**31), 2**31)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_MAC = re.compile(
    r"^(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|(?:[0-9a-f]{4}\.){2}[0-9a-f]{4})$", re.IGNORECASE
)


def network_request(record: engine.NetworkCreate) -> NetworkRequest:
    """The network that POST /networks/create asks for. Subnets are checked where they are allocated."""
    _refuse_unbuilt(record)
    ipam = record.ipam or engine.Ipam()
    return NetworkRequest(
        name=object_name("network", record.name),
        driver=record.driver or "bridge",
        scope=record.scope or "",
        enable_ipv4=record.enable_ipv4,
        enable_ipv6=record.enable_ipv6,
        internal=bool(record.internal),
        attachable=bool(record.attachable),
        ipam_driver=ipam.driver or "default",
        ipam_options=ipam.options or {},
        ipam_config=tuple(_ipam_config(config) for config in ipam.config or ()),
        options=record.options or {},
        labels=record.labels or {},
    )


def endpoint_request(settings: engine.EndpointSettings | None, name: str | None = "") -> EndpointRequest:
    """The endpoint that an `EndpointConfig` asks for."""
    settings = settings or engine.EndpointSettings()
    addresses = settings.ipam_config or engine.EndpointIpamConfig()
    if addresses.link_local_ips:
        raise NotBuilt("link-local addresses (LinkLocalIPs) are not built: leave them out")
    options = dict(settings.driver_opts or {})
    return EndpointRequest(
        name=object_name("endpoint", name) if name else "",
        ipv4=_address(4, addresses.ipv4_address),
        ipv6=_address(6, addresses.ipv6_address),
        mac=mac_address(settings.mac_address),
        ifname=_ifname(settings.if_name, options.pop(IFNAME_OPTION, "")),
        aliases=_aliases(settings.aliases),
        links=tuple(map(_link, settings.links or ())),
        gw_priority=_priority(settings.gw_priority),
        options=options,
        ports=port_requests(settings.ports or ()),
    )


def port_requests(records: Iterable[engine.PortRequest]) -> tuple[PortRequest, ...]:
    """Ports to publish or to unpublish."""
    return tuple(_port_request(record) for record in records)


def object_name(kind: str, name: str | None) -> str:
    """The name, unchanged. Docker takes names like `test@#$`, so only what breaks references is refused."""
    if not name or not name.strip():
        raise InvalidParameter(f"a {kind}'s name must not be empty")
    if "/" in name or _UNPRINTABLE.search(name):
        raise InvalidParameter(f"invalid {kind} name {name!r}: it must not hold '/' or control characters")
    if len(name) > _LONGEST_NAME:
        raise InvalidParameter(f"invalid {kind} name {name[:20]!r}…: longer than {_LONGEST_NAME} characters")
    return name


_ID = re.compile(r"[0-9a-f]{64}")


def given_id(ident: str | None) -> str:
    """An id that its owner chose, "" for none. Raises InvalidParameter for what is no id of Docker's form."""
    if ident and (not _ID.fullmatch(ident) or ident[:12].isdecimal()):
        raise InvalidParameter(
            f"invalid id {ident!r}: it must be 64 hex digits, the first 12 not all decimal"
        )
    return ident or ""


HOST_NAMESPACE = "host"
"""In place of a path: the namespace that cnmd was started in."""


def netns_path(text: str | None) -> str:
    """The path of a namespace file that a sandbox is to stand for, or "host"; "" for one of its own."""
    if text and text != HOST_NAMESPACE and (not text.startswith("/") or _UNPRINTABLE.search(text)):
        raise InvalidParameter(
            f"invalid namespace path {text!r}: it must be absolute, as in /run/netns/NAME, or host"
        )
    return text or ""


def mac_address(text: str | None) -> str:
    """A unicast MAC address in lower case with colons, from any notation that Docker takes; "" stays ""."""
    if not text:
        return ""
    if not _MAC.match(text):
        raise InvalidParameter(f"invalid MAC address: {text!r}: give six bytes as in 02:42:ac:11:00:02")
    digits = re.sub(r"[^0-9a-f]", "", text.lower())
    mac = ":".join(digits[i : i + 2] for i in range(0, 12, 2))
    if int(digits[:2], 16) & 1 or not int(digits, 16):
        raise InvalidParameter(
            f"invalid MAC address: {mac}: an interface needs a unicast address other than zero"
        )
    return mac


def _refuse_unbuilt(record: engine.NetworkCreate) -> None:
    if record.ingress:
        raise NotBuilt("ingress networks are not built: there is no swarm here")
    if record.config_only:
        raise NotBuilt(
            "configuration networks (ConfigOnly) are not built: give each network its own settings"
        )
    if record.config_from and record.config_from.network:
        raise NotBuilt(
            "settings from a configuration network (ConfigFrom) are not built: give them to this network"
        )
    if record.scope not in (None, "", "local"):
        raise NotBuilt(f"networks of scope {record.scope!r} are not built: only 'local' is")


def _ipam_config(config: engine.IpamConfig) -> IpamConfig:
    return IpamConfig(
        subnet=config.subnet or "",
        ip_range=config.ip_range or "",
        gateway=config.gateway or "",
        aux_addresses=config.auxiliary_addresses or {},
    )


def _address(version: int, text: str | None) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version or "%" in text:
        raise InvalidParameter(f"invalid IPv{version} address: {text}")
    return str(address)


def _ifname(given: str | None, option: str) -> str:
    if given and option and given != option:
        raise InvalidParameter(
            f"conflicting interface names: IfName is {given!r}, {IFNAME_OPTION} is {option!r}"
        )
    name = given or option
    if name and (
        name in (".", "..") or re.search(r"[\s/:%]", name) or _UNPRINTABLE.search(name) or not name.isascii()
    ):
        raise InvalidParameter(f"invalid interface name {name!r}: use letters, digits and . _ -")
    if len(name) > _LONGEST_IFNAME:
        raise InvalidParameter(f"invalid interface name {name!r}: longer than {_LONGEST_IFNAME} characters")
    return name


def _aliases(aliases: Sequence[str] | None) -> tuple[str, ...]:
    for alias in aliases or ():
        if not alias or re.search(r"\s", alias) or _UNPRINTABLE.search(alias):
            raise InvalidParameter(f"invalid alias {alias!r}: it must be a host name")
    return tuple(dict.fromkeys(aliases or ()))


def _link(text: str) -> tuple[str, str]:
    """NAME or NAME:ALIAS, in Docker's words where it is neither."""
    name, separator, alias = text.partition(":")
    if not name or (separator and not alias) or ":" in alias:
        raise InvalidParameter(f"invalid link format: {text!r}: give NAME or NAME:ALIAS")
    (checked,) = _aliases([alias or name])
    return name, checked


def _priority(priority: int | None) -> int:
    if (priority or 0) not in _PRIORITIES:
        raise InvalidParameter(f"invalid gateway priority {priority}: it must fit in 32 bits")
    return priority or 0


def _port_request(record: engine.PortRequest) -> PortRequest:
    container_end = record.container_port_end or 0
    host, host_end = record.host_port or 0, record.host_port_end or 0
    _check_range("container", record.container_port, container_end, lowest=1)
    _check_range("host", host, host_end, lowest=1 if host_end else 0)
    wanted = max(container_end - record.container_port, 0)
    if host_end and wanted and host_end - host != wanted:
        raise InvalidParameter(
            f"invalid ports: {host}-{host_end} on the host and {record.container_port}-{container_end} "
            "in the sandbox differ in number"
        )
    return PortRequest(
        protocol=_protocol(record.protocol),
        container_port=record.container_port,
        container_port_end=container_end,
        host_port=host,
        host_port_end=host_end,
        host_address=_host_address(record.host_ip),
    )


def _check_range(side: str, start: int, end: int, lowest: int) -> None:
    for port in (start, end or start):
        if not lowest <= port <= 65535:
            raise InvalidParameter(f"invalid {side} port {port}: it must be {lowest} to 65535")
    if end and end < start:
        raise InvalidParameter(f"invalid {side} ports {start}-{end}: the end lies before the start")


def _protocol(text: str | None) -> Protocol:
    try:
        return Protocol((text or "tcp").lower())
    except ValueError:
        raise InvalidParameter(f"invalid protocol {text!r}: it must be tcp, udp or sctp") from None


def _host_address(text: str | None) -> str:
    if not text:
        return ""
    try:
        if "%" in text:
            raise ValueError
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise InvalidParameter(
            f"invalid host address {text!r}: give an IPv4 or IPv6 address of the host"
        ) from None
