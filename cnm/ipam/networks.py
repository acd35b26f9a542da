"""The pools of a network: allocated as one, released, restored, counted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from cnm.errors import CnmError
from cnm.ipam.config import validate_ipam
from cnm.ipam.contract import AUXILIARY, GATEWAY, REQUEST_ADDRESS_TYPE, Ipam, PoolLease, PoolStatus
from cnm.network import IpamConfig, Network, NetworkRequest, Pool

log = logging.getLogger(__name__)

_AS_GATEWAY = {REQUEST_ADDRESS_TYPE: GATEWAY}
_AS_AUXILIARY = {REQUEST_ADDRESS_TYPE: AUXILIARY}


def allocate_network(
    ipam: Ipam,
    request: NetworkRequest,
    exclude: Sequence[str] = (),
    *,
    gateway_v4: bool = True,
    gateway_v6: bool = True,
) -> tuple[Pool, ...]:
    """Allocate what the request asks for, IPv4 pools first; a family without a subnet gets one of the IPAM's.

    `exclude` are CIDR texts that a chosen subnet must not touch: on-link routes and name servers of the host.
    It does not bind networks of scope global. Without `gateway_v4` or `gateway_v6` that family has a gateway
    only where the user gave one. On failure nothing stays allocated. Raises what the IPAM raises, and
    InvalidParameter.
    """
    ipv4, ipv6 = request.enable_ipv4 is not False, request.enable_ipv6 is True
    validate_ipam(request.ipam_config, ipv4=ipv4, ipv6=ipv6)
    pools: list[Pool] = []
    with ExitStack() as undo:
        allocation = _Allocation(ipam, request, exclude, undo)
        for v6, enabled, gateway in ((False, ipv4, gateway_v4), (True, ipv6, gateway_v6)):
            if enabled:
                pools += [allocation.pool(config, v6, gateway) for config in _configs(request, v6)]
        undo.pop_all()
    return tuple(pools)


def release_network(ipam: Ipam, pools: Sequence[Pool]) -> None:
    """Release everything; what the IPAM refuses is logged and does not keep the rest from being released."""
    for pool in pools:
        for address in (pool.gateway, *pool.aux_addresses.values()):
            if address:
                try_release(ipam.release_address, pool.pool_id, address)
        try_release(ipam.release_pool, pool.pool_id)


def restore_network(ipam: Ipam, network: Network) -> None:
    """Hold the pools, gateways and auxiliary addresses of a stored network again."""
    for pool in network.pools:
        ipam.restore_pool(pool.pool_id, pool.subnet, pool.ip_range, network.ipam_options)
        if pool.gateway:
            ipam.restore_address(pool.pool_id, pool.gateway, _AS_GATEWAY)
        for address in pool.aux_addresses.values():
            ipam.restore_address(pool.pool_id, address, _AS_AUXILIARY)


def network_status(ipam: Ipam, network: Network) -> dict[str, PoolStatus]:
    """By subnet; without those that the IPAM cannot tell."""
    statuses = {pool.subnet: ipam.pool_status(pool.pool_id) for pool in network.pools}
    return {subnet: status for subnet, status in statuses.items() if status is not None}


def try_release(release: Callable[..., None], *args: str) -> None:
    """Call `release`; a failure is logged, since whoever releases can do nothing about it."""
    try:
        release(*args)
    except CnmError as error:
        log.warning("%s %s failed: %s", release.__name__, " ".join(args), error)


def _configs(request: NetworkRequest, v6: bool) -> Sequence[IpamConfig]:
    given = [config for config in request.ipam_config if config.subnet and (":" in config.subnet) == v6]
    return given or [IpamConfig()]


class _Allocation:
    """One network being allocated; each step leaves in `undo` what takes it back."""

    def __init__(self, ipam: Ipam, request: NetworkRequest, exclude: Sequence[str], undo: ExitStack) -> None:
        spaces = ipam.default_address_spaces()
        shared = request.scope == "global"
        self._ipam = ipam
        self._options = request.ipam_options
        self._space = spaces.global_ if shared else spaces.local
        self._exclude = () if shared else exclude
        self._undo = undo

    def pool(self, config: IpamConfig, v6: bool, want_gateway: bool) -> Pool:
        lease = self._ipam.request_pool(
            self._space, config.subnet, config.ip_range, self._options, v6, exclude=self._exclude
        )
        self._undo.callback(try_release, self._ipam.release_pool, lease.pool_id)
        # Auxiliary addresses first: a gateway that nobody chose must not take one of them.
        auxiliary = {n: self._auxiliary(lease, n, address) for n, address in config.aux_addresses.items()}
        gateway = self._gateway(lease, config.gateway, want_gateway)
        return Pool(
            pool_id=lease.pool_id,
            subnet=lease.subnet,
            gateway=gateway,
            ip_range=config.ip_range,
            aux_addresses=auxiliary,
        )

    def _gateway(self, lease: PoolLease, asked: str, wanted: bool) -> str:
        """The gateway as bare text; one that came with the pool is not asked for again."""
        if not asked and GATEWAY in lease.data:
            return _bare(lease.data[GATEWAY])
        if not asked and not wanted:
            return ""
        with _saying(f"failed to allocate gateway ({asked})" if asked else "failed to allocate a gateway"):
            gateway = _bare(self._ipam.request_address(lease.pool_id, asked, _AS_GATEWAY))
        if gateway:
            self._undo.callback(try_release, self._ipam.release_address, lease.pool_id, gateway)
        return gateway

    def _auxiliary(self, lease: PoolLease, name: str, address: str) -> str:
        with _saying(f"failed to allocate secondary ip address ({name}:{address})"):
            self._ipam.request_address(lease.pool_id, address, _AS_AUXILIARY)
        self._undo.callback(try_release, self._ipam.release_address, lease.pool_id, address)
        return address


def _bare(cidr: str) -> str:
    return cidr.partition("/")[0]


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Say in an error what was being done; its class, and so its status, stays."""
    try:
        yield
    except CnmError as error:
        raise type(error)(f"{what}: {error}") from error
