"""The overlay driver's options (`-o`), Docker's names where it has one, parsed once into typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from cnm.cluster.probe import VNI
from cnm.drivers import option_values
from cnm.drivers.option_values import INTERFACE_PREFIX, MTU, SHOWN_TO_DOCKER

VXLAN_ID = "com.docker.network.driver.overlay.vxlanid_list"
MAX_VNI = (1 << 24) - 1
STANDS_FOR = "cnm.network"
"""Option of a network of dockerd's, and of its IPAM: the id of the cluster's network that it stands for."""

_ID_DIGITS = 64
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """What can be said of an overlay network."""

    encrypted: bool = False
    vni: int = 0
    """0 for one of the cluster's choice."""
    mtu: int = 0
    """0 for what the underlay leaves."""
    multicast: bool = False
    """Broadcasts and multicasts go to every host of the network; without, they stay on their host."""
    interface_prefix: str = "eth"
    docker: bool = False
    """The dockerd of every host has it."""
    stands_for: str = ""
    """The id of the cluster's network that one of dockerd's stands for."""


def parse(options: Mapping[str, str]) -> OverlayOptions:
    """Raises InvalidParameter naming a bad or an unknown option."""
    return _parse(tuple(options.items()))


@lru_cache(maxsize=1024)
def _parse(options: tuple[tuple[str, str], ...]) -> OverlayOptions:
    """Each verb asks for them some times over."""
    return replace(OverlayOptions(), **option_values.read("overlay", options, _PARSERS))


def _vni(text: str) -> int:
    """Docker takes a list with one VNI a subnet; all subnets of ours are on one."""
    if not text.isdecimal() or not 0 < int(text) <= MAX_VNI:
        raise ValueError(f"it must be one number from 1 to {MAX_VNI}, since all subnets share it")
    if int(text) == VNI:
        raise ValueError(f"{VNI} is what cnm probes the paths between the hosts with: choose another one")
    return int(text)


def _network_id(text: str) -> str:
    if len(text) != _ID_DIGITS or not set(text) <= _HEX:
        raise ValueError("it must be the whole id of a network of the cluster")
    return text


_PARSERS: option_values.Parsers = {
    "encrypted": ("encrypted", option_values.switch),
    VXLAN_ID: ("vni", _vni),
    MTU: ("mtu", option_values.mtu),
    INTERFACE_PREFIX: ("interface_prefix", option_values.prefix),
    "cnm.multicast": ("multicast", option_values.switch),
    SHOWN_TO_DOCKER: ("docker", option_values.switch),
    STANDS_FOR: ("stands_for", _network_id),
}
