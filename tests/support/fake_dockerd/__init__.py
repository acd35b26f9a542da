"""A fake dockerd, verified against recorded traffic of the real one: what it says to a network and IPAM plugin."""

from tests.support.fake_dockerd.daemon import FakeDockerd
from tests.support.fake_dockerd.errors import (
    DockerError,
    PluginError,
    ProtocolViolation,
    Rule,
    TransportError,
)
from tests.support.fake_dockerd.model import Attachment, Container, Endpoint, Network, Port, Sandbox, Subnet
from tests.support.fake_dockerd.mover import KeyFiles, Mover, NamespaceMover
from tests.support.fake_dockerd.plugin import Call
from tests.support.fake_dockerd.versions import VERSIONS, Version

__all__ = [
    "VERSIONS",
    "Attachment",
    "Call",
    "Container",
    "DockerError",
    "Endpoint",
    "FakeDockerd",
    "KeyFiles",
    "Mover",
    "NamespaceMover",
    "Network",
    "PluginError",
    "Port",
    "ProtocolViolation",
    "Rule",
    "Sandbox",
    "Subnet",
    "TransportError",
    "Version",
]
