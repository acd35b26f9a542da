"""A network: a set of endpoints that can talk to each other. Plain data, its states and their transitions."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class NetworkState(StrEnum):
    """`CREATING` and `DELETING` are intents: start-up undoes the first and finishes the second."""

    CREATING = "creating"
    ACTIVE = "active"
    DELETING = "deleting"


TRANSITIONS: dict[NetworkState, frozenset[NetworkState]] = {
    NetworkState.CREATING: frozenset({NetworkState.ACTIVE, NetworkState.DELETING}),
    NetworkState.ACTIVE: frozenset({NetworkState.DELETING}),
    NetworkState.DELETING: frozenset(),
}


class Owner(StrEnum):
    """Whose network it is: who gives its addresses and decides when it goes."""

    CNM = "cnm"
    DOCKERD = "dockerd"
    """Made by dockerd through its plugin protocol, with its id; pools and addresses are what dockerd says."""


DEFAULT_NETWORK = "bridge"
"""The one that Docker's containers are on unless they say otherwise; names are not resolved there."""

EGRESS_NETWORK = "cnm_gwbridge"
"""The one that sandboxes get out by which are on networks of the cluster only; made when it is first needed."""

PREDEFINED = (DEFAULT_NETWORK, "host", "none")
"""Networks that exist from first start and cannot be deleted."""


class IpamConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One subnet as the user asked for it: CIDR text, bare address text; "" where nothing was asked."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    aux_addresses: dict[str, str] = {}


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A network as asked for; `enable_ipv4` and `enable_ipv6` None where nothing was said."""

    name: str
    driver: str = "bridge"
    scope: str = ""
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    internal: bool = False
    attachable: bool = False
    ipam_driver: str = "default"
    ipam_options: dict[str, str] = {}
    ipam_config: tuple[IpamConfig, ...] = ()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    id: str = ""
    """Given by its owner; "" for one of our choice."""
    owner: Owner = Owner.CNM
    direct: bool | None = None


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet as it was allocated. `gateway` is bare address text, "" where the network has none."""

    pool_id: str
    subnet: str
    gateway: str = ""
    ip_range: str = ""
    aux_addresses: dict[str, str] = {}


class NameRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A name that somebody gave on a network: `kind` "A", "AAAA" or "CNAME", `value` an address or another name."""

    name: str
    """Lower case; "*.shop" for everything below "shop"."""
    kind: str
    value: str


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network as stored. `options` are the driver's (`-o`), validated by it when the network was created."""

    id: str
    name: str
    driver: str
    created: str
    """RFC 3339 with nanoseconds, UTC."""
    state: NetworkState
    scope: str = "local"
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    ipam_driver: str = "default"
    ipam_options: dict[str, str] = {}
    ipam_config: tuple[IpamConfig, ...] = ()
    """As the user gave it: `inspect` shows what was asked, completed by the pools."""
    pools: tuple[Pool, ...] = ()
    mtu: int = 0
    """Bytes, decided at creation (option, or the uplink's); 0: the kernel's default."""
    decided: dict[str, str] = {}
    """What else its driver decided at creation and cannot ask the host again; the keys are the driver's."""
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    owner: Owner = Owner.CNM
    records: tuple[NameRecord, ...] = ()
    direct: bool | None = None
    """Links are made inside dockerd's sandboxes where that is safe, instead of being moved there by dockerd; None
    where the network does not say."""

    @property
    def predefined(self) -> bool:
        return self.name in PREDEFINED

    def pools_v4(self) -> tuple[Pool, ...]:
        return tuple(p for p in self.pools if ":" not in p.subnet)

    def pools_v6(self) -> tuple[Pool, ...]:
        return tuple(p for p in self.pools if ":" in p.subnet)
