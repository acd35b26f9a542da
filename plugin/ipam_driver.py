"""IpamDriver.*: pools and addresses for dockerd, with our network driver or with any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cnm.leases import Leases
from cnm.plugin.app import Call
from cnm.wire import plugin


class IpamDriver:
    """`avoid` says which subnets (CIDR texts) a pool of our choice must not touch."""

    def __init__(self, leases: Leases, avoid: Callable[[], Sequence[str]]) -> None:
        self._leases = leases
        self._avoid = avoid

    def calls(self) -> dict[str, Call]:
        methods = {
            "GetCapabilities": Call(plugin.Record, self.get_capabilities),
            "GetDefaultAddressSpaces": Call(plugin.Record, self.get_default_address_spaces),
            "RequestPool": Call(plugin.RequestPool, self.request_pool),
            "ReleasePool": Call(plugin.ReleasePool, self.release_pool),
            "RequestAddress": Call(plugin.RequestAddress, self.request_address),
            "ReleaseAddress": Call(plugin.ReleaseAddress, self.release_address),
        }
        return {f"{plugin.IPAM_DRIVER}.{name}": call for name, call in methods.items()}

    def get_capabilities(self, _body: plugin.Record) -> plugin.IpamCapabilities:
        """A dockerd that starts tells what it knows: what it died over is not kept from others for ever."""
        return plugin.IpamCapabilities(requires_request_replay=True)

    def get_default_address_spaces(self, _body: plugin.Record) -> plugin.AddressSpaces:
        spaces = self._leases.address_spaces()
        return plugin.AddressSpaces(
            local_default_address_space=spaces.local, global_default_address_space=spaces.global_
        )

    def request_pool(self, body: plugin.RequestPool) -> plugin.PoolRequested:
        lease = self._leases.request_pool(
            body.address_space or "",
            body.pool or "",
            body.sub_pool or "",
            body.options or {},
            bool(body.v6),
            self._avoid() if not body.pool else (),
        )
        return plugin.PoolRequested(pool_id=lease.pool_id, pool=lease.subnet, data=lease.data)

    def release_pool(self, body: plugin.ReleasePool) -> None:
        self._leases.release_pool(body.pool_id or "")

    def request_address(self, body: plugin.RequestAddress) -> plugin.AddressRequested:
        cidr = self._leases.request_address(body.pool_id or "", body.address or "", body.options or {})
        return plugin.AddressRequested(address=cidr, data={})

    def release_address(self, body: plugin.ReleaseAddress) -> None:
        self._leases.release_address(body.pool_id or "", body.address or "")
