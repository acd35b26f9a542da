"""Names of nodes, and what etcd calls them: a node has one role, and for each certificate a user that has the role."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re

from cnm.errors import InvalidParameter

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?\Z")
_USER = re.compile(r"(?P<node>.+)\.[0-9a-f]{8}\Z")
_ROLE = "node:"
"""So that no node's name makes it etcd's role root."""


def check_name(name: str) -> str:
    """The name in lower case. Raises InvalidParameter."""
    lower = name.lower()
    if not _NAME.match(lower):
        raise InvalidParameter(
            f"invalid node name {name[:70]!r}: letters, digits, '.', '-' and '_' only, "
            "63 at most: set another with --name"
        )
    return lower


def role_of(node: str) -> str:
    return _ROLE + node


def new_user(node: str) -> str:
    """Of the node's next certificate."""
    return f"{node}.{os.urandom(4).hex()}"


def node_of(user: str) -> str:
    """ "" for a user that is no node's: an etcd that was adopted has others."""
    found = _USER.match(user)
    return found["node"] if found else ""


def is_role(role: str) -> bool:
    """Whether it looks like a node's."""
    return role.startswith(_ROLE)


def transport_pool(cluster_id: str) -> str:
    """The pool of WireGuard addresses, CIDR text: unique local addresses (RFC 4193) that no other network has."""
    chance = bytes.fromhex(cluster_id)[:5]
    return str(ipaddress.IPv6Network((b"\xfd" + chance + b"\0\0" + bytes(8), 64)))


def transport_address(pool: str, node: str) -> str:
    """A node's own in the pool, bare: derived from its name, so that none is given out twice."""
    network = ipaddress.IPv6Network(pool)
    interface = int.from_bytes(hashlib.sha256(node.encode()).digest()[:8], "big")
    return str(network[interface])
