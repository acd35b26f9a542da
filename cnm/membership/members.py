"""Where a node's member and listener are, and what its record says once it is in."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from cnm.cluster.addresses import join_port
from cnm.cluster.home import ENROL_PORT, NodeRecord, Phase


def addresses(record: NodeRecord) -> tuple[str, ...]:
    """That its certificate is for."""
    return (record.advertise,)


def endpoint(record: NodeRecord) -> str:
    """Of its member, for clients: HOST:PORT."""
    return join_port(record.advertise, record.ports.client)


def enrols_at(record: NodeRecord) -> str:
    return join_port(record.advertise, record.ports.enrol)


def join_host(record: NodeRecord) -> str:
    """What 'cnmctl cluster join' is told: the port only where it is not the usual one."""
    return record.advertise if record.ports.enrol == ENROL_PORT else enrols_at(record)


def entered(record: NodeRecord, endpoints: Sequence[str], listeners: Sequence[str]) -> NodeRecord:
    return replace(record, phase=Phase.IN, endpoints=tuple(endpoints), enrolled_at=tuple(listeners))
