"""Clients of the cluster's etcd with the certificates of this node's home: as the node itself, and as root."""

from __future__ import annotations

import time
from collections.abc import Sequence

from cnm.cluster import certificates, keys
from cnm.cluster.certificates import Authority
from cnm.cluster.etcd.admin import Admin
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Denied, EtcdError
from cnm.cluster.home import Home
from cnm.cluster.member import Member
from cnm.cluster.registry import Registry
from cnm.errors import Unavailable

_LOOK_SECONDS = 0.05


def node_client(home: Home, endpoints: Sequence[str]) -> Client:
    """As what the node's role allows. Nothing is connected yet."""
    return Client(endpoints, *identity(home))


def identity(home: Home) -> tuple[bytes, bytes, bytes]:
    """(authority, certificate, key) of the node, PEM."""
    key, certificate = certificates.split(home.read(home.node))
    return home.read(home.authority).encode(), certificate.encode(), key.encode()


class Root:
    """What a member may do as etcd's root user."""

    def __init__(self, home: Home, endpoints: Sequence[str]) -> None:
        key, certificate = certificates.split(home.read(home.root_user))
        authority = Authority(home.read(home.authority), home.read(home.authority_key))
        self.etcd = Client(endpoints, authority.certificate.encode(), certificate.encode(), key.encode())
        self.admin = Admin(self.etcd)
        self.registry = Registry(self.etcd, self.admin, authority)

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
