"""Clients of the cluster's etcd with what is in this node's home: as the node itself, and as root.

An etcd that somebody else runs has an authority of its own, and its members are called as they are reached. Where it
does not keep nodes apart, the node is root, and all nodes are the same one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from cnm.cluster import certificates, keys
from cnm.cluster.certificates import SERVER_NAME, Authority
from cnm.cluster.etcd.admin import Admin
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Denied, EtcdError
from cnm.cluster.home import EtcdKind, Home, NodeRecord
from cnm.cluster.member import Member
from cnm.cluster.registry import Registry, Users
from cnm.cluster.user_keys import UserKeys
from cnm.errors import Unavailable

_LOOK_SECONDS = 0.05


def node_client(home: Home, record: NodeRecord) -> Client:
    """As what the node's role allows. Nothing is connected yet."""
    return Client(record.endpoints, *identity(home, record.etcd), server_name(record.etcd))


def identity(home: Home, kind: EtcdKind) -> tuple[bytes, bytes, bytes]:
    """(authority, certificate, key) of the node for etcd, PEM, as `Credentials` has them."""
    return _shown(home, kind, home.node)


def root_identity(home: Home, kind: EtcdKind) -> tuple[bytes, bytes, bytes]:
    return _shown(home, kind, home.root_user)


def server_name(kind: EtcdKind) -> str:
    return "" if kind.adopted else SERVER_NAME


def _shown(home: Home, kind: EtcdKind, credential: Path) -> tuple[bytes, bytes, bytes]:
    if kind is EtcdKind.PLAIN:
        return b"", b"", b""
    authority = home.read(home.etcd_authority if kind.adopted else home.authority).encode()
    if not kind.apart:
        credential = home.etcd_credential
        if not credential.exists():
            return authority, b"", b""
    key, certificate = certificates.split(home.read(credential))
    return authority, certificate.encode(), key.encode()


class Root:
    """What a member may do as etcd's root user."""

    def __init__(self, home: Home, endpoints: Sequence[str], kind: EtcdKind = EtcdKind.OWN) -> None:
        authority = Authority(home.read(home.authority), home.read(home.authority_key))
        self.etcd = Client(endpoints, *root_identity(home, kind), server_name(kind))
        self.admin = Admin(self.etcd)
        self.users: Users = self.admin if kind.apart else UserKeys(self.etcd)
        self.registry = Registry(self.etcd, self.users, authority)

    def wait_ready(self, member: Member, seconds: float) -> None:
        """Until etcd answers, of which `member` is the only one. Raises Unavailable with what it says."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.etcd.get(keys.CLUSTER)
            except Denied:
                return  # it answers, and knows nobody yet
            except EtcdError as error:
                if member.trouble:
                    raise Unavailable(f"etcd does not start: {member.trouble}") from None
                if time.monotonic() > deadline:
                    raise Unavailable(f"etcd does not serve after {seconds:.0f} s: {error}") from None
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def close(self) -> None:
        self.etcd.close()

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
