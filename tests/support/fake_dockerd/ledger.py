"""What the plugin's IPAM has given out and not got back, to notice what it gives out twice."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any

from tests.support.fake_dockerd.answers import Subnet
from tests.support.fake_dockerd.errors import ProtocolViolation, Rule

IpAddress = IPv4Address | IPv6Address


class Ledger:
    """Pools by id, and the addresses out of each. A restarted dockerd forgets nothing here: it asks again."""

    def __init__(self) -> None:
        self._pools: dict[str, list[Subnet]] = {}
        self._addresses: dict[str, set[IpAddress]] = {}

    def note(
        self, path: str, request: dict[str, Any] | None, answer: dict[str, Any], *, again: bool = False
    ) -> None:
        """Takes note of an answered call. `again` is set where something held is asked for once more.

        Raises ProtocolViolation where the answer cannot be with what is held.
        """
        asked = request or {}
        match path:
            case "/IpamDriver.RequestPool":
                self._add_pool(path, asked, answer)
            case "/IpamDriver.RequestAddress":
                self._add_address(path, asked, answer, again)
            case "/IpamDriver.ReleaseAddress":
                held = self._addresses.get(asked["PoolID"], set())
                held.discard(ip_address(asked["Address"]))
            case "/IpamDriver.ReleasePool":
                self._release_pool(asked["PoolID"])

    def subnet(self, pool_id: str) -> Subnet | None:
        """The subnet of a pool that is held."""
        held = self._pools.get(pool_id)
        return held[0] if held else None

    def _add_pool(self, path: str, asked: dict[str, Any], answer: dict[str, Any]) -> None:
        subnet = ip_network(answer["Pool"])
        if not asked.get("Pool"):
            for other in (subnets[0] for subnets in self._pools.values()):
                if other.version == subnet.version and other.overlaps(subnet):
                    raise ProtocolViolation(path, Rule.POOL_OVERLAP, f"{subnet} and {other}")
        self._pools.setdefault(answer["PoolID"], []).append(subnet)

    def _add_address(self, path: str, asked: dict[str, Any], answer: dict[str, Any], again: bool) -> None:
        address, subnet = ip_interface(answer["Address"]), self.subnet(asked["PoolID"])
        if subnet is not None and address.network != subnet:
            raise ProtocolViolation(path, Rule.ADDRESS_POOL, f"{address} of {subnet}")
        held = self._addresses.setdefault(asked["PoolID"], set())
        if address.ip in held and not again:
            raise ProtocolViolation(path, Rule.ADDRESS_FREE, str(address))
        held.add(address.ip)

    def _release_pool(self, pool_id: str) -> None:
        self._pools.pop(pool_id, None)
        self._addresses.pop(pool_id, None)
