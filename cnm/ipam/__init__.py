"""Pools and addresses: the IPAM contract, the built-in IPAMs, what the controller does with any of them."""

from cnm.ipam.allocator import Allocator
from cnm.ipam.config import validate_endpoint_addresses, validate_ipam
from cnm.ipam.contract import (
    AddressInUse,
    AddressOutOfRange,
    AddressSpaces,
    Ipam,
    IpamCapabilities,
    PoolExhausted,
    PoolLease,
    PoolOverlap,
    PoolsExhausted,
    PoolStatus,
)
from cnm.ipam.endpoints import allocate_endpoint, release_endpoint, restore_endpoint
from cnm.ipam.given import GivenIpam
from cnm.ipam.networks import allocate_network, network_status, release_network, restore_network
from cnm.ipam.null import NullIpam
from cnm.ipam.remote import RemoteIpam

__all__ = [
    "AddressInUse",
    "AddressOutOfRange",
    "AddressSpaces",
    "Allocator",
    "GivenIpam",
    "Ipam",
    "IpamCapabilities",
    "NullIpam",
    "PoolExhausted",
    "PoolLease",
    "PoolOverlap",
    "PoolStatus",
    "PoolsExhausted",
    "RemoteIpam",
    "allocate_endpoint",
    "allocate_network",
    "network_status",
    "release_endpoint",
    "release_network",
    "restore_endpoint",
    "restore_network",
    "validate_endpoint_addresses",
    "validate_ipam",
]
