"""What the hosts of a cluster share, as it stands in etcd: JSON, a record for each key of `cnm.cluster.keys`.

A reader ignores fields that it does not know and takes the default for those that are missing, so that hosts of two
versions live together; whoever changes a record keeps the fields that it does not know (`encode_over`). What an older
version would get wrong raises `FORMAT`, and the cluster's record says which one its nodes need.

Addresses are bare text or CIDR text, MACs lower case with colons, MTUs bytes, times RFC 3339.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

import cnm
from cnm.errors import Conflict
from cnm.network import IpamConfig, NameRecord, Pool


class TooNew(Conflict):
    """This version of cnm is too old for the cluster."""


R = TypeVar("R", bound=msgspec.Struct)

FORMAT = 1
"""Of the records as this version writes them."""

_ENCODER = msgspec.json.Encoder()
_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {}


class Cluster(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the hosts agreed on at `cluster init`."""

    id: str
    created: str
    vxlan_port: int = 4789
    transport: str = ""
    """CIDR text of the pool that WireGuard addresses are from."""
    needs: int = 1
    """The format that every node must know."""


class Registration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node that was enrolled."""

    name: str
    member: bool = False
    """It runs a member of etcd."""
    since: str = ""
    fingerprint: str = ""
    """SHA-256 of its certificate (DER) in hex digits."""
    transport: str = ""
    """Its own WireGuard address, bare text."""
    user: str = ""
    """Of etcd, as its certificate says; each certificate has another, so that an old one is worth nothing."""
    address: str = ""
    """That it advertised when it was enrolled."""
    endpoint: str = ""
    """Where its member of etcd is asked, HOST:PORT; "" for one that runs none."""
    enrols_at: str = ""
    """Where it enrols others, HOST:PORT."""


class Token(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A join token: its secret is known by a digest only, the name of this key."""

    expires: str
    made_by: str = ""
    used_by: str = ""
    """The node that was enrolled with it: it is good for nobody else, and is kept to say so until it expires."""
    used_key: str = ""
    """SHA-256 of that node's key: the same request may be made again where its answer was lost."""


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node that is alive."""

    name: str
    address: str
    """Of its end of tunnels (VTEP)."""
    mtu: int = 1500
    """Of the interface that carries `address`."""
    version: str = ""
    boot_id: str = ""
    member: bool = False
    transport: str = ""
    """Its WireGuard address; "" where it cannot encrypt."""
    transport_mtu: int = 0
    """Of the interface that carries `transport`."""
    wireguard_key: str = ""
    """Public, base64; "" while it has no tunnels."""
    wireguard_port: int = 0
    wireguard_generation: int = 0
    """Which the key is of (`cnm.cluster.wireguard_keys`)."""
    wireguard_since: str = ""
    """When the key was made."""
    next_wireguard_key: str = ""
    """Of the next generation, while keys are being replaced; "" else."""
    next_wireguard_port: int = 0
    next_wireguard_generation: int = 0
    certificate_expires: str = ""
    docker: str = ""
    """Version of its dockerd, "" where there is none."""


class SharedPool(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A pool that is allocated; `id` is what its IPAM calls it."""

    id: str
    node: str = ""
    """Who took it."""


class Claim(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who has an address: `node` "" for the network itself (gateways, auxiliary addresses)."""

    node: str = ""
    owner: str = ""
    """What the node knows it by: an endpoint's id, or dockerd's request."""


class SharedNetwork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A network of the whole cluster."""

    id: str
    name: str
    created: str
    vni: int
    mtu: int
    """Of the network's own links."""
    enable_ipv4: bool = True
    enable_ipv6: bool = False
    internal: bool = False
    attachable: bool = False
    encrypted: bool = False
    multicast: bool = False
    pools: tuple[Pool, ...] = ()
    ipam_driver: str = "default"
    ipam_options: dict[str, str] = {}
    ipam_config: tuple[IpamConfig, ...] = ()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    records: tuple[NameRecord, ...] = ()
    docker: str = ""
    """What the hosts' dockerds are to call it; "" where it is not theirs."""


class SharedEndpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An endpoint as the other hosts need it; its node is in the key."""

    mac: str
    ipv4: str = ""
    ipv6: str = ""
    """Bare addresses."""
    names: tuple[str, ...] = ()
    """What it is called on the network, its sandbox's name first; lower case."""


class SharedVolume(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A volume that every host's plugin of this name reaches; what was asked for when it was made."""

    driver: str
    name: str
    created: int = 0
    """Nanoseconds since 1970; 0 where nobody of the cluster has made it."""
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    node: str = ""
    """Who told of it first."""
    removing: str = ""
    """The node that is removing it at its driver: nobody may use it any more."""


class VolumeUsers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Ids of containers, running or not."""

    containers: tuple[str, ...]


def encode(record: msgspec.Struct) -> bytes:
    return _ENCODER.encode(record)


def encode_over(value: bytes, record: msgspec.Struct) -> bytes:
    """`record` in the place of `value`, which is one of its kind: what this version does not know there stays."""
    before = decode(value, type(record))
    raw, after = msgspec.json.decode(value), msgspec.to_builtins(record)
    for field in record.__struct_fields__:
        if getattr(before, field) == getattr(record, field):
            continue
        if field in after:
            raw[field] = after[field]
        else:
            raw.pop(field, None)
    return _ENCODER.encode(raw)


def check_format(cluster: Cluster) -> None:
    """Raises TooNew where this version would get the cluster's records wrong."""
    if cluster.needs > FORMAT:
        raise TooNew(
            f"the cluster's records are of format {cluster.needs}, and cnm {cnm.__version__} on this host knows "
            f"{FORMAT} at most: upgrade it"
        )


def decode(value: bytes, kind: type[R]) -> R:
    """Raises msgspec.DecodeError for what is no such record."""
    if kind not in _DECODERS:
        _DECODERS[kind] = msgspec.json.Decoder(kind)
    record: R = _DECODERS[kind].decode(value)
    return record
