"""A lab whose last host runs an etcd that is somebody else's, with an authority of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnm.cluster import certificates
from cnm.cluster.etcd.client import Client
from tests.cluster.hosts import ClusterHost, ClusterLab, cluster_lab, drop_place, short_place
from tests.support.etcd import EtcdCluster


class ForeignLab:
    """`h[1]` to `h[3]` are hosts; `etcd` runs on a fourth."""

    def __init__(self, lab: ClusterLab, etcd: EtcdCluster) -> None:
        self.h = lab.h
        self.etcd = etcd
        self.ca = str(etcd.place / "ca.pem")
        self.ca_key = str(etcd.place / "ca-key.pem")
        Path(self.ca_key).write_bytes(etcd.authority.key_pem)

    @property
    def url(self) -> str:
        return self.etcd.members[0].client_url

    def tls(self, user: str = "root") -> list[str]:
        """Flags by which `init` shows this user's certificate."""
        if not (self.etcd.place / f"{user}.pem").exists():
            self.etcd.write(user, self.etcd.authority.client(user))
        place = self.etcd.place
        return [
            *("--etcd", self.url, "--cacert", self.ca),
            *("--cert", str(place / f"{user}.pem"), "--key", str(place / f"{user}-key.pem")),
        ]

    def all_keys(self) -> list[str]:
        return self.etcd.etcdctl("get", "--prefix", "", "--keys-only").split()

    def users_and_roles(self) -> list[str]:
        return sorted(f"{self.etcd.etcdctl('user', 'list')}{self.etcd.etcdctl('role', 'list')}".split())


@contextlib.contextmanager
def foreign_lab(**options: Any) -> Iterator[ForeignLab]:
    """`options` are EtcdCluster's."""
    place = short_place()
    try:
        with cluster_lab(place, 4) as lab:
            where = lab.h[4]
            etcd = EtcdCluster(
                place / "foreign", addresses=[where.address], popens=[where.net.popen], **options
            )
            try:
                etcd.start()
                yield ForeignLab(lab, etcd)
            finally:
                etcd.stop()
    finally:
        drop_place(place)


@contextlib.contextmanager
def as_node(lab: ForeignLab, host: ClusterHost) -> Iterator[Client]:
    """etcd as whoever has this host's files."""
    key, certificate = certificates.split((host.home / "node.pem").read_text())
    with host.net.enter():
        client = Client(
            lab.etcd.endpoints, lab.etcd.authority.pem, certificate.encode(), key.encode(), server_name=""
        )
        try:
            yield client
        finally:
            client.close()


def node_names(host: ClusterHost) -> list[str]:
    return [node["Name"] for node in host.status()["Nodes"]]


def common_name(host: ClusterHost, file: str = "node.pem") -> str:
    _, certificate = certificates.split((host.home / file).read_text())
    return certificates.user(certificate)
