"""What the cases of etcd's contract need beside a client: over a real etcd, and over the one in memory."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from cnm.cluster.etcd.admin import Admin
from cnm.cluster.etcd.client import Client
from cnm.cluster.etcd.contract import Etcd, Event, Following, Listener
from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.etcd.roles import Permission
from tests.support.etcd import EtcdCluster
from tests.support.etcd_certificates import Identity

SECONDS = 10.0
"""For what must happen soon."""


def eventually(condition: Callable[[], object], seconds: float = SECONDS) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


class Heard:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.answers: list[list[Event]] = []
        self.revisions: list[int] = []
        self.stood: list[Following] = []
        self.threads: set[int] = set()

    @property
    def listener(self) -> Listener:
        return Listener(self._changed, self._stands)

    @property
    def events(self) -> list[Event]:
        return [event for answer in self.answers for event in answer]

    @property
    def changes(self) -> list[tuple[str, bytes | None]]:
        return [(event.key, event.value) for event in self.events]

    def wait_for(self, count: int) -> None:
        """Until so many events were heard, and no more than these."""
        eventually(lambda: len(self.events) >= count)
        assert len(self.events) == count

    def wait_until(self, how: Following, seconds: float = SECONDS) -> None:
        eventually(lambda: self.stood and self.stood[-1] is how, seconds)

    def _changed(self, events: Sequence[Event], revision: int) -> None:
        self.threads.add(threading.get_ident())
        self.revisions.append(revision)
        self.answers.append(list(events))

    def _stands(self, how: Following) -> None:
        self.threads.add(threading.get_ident())
        self.stood.append(how)


class Stage(Protocol):
    """An etcd, as its root."""

    etcd: Etcd

    def client(self, *permissions: Permission) -> Etcd:
        """A further client, root's by default."""

    def compact(self, revision: int) -> None: ...
    def revoke(self, lease: int) -> None: ...
    def away(self) -> AbstractContextManager[None]:
        """A context in which nobody answers."""

    def close(self) -> None: ...


class MemoryStage:
    def __init__(self) -> None:
        self._store = MemoryStore()
        self._clients: list[MemoryEtcd] = []
        self.etcd = self.client()

    def client(self, *permissions: Permission) -> MemoryEtcd:
        made = MemoryEtcd(self._store, permissions or (Permission(""),))
        self._clients.append(made)
        return made

    def compact(self, revision: int) -> None:
        self._store.compact(revision)

    def revoke(self, lease: int) -> None:
        self._store.revoke(lease)

    @contextmanager
    def away(self) -> Iterator[None]:
        for client in self._clients:
            client.away = True
        yield
        for client in self._clients:
            client.away = False

    def close(self) -> None:
        for client in self._clients:
            client.close()


class RealStage:
    """Over a cluster of one member that runs already."""

    _users = itertools.count(1)

    def __init__(self, cluster: EtcdCluster) -> None:
        self._cluster = cluster
        self._clients: list[Client] = []
        self.etcd = self.client()

    def client(self, *permissions: Permission) -> Client:
        made = connect(self._cluster, self._user(permissions) if permissions else self._cluster.root)
        self._clients.append(made)
        return made

    def _user(self, permissions: Sequence[Permission]) -> Identity:
        name, admin = f"user{next(self._users)}", Admin(self.etcd)
        admin.add_user(name)
        admin.add_role(name)
        for permission in permissions:
            admin.grant(name, permission)
        admin.grant_role(name, name)
        return self._cluster.authority.client(name)

    def compact(self, revision: int) -> None:
        Admin(self.etcd).compact(revision)

    def revoke(self, lease: int) -> None:
        self._cluster.etcdctl("lease", "revoke", f"{lease:x}")

    @contextmanager
    def away(self) -> Iterator[None]:
        (member,) = self._cluster.members
        member.kill()
        yield
        member.start()

    def close(self) -> None:
        for client in self._clients:
            client.close()


def connect(cluster: EtcdCluster, identity: Identity | None = None, endpoints: Sequence[str] = ()) -> Client:
    """A client of a real etcd, as root by default."""
    who = identity or cluster.root
    return Client(endpoints or cluster.endpoints, cluster.authority.pem, who.cert, who.key)
