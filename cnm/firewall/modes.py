"""Gateway modes: how a network's addresses and the rest of the world may reach each other."""

from __future__ import annotations

from enum import StrEnum


class GatewayMode(StrEnum):
    """Docker's modes, and the one that follows from `--internal`. Each has one constant chain a direction."""

    NAT = "nat"
    """Containers leave with the host's address; only published ports are reached, through the host."""
    NAT_UNPROTECTED = "nat-unprotected"
    """As nat, and every port of a container is reached by whoever has a route to it."""
    ROUTED = "routed"
    """No translation; ICMP and published ports of a container are reached by whoever has a route to it."""
    ISOLATED = "isolated"
    """Nothing enters or leaves, and the host has no address on the bridge."""
    INTERNAL = "internal"
    """Nothing enters or leaves; the host itself is reached at the gateway's address."""

    @property
    def translates(self) -> bool:
        """Whether containers leave with the host's address and have ports published on it."""
        return self in (GatewayMode.NAT, GatewayMode.NAT_UNPROTECTED)
