"""Which endpoint is a sandbox's way out, and how each version of dockerd tells the plugin when that changes."""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Callable
from typing import Any

from tests.support.fake_dockerd.errors import DockerError, PluginError
from tests.support.fake_dockerd.model import Endpoint, Sandbox
from tests.support.fake_dockerd.plugin import Plugin
from tests.support.fake_dockerd.versions import Gateways

NO_PROXY = "com.docker.network.driver.private.no_proxy_6to4"
Pair = tuple[Endpoint | None, Endpoint | None]
"""The ways out for IPv4 and for IPv6."""


def rank(endpoint: Endpoint, sandbox: Sandbox) -> tuple[int, bool, bool, int, str]:
    """The order of a sandbox's endpoints; the first is the best gateway."""
    gateways = endpoint.serves_ipv4 + endpoint.serves_ipv6
    return (
        -endpoint.attachment.priority,
        endpoint is sandbox.gateway_bridge,
        endpoint.network.internal,
        -gateways,
        endpoint.network.name,
    )


def pair(sandbox: Sandbox) -> Pair:
    """The first endpoint with a gateway, of each family."""
    ipv4 = next((e for e in sandbox.endpoints if e.serves_ipv4), None)
    return ipv4, next((e for e in sandbox.endpoints if e.serves_ipv6), None)


class Connectivity(abc.ABC):
    """Program- and RevokeExternalConnectivity; `is_ours` tells endpoints of the plugin from others."""

    def __init__(self, plugin: Plugin, is_ours: Callable[[Endpoint], bool]) -> None:
        self._plugin, self._is_ours = plugin, is_ours

    def forget(self) -> None:  # noqa: B027 - most remember nothing
        """dockerd has started anew."""

    @abc.abstractmethod
    def current(self, sandbox: Sandbox) -> Pair:
        """The sandbox's ways out."""

    @abc.abstractmethod
    def joined(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        """After a join. Raises DockerError, upon which the endpoint leaves again."""

    @abc.abstractmethod
    def leaves(self, endpoint: Endpoint, before: Pair) -> None:
        """Before Leave; refusals are only logged."""

    def left(self, endpoint: Endpoint) -> None:  # noqa: B027 - most remember nothing
        """After Leave was answered without an error."""

    @abc.abstractmethod
    def passed_on(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        """After a leave, when another endpoint may have become the way out; refusals are only logged."""

    def _program(self, endpoint: Endpoint, options: dict[str, Any]) -> None:
        if self._is_ours(endpoint):
            self._ask("ProgramExternalConnectivity", endpoint, {"Options": options})

    def _revoke(self, endpoint: Endpoint) -> None:
        if self._is_ours(endpoint):
            self._ask("RevokeExternalConnectivity", endpoint, {})

    def _ask(self, method: str, endpoint: Endpoint, more: dict[str, Any]) -> None:
        """A plugin need not have these two methods."""
        request = {"NetworkID": endpoint.network.id, "EndpointID": endpoint.id, **more}
        try:
            self._plugin.ask(f"/NetworkDriver.{method}", request)
        except PluginError as error:
            if not error.not_implemented:
                raise


class OneGateway(Connectivity):
    """20.10: the first endpoint with an IPv4 gateway. Joining an internal network programs nothing, but as the last
    one left in a sandbox an internal endpoint is programmed, and always revoked."""

    def current(self, sandbox: Sandbox) -> Pair:
        return next((e for e in sandbox.endpoints if e.gateway), None), None

    def joined(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        if self.current(sandbox)[0] is not endpoint:
            return
        if before[0] is not None:
            self._revoke(before[0])
        try:
            if not endpoint.network.internal:
                self._program(endpoint, options)
        except DockerError:
            if before[0] is not None:
                with contextlib.suppress(DockerError):
                    self._program(before[0], options)
            raise

    def leaves(self, endpoint: Endpoint, before: Pair) -> None:
        if endpoint is before[0]:
            with contextlib.suppress(DockerError):
                self._revoke(endpoint)

    def passed_on(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        successor = self.current(sandbox)[0]
        if endpoint is before[0] and successor is not None:
            with contextlib.suppress(DockerError):
                self._program(successor, options)


class GatewayPerFamily(Connectivity):
    """28.5: IPv4 and IPv6 may leave by different endpoints; the IPv4 one is told so, and reset when that changes."""

    def current(self, sandbox: Sandbox) -> Pair:
        return pair(sandbox)

    def joined(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        after = pair(sandbox)
        if endpoint not in after:
            return
        self._withdraw(endpoint, before, after, options)
        if not endpoint.network.internal:
            self._program(endpoint, _with_proxy(options, _split(after)))

    def _withdraw(self, endpoint: Endpoint, before: Pair, after: Pair, options: dict[str, Any]) -> None:
        reset = endpoint is not after[0] and _split(before) != _split(after)
        if before[0] is not None and (endpoint is after[0] or reset):
            self._revoke(before[0])
            if reset:
                with contextlib.suppress(DockerError):
                    self._program(before[0], _with_proxy(options, _split(after)))
        if endpoint is after[1] and before[1] is not None and before[1] is not before[0]:
            self._revoke(before[1])

    def leaves(self, endpoint: Endpoint, before: Pair) -> None:
        if endpoint in before:
            with contextlib.suppress(DockerError):
                self._revoke(endpoint)

    def passed_on(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        if endpoint not in before:
            return
        after = pair(sandbox)
        with contextlib.suppress(DockerError):
            self._program_ipv4(endpoint, before, after, options)
        if after[1] is not None and endpoint is before[1] and after[1] is not after[0]:
            with contextlib.suppress(DockerError):
                self._program(after[1], options)

    def _program_ipv4(self, endpoint: Endpoint, before: Pair, after: Pair, options: dict[str, Any]) -> None:
        if after[0] is None:
            return
        told = _with_proxy(options, after[1] is not None and after[1] is not after[0])
        if before[0] is after[0] and (before[1] is None) != (after[1] is None):
            self._revoke(after[0])
            self._program(after[0], told)
        elif endpoint is before[0]:
            self._program(after[0], told)


class RememberedGateways(Connectivity):
    """29.7: the driver's proxy remembers what each endpoint was told, and tells changes only. It knows endpoints that
    joined since dockerd started; asked of others it fails without a call."""

    def __init__(self, plugin: Plugin, is_ours: Callable[[Endpoint], bool]) -> None:
        super().__init__(plugin, is_ours)
        self._told: dict[str, tuple[bool, bool]] = {}
        self._options: dict[str, dict[str, Any]] = {}

    def forget(self) -> None:
        self._told, self._options = {}, {}

    def current(self, sandbox: Sandbox) -> Pair:
        return pair(sandbox)

    def joined(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        self._told[endpoint.id], self._options[endpoint.id] = (False, False), options
        after = pair(sandbox)
        if endpoint in after:
            for former in before:
                if former is not None:
                    self._tell(former, after)
        self._tell(endpoint, after)

    def leaves(self, endpoint: Endpoint, before: Pair) -> None:
        with contextlib.suppress(DockerError):
            self._tell(endpoint, (None, None))

    def left(self, endpoint: Endpoint) -> None:
        self._told.pop(endpoint.id, None)

    def passed_on(self, sandbox: Sandbox, endpoint: Endpoint, before: Pair, options: dict[str, Any]) -> None:
        after = pair(sandbox)
        for successor in dict.fromkeys(e.id for e in after if e is not None):
            with contextlib.suppress(DockerError):
                self._tell(next(e for e in after if e is not None and e.id == successor), after)

    def _tell(self, endpoint: Endpoint, gateways: Pair) -> None:
        if not self._is_ours(endpoint):
            return
        if endpoint.id not in self._told:
            raise DockerError(f"remote network driver: endpoint {endpoint.id} not found")
        role = endpoint is gateways[0], endpoint is gateways[1]
        if self._told[endpoint.id] == role:
            return
        self._told[endpoint.id] = role
        if not any(role):
            self._revoke(endpoint)
            return
        options = self._options[endpoint.id]
        ipv6_elsewhere = gateways[1] is not None and not role[1]
        self._program(endpoint, _with_proxy(options, True) if ipv6_elsewhere else options)


def _split(gateways: Pair) -> bool:
    return gateways[0] is not None and gateways[1] is not None and gateways[0] is not gateways[1]


def _with_proxy(options: dict[str, Any], elsewhere: bool) -> dict[str, Any]:
    return dict(sorted({**options, NO_PROXY: elsewhere}.items()))


CONNECTIVITY: dict[Gateways, type[Connectivity]] = {
    Gateways.IPV4_ONLY: OneGateway,
    Gateways.PER_FAMILY: GatewayPerFamily,
    Gateways.REMEMBERED: RememberedGateways,
}
