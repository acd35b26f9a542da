"""The IPAM of the cluster's networks as dockerd sees it: pools that are there already, addresses claimed in etcd.

A pool belongs to its network, and so does its gateway: every host's dockerd gets the same, and gives nothing back.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from cnm import stand_ins
from cnm.cluster.shared_ipam import SPACES
from cnm.dockerd_verbs import NO_STAND_IN
from cnm.drivers.overlay_options import STANDS_FOR, parse
from cnm.errors import CnmError, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.ipam import AddressInUse, AddressSpaces, IpamCapabilities, PoolLease, PoolOverlap, PoolStatus
from cnm.ipam.cidr import parse_cidr
from cnm.ipam.contract import GATEWAY, REQUEST_ADDRESS_TYPE
from cnm.model import SHORT
from cnm.network import Network, Pool
from cnm.resources import Resources

log = logging.getLogger(__name__)


class DockerdIpam:
    """Implements `Ipam`; thread-safe. Each pool is given out once at a time: it is for one network of dockerd's."""

    name = "default"

    def __init__(self, resources: Resources) -> None:
        self._r = resources
        self._lock = threading.Lock()
        self._pools: set[str] = set()
        """Ids of those that dockerd has."""
        self._claimed: set[tuple[str, str]] = set()
        """(pool's id, address) of what dockerd has in this host's name: gateways are not among them."""

    def default_address_spaces(self) -> AddressSpaces:
        """dockerd's networks are local to it, their addresses are not."""
        return AddressSpaces(SPACES.global_, SPACES.global_)

    def capabilities(self) -> IpamCapabilities:
        return IpamCapabilities()

    # Pools

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
        """Raises Forbidden for a pool of no network of the cluster, PoolOverlap where dockerd has it already."""
        network = self._network((options or {}).get(STANDS_FOR, ""))
        found = _pool_of(network, pool)
        with self._lock:
            if found.pool_id in self._pools:
                raise PoolOverlap(f"network {network.name} of the cluster is in this Docker already")
            self._pools.add(found.pool_id)
        return PoolLease(found.pool_id, found.subnet)

    def _network(self, ident: str) -> Network:
        if not ident:
            raise Forbidden(f"the addresses of overlay networks are the cluster's: {NO_STAND_IN}")
        network = stand_ins.original(self._r, ident)
        if network is None:
            raise Unavailable(
                f"network {ident[:SHORT]} of the cluster is not known on this host: see cnmctl network ls"
            )
        if not parse(network.options).docker:
            raise Forbidden(f"network {network.name} of the cluster is not Docker's: {NO_STAND_IN}")
        return network

    def release_pool(self, pool_id: str) -> None:
        """It stays the network's."""
        with self._lock:
            self._pools.discard(pool_id)

    def restore_pool(
        self, pool_id: str, subnet: str, sub_pool: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        with self._lock:
            self._pools.add(pool_id)

    def pool_status(self, pool_id: str) -> PoolStatus | None:
        return self._r.cluster.ipam.pool_status(pool_id)

    # Addresses

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        """Raises EtcdError, AddressInUse, NotFound where the network was removed from the cluster."""
        if (options or {}).get(REQUEST_ADDRESS_TYPE) == GATEWAY:
            return self._gateway(pool_id, address)
        cidr = self._r.cluster.ipam.request_address(pool_id, address, options)
        with self._lock:
            self._claimed.add((pool_id, cidr.partition("/")[0]))
        return cidr

    def _gateway(self, pool_id: str, address: str) -> str:
        pool = next((p for n in self._r.model.networks() for p in n.pools if p.pool_id == pool_id), None)
        if pool is None or not pool.gateway:
            raise NotFound(f"no network of the cluster has a gateway in pool {pool_id}")
        if address not in ("", pool.gateway):
            raise AddressInUse(
                f"the gateway of {pool.subnet} is {pool.gateway} in the whole cluster, not {address}"
            )
        return f"{pool.gateway}/{parse_cidr(pool.subnet).network.prefixlen}"

    def release_address(self, pool_id: str, address: str) -> None:
        """What the cluster cannot be told now is given back when it answers."""
        with self._lock:
            if (pool_id, address) not in self._claimed:
                return
            self._claimed.discard((pool_id, address))
        try:
            self._r.cluster.ipam.release_address(pool_id, address)
        except CnmError as error:
            log.warning("address %s is given back to the cluster later: %s", address, error)

    def restore_address(self, pool_id: str, address: str, options: Mapping[str, str] | None = None) -> None:
        if (options or {}).get(REQUEST_ADDRESS_TYPE) == GATEWAY:
            return
        with self._lock:
            self._claimed.add((pool_id, address))
        self._r.cluster.ipam.restore_address(pool_id, address)


def _pool_of(network: Network, subnet: str) -> Pool:
    try:
        wanted = parse_cidr(subnet).network
    except ValueError:
        raise _other_subnet(network, subnet) from None
    for pool in network.pools:
        if parse_cidr(pool.subnet).network == wanted:
            return pool
    raise _other_subnet(network, subnet)


def _other_subnet(network: Network, subnet: str) -> InvalidParameter:
    known = ", ".join(pool.subnet for pool in network.pools)
    asked = subnet or "one of another family"
    return InvalidParameter(f"network {network.name} of the cluster has the subnets {known}, not {asked}")
