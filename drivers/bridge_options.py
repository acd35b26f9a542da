"""The bridge driver's options (`-o`), Docker's names, parsed once into typed values."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from cnm.drivers import option_values
from cnm.drivers.option_values import INTERFACE_PREFIX, MTU, boolean, interface
from cnm.errors import NotBuilt
from cnm.firewall.modes import GatewayMode

_BRIDGE = "com.docker.network.bridge."
_NETWORK = "com.docker.network."


@dataclass(frozen=True, slots=True)
class BridgeOptions:
    """What can be said of a bridge network; the defaults are Docker's."""

    bridge_name: str = ""
    """Name of the device; "" for `cnm-` and the network's id."""
    icc: bool = True
    masquerade: bool = True
    gateway_mode_ipv4: GatewayMode = GatewayMode.NAT
    gateway_mode_ipv6: GatewayMode = GatewayMode.NAT
    inhibit_ipv4: bool = False
    """The device gets no IPv4 address."""
    host_binding_ipv4: str = ""
    """Host address of ports published without one."""
    host_ipv4: str = ""
    host_ipv6: str = ""
    """Source address of what leaves, instead of the uplink's."""
    trusted_interfaces: tuple[str, ...] = ()
    mtu: int = 0
    interface_prefix: str = "eth"
    guard: bool = True
    """Drop what a container sends with another's MAC or address."""


def parse(options: Mapping[str, str]) -> BridgeOptions:
    """Raises InvalidParameter naming a bad or an unknown option, NotBuilt for one of Docker's that is not built."""
    return _parse(tuple(options.items()))


@lru_cache(maxsize=1024)
def _parse(options: tuple[tuple[str, str], ...]) -> BridgeOptions:
    """Each verb asks for them some times over."""
    for key, _ in options:
        if key in _NOT_BUILT:
            raise NotBuilt(f"option {key} is not built: leave it out")
    return replace(BridgeOptions(), **option_values.read("bridge", options, _PARSERS))


def _mode(text: str) -> GatewayMode:
    modes = {mode.value: mode for mode in GatewayMode if mode is not GatewayMode.INTERNAL}
    if text not in modes:
        raise ValueError(f"it must be one of {', '.join(modes)}")
    return modes[text]


def _ipv4(text: str) -> str:
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        raise ValueError("it must be an IPv4 address") from None


def _ipv6(text: str) -> str:
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise ValueError("it must be an IPv6 address") from None


def _interfaces(text: str) -> tuple[str, ...]:
    return tuple(interface(name) for name in text.split(":") if name)


_PARSERS: option_values.Parsers = {
    _BRIDGE + "name": ("bridge_name", interface),
    _BRIDGE + "enable_icc": ("icc", boolean),
    _BRIDGE + "enable_ip_masquerade": ("masquerade", boolean),
    _BRIDGE + "gateway_mode_ipv4": ("gateway_mode_ipv4", _mode),
    _BRIDGE + "gateway_mode_ipv6": ("gateway_mode_ipv6", _mode),
    _BRIDGE + "inhibit_ipv4": ("inhibit_ipv4", boolean),
    _BRIDGE + "host_binding_ipv4": ("host_binding_ipv4", _ipv4),
    _BRIDGE + "trusted_host_interfaces": ("trusted_interfaces", _interfaces),
    _NETWORK + "host_ipv4": ("host_ipv4", _ipv4),
    _NETWORK + "host_ipv6": ("host_ipv6", _ipv6),
    MTU: ("mtu", option_values.mtu),
    INTERFACE_PREFIX: ("interface_prefix", option_values.prefix),
    "cnm.guard": ("guard", boolean),
}
_NOT_BUILT = frozenset(
    {
        _BRIDGE + "default_bridge",
        _NETWORK + "advertise_addr_nmsgs",
        _NETWORK + "advertise_addr_ms",
        _NETWORK + "enable_ipv4",
        _NETWORK + "enable_ipv6",
    }
)
