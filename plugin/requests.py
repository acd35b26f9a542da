"""From what dockerd sends to what the model is asked for; whatever needs no model is checked here.

All functions raise InvalidParameter naming the value.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cnm.endpoint import EndpointRequest, PortRequest, Protocol
from cnm.errors import InvalidParameter
from cnm.model import SHORT
from cnm.network import IpamConfig, NetworkRequest, Owner
from cnm.wire import codec, plugin
from cnm.wire.requests import IFNAME_OPTION, mac_address

JOIN_OPTION = "cnm.join"
"""Option of a network: how its links get into dockerd's sandboxes, "moved" or "direct"."""

_ID = re.compile(r"[0-9a-f]{64}|[0-9a-z]{25}")
"""Docker's ids, and those of swarm."""
_KEY = re.compile(r"/[^\0\n\r]{1,4000}")
_NO_POOLS = ("0.0.0.0/0", "::/0")
"""What dockerd's null IPAM gives."""
_OF_DOCKERD = frozenset(
    {
        plugin.PORT_MAP,
        plugin.EXPOSED_PORTS,
        plugin.MAC_ADDRESS,
        plugin.DNS_SERVERS,
        plugin.NO_PROXY_6TO4,
        plugin.SYSCTLS,
    }
)
"""Keys of an endpoint's options that are not the user's."""


def network_request(body: plugin.CreateNetwork, driver: str) -> NetworkRequest:
    options = body.options or {}
    ident = checked_id("network", body.network_id)
    ipv4, ipv6 = body.ipv4_data or [], body.ipv6_data or []
    given = (*_ipam_configs(ipv4, 4), *_ipam_configs(ipv6, 6))
    user = user_options(options)
    return NetworkRequest(
        id=ident,
        name=f"docker-{ident[:SHORT]}",
        owner=Owner.DOCKERD,
        driver=driver,
        scope="local",
        direct=_join_mode(user.pop(JOIN_OPTION, "")),
        enable_ipv4=_flag(options, plugin.ENABLE_IPV4, True) and bool(ipv4),
        enable_ipv6=_flag(options, plugin.ENABLE_IPV6, True) and bool(ipv6),
        internal=_flag(options, plugin.INTERNAL, False),
        ipam_driver="default" if given else "null",
        ipam_config=given,
        options=user,
    )


def checked_id(kind: str, text: str | None) -> str:
    if not text or not _ID.fullmatch(text):
        raise InvalidParameter(f"invalid {kind} id {(text or '')[:80]!r}: 64 hex digits are wanted")
    return text


def user_options(options: Mapping[str, Any]) -> dict[str, str]:
    """What the user gave with `-o`; the plugin's own `cnm.join` among it."""
    given = options.get(plugin.GENERIC) or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise InvalidParameter(f"{plugin.GENERIC} must hold options with texts")
    return dict(given)


def is_internal(options: Mapping[str, Any]) -> bool:
    return _flag(options, plugin.INTERNAL, False)


def _join_mode(text: str) -> bool | None:
    if text not in ("", "moved", "direct"):
        raise InvalidParameter(f"invalid value {text!r} for option {JOIN_OPTION}: it must be moved or direct")
    return text == "direct" if text else None


def _flag(options: Mapping[str, Any], key: str, default: bool) -> bool:
    value = options.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InvalidParameter(f"invalid value {value!r} for {key}: it must be true or false")
    return value


def _ipam_configs(pools: Sequence[plugin.PoolData] | None, family: int) -> tuple[IpamConfig, ...]:
    """dockerd's null IPAM gives none."""
    return tuple(_ipam_config(pool, family) for pool in pools or () if pool.pool not in _NO_POOLS)


def _ipam_config(pool: plugin.PoolData, family: int) -> IpamConfig:
    """dockerd writes gateways and auxiliary addresses with a prefix length."""
    if not pool.pool:
        raise InvalidParameter("a subnet is missing: the network needs an IPAM driver that gives addresses")
    if (":" in pool.pool) != (family == 6):
        raise InvalidParameter(f"invalid subnet {pool.pool!r}: an IPv{family} one is wanted there")
    return IpamConfig(
        subnet=pool.pool,
        gateway=_bare("gateway", pool.gateway),
        aux_addresses={name: _bare(name, address) for name, address in (pool.aux_addresses or {}).items()},
    )


def _bare(what: str, text: str | None) -> str:
    if not text:
        return ""
    try:
        return str(ipaddress.ip_interface(text).ip)
    except ValueError:
        raise InvalidParameter(f"invalid {what} {text!r}: it must be an address") from None


def endpoint_request(body: plugin.CreateEndpoint) -> EndpointRequest:
    """Its ports come with the join."""
    interface, options = body.interface or plugin.Interface(), body.options or {}
    user = {key: value for key, value in options.items() if key not in _OF_DOCKERD}
    for key, value in user.items():
        if not isinstance(value, str):
            raise InvalidParameter(f"invalid value {value!r} for endpoint option {key}: it must be a text")
    return EndpointRequest(
        id=checked_id("endpoint", body.endpoint_id),
        ipv4=_bare("address", interface.address),
        ipv6=_bare("address", interface.address_ipv6),
        mac=_mac(interface, options),
        ifname=user.pop(IFNAME_OPTION, ""),
        options=user,
    )


def _mac(interface: plugin.Interface, options: Mapping[str, Any]) -> str:
    """dockerd says it as text, or as text and among the options."""
    text, encoded = mac_address(interface.mac_address), _mac_of(options.get(plugin.MAC_ADDRESS))
    if text and encoded and text != encoded:
        raise InvalidParameter(f"MAC address {text} and option {plugin.MAC_ADDRESS} ({encoded}) disagree")
    return text or encoded


def _mac_of(encoded: Any) -> str:
    """The six bytes in base64."""
    if not encoded:
        return ""
    try:
        return mac_address(base64.b64decode(encoded, validate=True).hex(":"))
    except (TypeError, ValueError, binascii.Error):
        raise InvalidParameter(
            f"invalid value {encoded!r} for {plugin.MAC_ADDRESS}: six bytes in base64 are wanted"
        ) from None


def name_servers(body: plugin.CreateEndpoint) -> tuple[str, ...] | None:
    """The servers that the container's names are asked of, `()` for the host's; None where dockerd does not say.

    It says so together with the ports, once for each container.
    """
    options = body.options or {}
    given = options.get(plugin.DNS_SERVERS)
    if given is None and plugin.PORT_MAP not in options:
        return None
    return tuple(server for server in given or () if isinstance(server, str))


def sandbox_key(text: str | None) -> str:
    if not text or not _KEY.fullmatch(text) or "/../" in f"{text}/":
        raise InvalidParameter(f"invalid sandbox key {(text or '')[:80]!r}: an absolute path is wanted")
    return text


def ports(options: Mapping[str, Any] | None) -> tuple[PortRequest, ...]:
    """The port map of a join, or of what makes an endpoint its sandbox's way out."""
    given = (options or {}).get(plugin.PORT_MAP) or []
    bindings = codec.convert(plugin.PORT_MAP, given, list[plugin.PortBinding])
    return tuple(_port(binding) for binding in bindings)


def _port(binding: plugin.PortBinding) -> PortRequest:
    protocol = plugin.PROTOCOLS.get(binding.proto)
    if protocol is None:
        raise InvalidParameter(f"protocol {binding.proto} cannot be published: tcp, udp and sctp can")
    for port in (binding.port, binding.host_port, binding.host_port_end):
        if not 0 <= port <= 65535:
            raise InvalidParameter(f"invalid port {port}: ports are numbers from 1 to 65535")
    if not binding.port or (binding.host_port_end and binding.host_port_end < binding.host_port):
        raise InvalidParameter(
            f"invalid port binding {binding.host_port}-{binding.host_port_end}:{binding.port}/{protocol}"
        )
    end = binding.host_port_end if binding.host_port_end != binding.host_port else 0
    return PortRequest(
        protocol=Protocol(protocol),
        container_port=binding.port,
        host_port=binding.host_port,
        host_port_end=end if binding.host_port else 0,
        host_address=_bare("host address", binding.host_ip),
    )
