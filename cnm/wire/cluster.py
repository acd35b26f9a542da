"""Records of /cnm/v1/cluster: what a host says to its own cnmd, and what it says to a member's when it joins.

Requests refuse unknown keys, but for those between hosts: their versions may differ.
"""

from __future__ import annotations

import msgspec

from cnm.wire.keys import docker_key


class _Record(msgspec.Struct, kw_only=True, rename=docker_key):
    """A record with keys in Docker's style."""


class _Request(_Record, kw_only=True, forbid_unknown_fields=True):
    """A record that a client sends."""


# The control API


class ExistingEtcd(_Request, kw_only=True):
    """An etcd that somebody else runs: URLs of its members, and paths of PEM files on this host.

    `ca_key` is the key of an authority (its certificate in `ca`) that etcd takes clients' certificates of.
    """

    endpoints: list[str]
    ca: str = ""
    cert: str = ""
    key: str = ""
    ca_key: str = ""


class ClusterInit(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/init; without `advertise` the uplink's address, without `name` the host's."""

    advertise: str = ""
    name: str = ""
    vxlan_port: int = 4789
    client_port: int = 0
    peer_port: int = 0
    enrol_port: int = 0
    etcd: ExistingEtcd | None = None


class ClusterJoin(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/join; `host` is a member, with the port of its listener where it is another."""

    token: str
    host: str
    name: str = ""
    advertise: str = ""
    client: bool = False
    client_port: int = 0
    peer_port: int = 0
    enrol_port: int = 0


class ClusterLeave(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/leave; `force`: also where others need this member, or nobody answers."""

    force: bool = False


class TokenCreate(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/token; `ttl` in seconds."""

    ttl: int = 3600


class Token(_Record, kw_only=True):
    """A join token, and where it is good: HOST or HOST:PORT."""

    token: str
    host: str
    expires: str


class KnownToken(_Record, kw_only=True):
    """A join token that was made; its secret is not known any more. `used_by` is who joined with it, or ""."""

    id: str = msgspec.field(name="Id")
    """64 hex digits."""
    expires: str
    made_by: str
    used_by: str


class ClusterInitialised(_Record, kw_only=True):
    """Answer of POST /cnm/v1/cluster/init."""

    cluster_id: str = msgspec.field(name="ClusterId")
    name: str
    advertise: str
    join: Token
    warnings: list[str] = []


class SnapshotFile(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/snapshot; an absolute path on the daemon's host."""

    path: str


class SnapshotRestore(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/restore; `force`: yes, what the cluster knows now is to be forgotten."""

    path: str
    force: bool = False


class SnapshotSaved(_Record, kw_only=True):
    """Answer of POST /cnm/v1/cluster/snapshot; bytes."""

    path: str
    size: int


class ClusterRecover(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/recover; `force`: yes, the other members are lost for good."""

    force: bool = False


class ClusterRotate(_Request, kw_only=True):
    """Body of POST /cnm/v1/cluster/rotate; `authority`: the cluster's own certificate instead of this node's; `keys`:
    all nodes' keys of encrypted networks."""

    authority: bool = False
    keys: bool = False


class Progress(_Record, kw_only=True):
    """A line of the answer to POST /cnm/v1/cluster/join: what is done now, or why it failed."""

    progress: str = ""
    error: str = ""


class ClusterMember(_Record, kw_only=True):
    """A member of etcd; `state` leader, follower, learner or unreachable; `lag` changes that it has still to take."""

    name: str
    endpoint: str
    state: str
    lag: int
    milliseconds: float
    version: str
    db_size: int
    error: str


class ClusterNode(_Record, kw_only=True):
    """A node; `state` ready or down; `address` its end of tunnels (VTEP); times RFC 3339, "" where not known.

    `transport` is its address inside encrypted tunnels, "" where it cannot encrypt; `keys_since` the age of its key, ""
    while it takes part in no encrypted network; `tunnel` how this host's tunnel to it is: up, silent, or "" for none.
    """

    name: str
    role: str
    state: str
    address: str
    mtu: int
    version: str
    since: str
    certificate_expires: str
    docker: str
    transport: str
    keys_since: str
    tunnel: str
    fingerprint: str = ""
    """SHA-256 of its newest certificate (DER), in hex digits."""


class ClusterStatus(_Record, kw_only=True):
    """Answer of GET /cnm/v1/cluster; `state` out, starting, ready, degraded, away or removed; `etcd` own, apart,
    shared or plain: whose it is, and how it tells nodes apart.

    With a `stale` answer the nodes are as one member knew them last: there is no majority.
    """

    state: str
    stale: bool
    cluster_id: str = msgspec.field(name="ClusterId")
    created: str
    name: str
    role: str
    advertise: str
    etcd: str = "own"
    vxlan_port: int
    certificate_expires: str
    certificate_since: str
    authority_expires: str
    members: list[ClusterMember]
    nodes: list[ClusterNode]
    warnings: list[str]


# Between hosts


class Enrol(_Record, kw_only=True):
    """Body of POST /cnm/v1/enrol at a member; `addresses` are the host's, the advertised one first."""

    secret: str
    name: str
    addresses: list[str]
    csr: str
    member: bool
    version: str


class Enrolled(_Record, kw_only=True):
    """Its answer: certificates and keys in PEM; `authority_key` for members only.

    `endpoints` are the members of etcd, `enrols_at` their listeners, HOST:PORT. `etcd` says whose that is ("own",
    "apart", "shared", "plain"); of one that is not the cluster's own, its authority, what all show to it where it does
    not keep nodes apart, and, for members, the name of the user who may do everything.
    """

    certificate: str
    authority: str
    cluster_id: str = msgspec.field(name="ClusterId")
    endpoints: list[str]
    enrols_at: list[str]
    authority_key: str = ""
    etcd: str = "own"
    etcd_authority: str = ""
    etcd_credential: str = ""
    root_user: str = ""


class Authority(_Record, kw_only=True):
    """Answer of GET /cnm/v1/authority: the certificate that a join token has the digest of.

    `adopted_etcd`: members of this cluster run no etcd of their own.
    """

    certificate: str
    adopted_etcd: bool = False


class Renew(_Record, kw_only=True):
    """Body of POST /cnm/v1/renew, asked with the certificate that is to be replaced."""

    csr: str


class Renewed(_Record, kw_only=True):
    certificate: str
