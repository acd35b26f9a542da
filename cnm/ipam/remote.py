"""Pools and addresses from another program: the IPAM half of Docker's plugin protocol, as a caller.

Start-up never waits for a plugin: what an IPAM that forgets (RequiresRequestReplay) must be told again is kept in
`replay`, and told before the first request of anybody, or by a thread of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

import msgspec

from cnm.errors import CnmError
from cnm.ipam.cidr import Subnet, parse_address, parse_cidr
from cnm.ipam.contract import (
    AUXILIARY,
    GATEWAY,
    REQUEST_ADDRESS_TYPE,
    AddressSpaces,
    IpamCapabilities,
    PoolExhausted,
    PoolLease,
    PoolStatus,
)
from cnm.wire import plugin as wire
from cnm.wire.plugin_client import PluginRefused, Plugins

_MOST_REFUSED = 64
"""So many pools of the plugin's choice may touch the host's own networks before we give up."""

T = TypeVar("T", bound=msgspec.Struct)

log = logging.getLogger(__name__)


class _Held(msgspec.Struct):
    """A pool as it was before a restart, with its addresses and their options."""

    pool_id: str
    subnet: str
    sub_pool: str
    options: dict[str, str]
    addresses: dict[str, dict[str, str] | None]


class RemoteIpam:
    """Implements `Ipam`. Every call may be slow, and raises what `Plugins.call` raises. Thread-safe."""

    def __init__(self, name: str, plugins: Plugins) -> None:
        self.name = name
        self._plugins = plugins
        self._capabilities: IpamCapabilities | None = None
        self._replaying = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._renamed: dict[str, str] = {}
        """What the plugin calls pools since a replay, by what it called them before."""

    def capabilities(self) -> IpamCapabilities:
        """None for a plugin that cannot say (Docker's rule: those from before there were any)."""
        if self._capabilities is None:
            self._capabilities = self._asked_capabilities()
        return self._capabilities

    def _asked_capabilities(self) -> IpamCapabilities:
        try:
            answer = self._ask("GetCapabilities", None, wire.IpamCapabilities)
        except PluginRefused as error:
            log.debug("%s; taken for an IPAM without capabilities", error)
            return IpamCapabilities()
        return IpamCapabilities(
            requires_mac_address=bool(answer.requires_mac_address),
            requires_request_replay=bool(answer.requires_request_replay),
        )

    def default_address_spaces(self) -> AddressSpaces:
        self.capabilities()
        answer = self._ask("GetDefaultAddressSpaces", None, wire.AddressSpaces)
        return AddressSpaces(
            answer.local_default_address_space or "", answer.global_default_address_space or ""
        )

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
        """Pools of the plugin's choice that touch `exclude` are kept until a better one is found, then released."""
        self.replay()
        request = wire.RequestPool(
            address_space=space, pool=pool, sub_pool=sub_pool, options=dict(options or {}), v6=v6
        )
        unwanted: list[PoolLease] = []
        try:
            while len(unwanted) < _MOST_REFUSED:
                lease = self._pool(request)
                if pool or not _touches(lease.subnet, exclude):
                    return lease
                unwanted.append(lease)
        finally:
            for lease in unwanted:
                self._try_release(lease.pool_id)
        raise PoolExhausted(
            f"plugin {self.name} offered {_MOST_REFUSED} pools, {unwanted[-1].subnet} the last, "
            "that all touch networks of this host: choose a subnet yourself"
        )

    def _pool(self, request: wire.RequestPool) -> PoolLease:
        answer = self._ask("RequestPool", request, wire.PoolRequested)
        pool_id, data = answer.pool_id or "", answer.data or {}
        with self._releasing(pool_id):
            subnet = self._subnet(answer.pool or "", bool(request.v6))
            if GATEWAY in data:
                self._address("RequestPool", data[GATEWAY])
        return PoolLease(pool_id, subnet, data)

    def _subnet(self, text: str, v6: bool) -> str:
        try:
            network = parse_cidr(text).network
        except ValueError:
            raise self._bad("RequestPool", f"invalid CIDR address: {text!r} as pool") from None
        if (network.version == 6) != v6:
            raise self._bad("RequestPool", f"{text} as pool, which is not the family asked for")
        return str(network)

    @contextmanager
    def _releasing(self, pool_id: str) -> Iterator[None]:
        """What came with a bad answer is given back."""
        try:
            yield
        except CnmError:
            self._try_release(pool_id)
            raise

    def _try_release(self, pool_id: str) -> None:
        try:
            self.release_pool(pool_id)
        except CnmError as error:
            log.warning("pool %s stays allocated: %s", pool_id, error)

    def release_pool(self, pool_id: str) -> None:
        with self._replaying:
            self._held.pop(pool_id, None)
        self._ask("ReleasePool", wire.ReleasePool(pool_id=self._now(pool_id)), wire.Failure)

    # Addresses

    def request_address(
        self, pool_id: str, address: str = "", options: Mapping[str, str] | None = None
    ) -> str:
        self.replay()
        request = wire.RequestAddress(
            pool_id=self._now(pool_id), address=address, options=_for_plugins(options)
        )
        try:
            answer = self._ask("RequestAddress", request, wire.AddressRequested)
        except PluginRefused as error:
            if "no available" in str(error):
                raise PoolExhausted(str(error)) from None
            raise
        if not answer.address:
            raise self._bad("RequestAddress", "no address returned")
        given = self._address("RequestAddress", answer.address)
        if address and parse_address(given.partition("/")[0]) != parse_address(address):
            self._give_back(pool_id, given)
            raise self._bad("RequestAddress", f"{given} for {address}, which was asked for")
        return given

    def _address(self, method: str, text: str) -> str:
        try:
            return str(parse_cidr(text))
        except ValueError:
            raise self._bad(method, f"invalid CIDR address: {text!r}") from None

    def _give_back(self, pool_id: str, cidr: str) -> None:
        try:
            self.release_address(pool_id, cidr.partition("/")[0])
        except CnmError as error:
            log.warning("address %s stays taken: %s", cidr, error)

    def release_address(self, pool_id: str, address: str) -> None:
        with self._replaying:
            if pool_id in self._held:
                self._held[pool_id].addresses.pop(address, None)
        request = wire.ReleaseAddress(pool_id=self._now(pool_id), address=address)
        self._ask("ReleaseAddress", request, wire.Failure)

    def pool_status(self, pool_id: str) -> PoolStatus | None:
        return None

    # After a restart

    def restore_pool(
        self, pool_id: str, subnet: str, sub_pool: str = "", options: Mapping[str, str] | None = None
    ) -> None:
        self._plugins.expect(self.name)
        with self._replaying:
            self._held[pool_id] = _Held(pool_id, subnet, sub_pool, dict(options or {}), {})

    def restore_address(self, pool_id: str, address: str, options: Mapping[str, str] | None = None) -> None:
        with self._replaying:
            if pool_id in self._held:
                self._held[pool_id].addresses[address] = _for_plugins(options)

    def replay(self) -> None:
        """Tell a plugin that forgets what it had given out; others need nothing. Once, whoever comes first."""
        if not self._held:
            return
        with self._replaying:
            if self._held and not self.capabilities().requires_request_replay:
                self._held.clear()
            space = self.default_address_spaces().local if self._held else ""
            for held in list(self._held.values()):
                self._replay_pool(space, held)
                del self._held[held.pool_id]

    def _replay_pool(self, space: str, held: _Held) -> None:
        """A plugin that refuses has its reasons: they are logged, and what exists goes on."""
        try:
            answer = self._ask(
                "RequestPool",
                wire.RequestPool(
                    address_space=space,
                    pool=held.subnet,
                    sub_pool=held.sub_pool,
                    options=held.options,
                    v6=":" in held.subnet,
                ),
                wire.PoolRequested,
            )
            if answer.pool_id and answer.pool_id != held.pool_id:
                self._renamed[held.pool_id] = answer.pool_id
            for address, options in held.addresses.items():
                self._replay_address(self._now(held.pool_id), address, options)
        except PluginRefused as error:
            log.warning("pool %s is not held again: %s", held.subnet, error)

    def _replay_address(self, pool_id: str, address: str, options: dict[str, str] | None) -> None:
        request = wire.RequestAddress(pool_id=pool_id, address=address, options=options)
        try:
            self._ask("RequestAddress", request, wire.AddressRequested)
        except PluginRefused as error:
            log.warning("address %s is not held again: %s", address, error)

    def _now(self, pool_id: str) -> str:
        return self._renamed.get(pool_id, pool_id)

    def _ask(self, method: str, request: msgspec.Struct | None, answer: type[T]) -> T:
        return self._plugins.call(self.name, f"{wire.IPAM_DRIVER}.{method}", request, answer)

    def _bad(self, method: str, answer: str) -> PluginRefused:
        return PluginRefused(f"plugin {self.name}: {wire.IPAM_DRIVER}.{method}: answered {answer}")


def _touches(subnet: str, others: Sequence[str]) -> bool:
    """A pool of everything (0.0.0.0/0), as the null IPAM has, touches nothing (Docker's rule)."""
    network = parse_cidr(subnet).network
    return network.prefixlen > 0 and any(_overlap(network, parse_cidr(other).network) for other in others)


def _overlap(one: Subnet, other: Subnet) -> bool:
    return one.version == other.version and one.overlaps(other)


def _for_plugins(options: Mapping[str, str] | None) -> dict[str, str] | None:
    """Docker tells its plugins nothing of an auxiliary address."""
    if options is None or options.get(REQUEST_ADDRESS_TYPE) == AUXILIARY:
        return None
    return dict(options)
