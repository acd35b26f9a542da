"""What an IPAM is: the calls the controller makes on pools and addresses, what they answer, how they fail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from cnm.errors import Forbidden, InvalidParameter, Unavailable

# Option keys of the Docker plugin protocol.
REQUEST_ADDRESS_TYPE = "RequestAddressType"
"""With the value GATEWAY: the address will be a network's gateway."""
GATEWAY = "com.docker.network.gateway"
"""Also the key under which a pool's data may carry the gateway (CIDR text) that the IPAM chose itself."""
AUXILIARY = "cnm.auxiliary"
"""The other value of it: the address is a network's auxiliary one. Plugins do not hear of it."""
ENDPOINT_MAC = "com.docker.network.endpoint.macaddress"
ENDPOINT_NAME = "com.docker.network.endpoint.name"
SERIAL = "com.docker.network.ipam.serial"
""""true": the address after the one issued last, wrapping at the end, instead of the lowest free one."""


class PoolOverlap(Forbidden):
    """The subnet shares addresses with one that is allocated already."""


class AddressInUse(Forbidden):
    """The address asked for belongs to somebody, or is reserved in its subnet."""


class AddressOutOfRange(InvalidParameter):
    """The address is not in the subnet of the pool."""


class PoolExhausted(Unavailable):
    """No free address is left in the pool."""


class PoolsExhausted(Unavailable):
    """No free subnet is left in the address pools (Docker answers 400 here, though the request is sound)."""


class PoolLease(msgspec.Struct, frozen=True):
    """An allocated pool: `pool_id` means something to its IPAM only, `subnet` is CIDR text."""

    pool_id: str
    subnet: str
    data: dict[str, str] = {}


class PoolStatus(msgspec.Struct, frozen=True):
    """How full a pool is; both numbers stop at 2**64 - 1, as Docker's unsigned ones do."""

    ips_in_use: int
    """Addresses of the whole subnet that are taken or reserved."""
    dynamic_ips_available: int
    """Free addresses of the ip-range, of the subnet where there is none."""


class AddressSpaces(NamedTuple):
    """Names of the spaces for networks of scope local and of scope global."""

    local: str
    global_: str


class IpamCapabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What an IPAM needs from its caller."""

    requires_mac_address: bool = False
    requires_request_replay: bool = False
    """It keeps nothing over a restart: pools and addresses must be restored."""


class Ipam(Protocol):
    """Subnets are CIDR text, addresses bare text, both "" where the choice is the IPAM's."""

    name: str

    def default_address_spaces(self) -> AddressSpaces: ...

    def capabilities(self) -> IpamCapabilities: ...

    def request_pool(
        self,
        space: str,
        pool: str = "",
        sub_pool: str = "",
        options: Mapping[str, str] | None = None,
        v6: bool = False,
        *,
        exclude: Sequence[str] = (),
    ) -> PoolLease:
        """Allocate `pool`, or one of the IPAM's choice that touches nothing in `exclude` (CIDR texts).

        "0.0.0.0/24" or "::/64" asks for any pool of that size. `sub_pool` (the ip-range) limits which
        addresses are issued unasked. Raises InvalidParameter, PoolOverlap, PoolsExhausted.
        """

    def release_pool(self, pool_id: str) -> None:
        """Raises InvalidParameter where no such pool is allocated."""

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        """Take an address and return it as CIDR text with the subnet's prefix length.

        "" is returned by an IPAM that gives no addresses. Raises AddressInUse, AddressOutOfRange,
        PoolExhausted, NotFound where the pool is unknown.
        """

    def release_address(self, pool_id: str, address: str) -> None:
        """Give an address back; one that is free already is no error."""

    def restore_pool(
        self, pool_id: str, subnet: str, sub_pool: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        """Hold a pool again that was allocated before a restart. Idempotent; never refused for an overlap."""

    def restore_address(self, pool_id: str, address: str, options: Mapping[str, str] | None = None) -> None:
        """Hold an address again that was issued before a restart. Idempotent."""

    def pool_status(self, pool_id: str) -> PoolStatus | None:
        """None where the IPAM does not know."""
