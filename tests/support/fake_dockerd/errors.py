"""What can go wrong between dockerd and a plugin.

DockerError                 what a user of docker would read
 ├─ PluginError             the plugin answered an error; dockerd copes with it
 └─ TransportError          no answer came
ProtocolViolation           an answer that the protocol forbids: a fault of the plugin, never of the user
"""

from __future__ import annotations

import enum


class DockerError(Exception):
    """A docker command failed; the text says why."""


class PluginError(DockerError):
    """The plugin answered an error to `path`; `status` is that of HTTP."""

    def __init__(self, path: str, message: str, status: int) -> None:
        super().__init__(f"{path}: {message}")
        self.path, self.message, self.status = path, message, status

    @property
    def not_implemented(self) -> bool:
        """dockerd takes 404 for a method that the plugin does not have."""
        return self.status == 404


class TransportError(DockerError):
    """The connection broke, or nobody listens."""


class Rule(enum.Enum):
    """What every answer must keep to; the values are the sentences that a violation quotes."""

    BODY = "an answer is one JSON object or null"
    TYPES = "a key has the type that the protocol gives it"
    ERROR_KEY = "an error is said in Err by a network driver, in Error by an IPAM driver"
    ERROR_TEXT = "an error answered with another status than 200 has a text"
    IMPLEMENTS = "Plugin.Activate names what the plugin is asked for"
    SCOPE = "a scope is local or global"
    POOL_ID = "a pool has an id"
    POOL_CIDR = "a pool is a subnet in CIDR notation without host bits"
    POOL_FAMILY = "a pool is of the family that was asked for"
    POOL_REQUESTED = "a pool is the one that was asked for"
    POOL_OVERLAP = "a pool that the plugin chose overlaps no other pool of its own"
    POOL_GATEWAY = "a gateway in a pool's data is an address in CIDR notation"
    ADDRESS_CIDR = "an address is answered in CIDR notation"
    ADDRESS_POOL = "an address lies in its pool and has its prefix length"
    ADDRESS_REQUESTED = "an address is the one that was asked for"
    ADDRESS_FREE = "an address is given out once"
    INTERFACE_ADDRESS = "an interface's addresses are in CIDR notation"
    INTERFACE_MAC = "an interface's MAC address has six octets"
    MODIFIED_ADDRESS = "driver modified interface address"
    MODIFIED_MAC = "driver modified interface MAC address"
    LINK_EXISTS = "SrcName is a link in the host's namespace"
    LINK_PREFIX = "a link has a DstPrefix, of which its name in the sandbox is made"
    GATEWAY = "a gateway is an address of its family, without a prefix length"
    GATEWAY_REACHABLE = "a gateway lies in the endpoint's subnet or behind a route on the link"
    ROUTE_DESTINATION = "a static route has a destination in CIDR notation"
    ROUTE_TYPE = "a route type is 0 (by a next hop) or 1 (on the link)"
    ROUTE_NEXT_HOP = "a route of type 0 has a next hop that is an address"
    ROUTE_DEFAULT = "a default route by a next hop comes with a gateway"
    ROUTE_REPEATED = "no two endpoints of a sandbox have the same route"


class ProtocolViolation(AssertionError):
    """The answer to `path` breaks `rule`; `detail` says what was found."""

    def __init__(self, path: str, rule: Rule, detail: str) -> None:
        super().__init__(f"{path}: {rule.value}: {detail}")
        self.path, self.rule, self.detail = path, rule, detail
