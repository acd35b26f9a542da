"""A cluster of one host that keeps everything in memory, for tests of the control API."""

from __future__ import annotations

from collections.abc import Callable

from cnm.cluster import tokens
from cnm.cluster.identity import check_name
from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound
from cnm.wire.cluster import (
    ClusterInit,
    ClusterInitialised,
    ClusterJoin,
    ClusterNode,
    ClusterStatus,
    KnownToken,
    SnapshotSaved,
    Token,
)

STEPS = ("asking 192.0.2.1...", "certificate received")


class MemoryCluster:
    """Satisfies `cnm.api.backend.Cluster`; `refusal` is what a join fails with, after its steps where `late`."""

    def __init__(self) -> None:
        self.name = ""
        self.others: set[str] = set()
        self.refusal: Exception | None = None
        self.late = False
        self.made = ["ab" * 32]
        """Ids of tokens."""

    def status(self) -> ClusterStatus:
        names = sorted({self.name, *self.others}) if self.name else []
        return ClusterStatus(
            state="ready" if self.name else "out",
            stale=False,
            cluster_id="ab" * 32 if self.name else "",
            created="",
            name=self.name,
            role="member" if self.name else "",
            advertise="",
            vxlan_port=4789,
            certificate_expires="",
            certificate_since="",
            authority_expires="",
            members=[],
            nodes=[_node(name) for name in names],
            warnings=[],
        )

    def init(self, asked: ClusterInit) -> ClusterInitialised:
        if self.name:
            raise Conflict(f"this host is in a cluster already, as {self.name}")
        self.name = check_name(asked.name or "h1")
        return ClusterInitialised(
            cluster_id="ab" * 32, name=self.name, advertise="192.0.2.1", join=self.token(3600)
        )

    def join(self, asked: ClusterJoin, progress: Callable[[str], object]) -> None:
        if self.refusal and not self.late:
            raise self.refusal
        for step in STEPS:
            progress(step)
        if self.refusal:
            raise self.refusal
        self.name = asked.name or "h2"

    def leave(self, *, force: bool = False) -> None:
        self._check_in()
        self.name = ""

    def remove(self, name: str, *, force: bool = False) -> None:
        self._check_in()
        if name not in self.others:
            raise NotFound(f"no node {name} in the cluster")
        if not force:
            raise Forbidden(f"node {name} is alive")
        self.others.remove(name)

    def tokens(self) -> list[KnownToken]:
        return [
            KnownToken(id=each, expires="2026-01-02T03:04:05Z", made_by=self.name, used_by="")
            for each in self.made
        ]

    def remove_token(self, begin: str) -> None:
        found = [each for each in self.made if each.startswith(begin)]
        if not found:
            raise NotFound(f"no join token {begin}")
        self.made.remove(found[0])

    def token(self, seconds: int) -> Token:
        self._check_in()
        tokens.check_seconds(seconds)
        return Token(token=f"CNM1-token-{seconds}", host="192.0.2.1", expires="2026-01-02T03:04:05Z")

    def rotate(self, *, authority: bool = False) -> None:
        self._check_in()

    def snapshot(self, path: str) -> SnapshotSaved:
        self._check_in()
        if not path.startswith("/"):
            raise InvalidParameter(f"{path!r} is not an absolute path")
        return SnapshotSaved(path=path, size=4096)

    def restore(self, path: str, *, force: bool = False) -> None:
        self._check_in()

    def recover(self, *, force: bool = False) -> None:
        self._check_in()
        if not force:
            raise Forbidden("repeat it with --force")

    def _check_in(self) -> None:
        if not self.name:
            raise Conflict("this host is in no cluster")


def _node(name: str) -> ClusterNode:
    return ClusterNode(
        name=name,
        role="member",
        state="down",
        address="192.0.2.1",
        mtu=0,
        version="",
        since="",
        certificate_expires="",
        docker="",
        transport="",
        keys_since="",
        tunnel="",
    )
