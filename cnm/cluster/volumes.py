"""Volumes that all hosts reach, and whose containers have them.

What was asked for is the same everywhere, and none goes while a container of any host has it.

Whoever takes a volume writes its record anew with its own users, in one transaction; whoever removes it looks at all
users and then marks the record, if nobody has written it meanwhile. So one of the two always sees the other.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from cnm.cluster import keys, records
from cnm.cluster.etcd.contract import Ambiguous, Delete, Etcd, KeyValue, Operation, Put, unchanged
from cnm.cluster.records import SharedVolume, VolumeUsers
from cnm.errors import Conflict, Unavailable

log = logging.getLogger("cnm.cluster")

_TRIES = 16
Users = Mapping[str, tuple[str, ...]]
"""Ids of containers by node."""


class Known(NamedTuple):
    volume: SharedVolume
    users: Users


class SharedVolumes:
    """Thread-safe. Every method raises Forbidden in no cluster, EtcdError where it is away."""

    def __init__(self, etcd: Callable[[], Etcd], node: Callable[[], str]) -> None:
        """`node` is this host's name."""
        self._etcd = etcd
        self._node = node

    def all(self) -> list[Known]:
        """By driver and name. Users of volumes that have no record are left out."""
        etcd = self._etcd()
        users: dict[str, dict[str, tuple[str, ...]]] = defaultdict(dict)
        for item in etcd.list(keys.VOLUME_USERS).items:
            node, driver, name = keys.volume_used(item.key)
            users[keys.volume(driver, name)][node] = records.decode(item.value, VolumeUsers).containers
        return [
            Known(records.decode(item.value, SharedVolume), users.get(item.key, {}))
            for item in etcd.list(keys.VOLUMES).items
        ]

    def take(self, volume: SharedVolume, containers: Iterable[str], *, new: bool = False) -> SharedVolume:
        """These containers of this host have it, none any more where there are none; the record as the cluster has it,
        which is `volume` where it had none. `new`: it was just made, and is known even where nobody has it.

        Raises Conflict while another host removes it.
        """
        etcd, node, users = self._etcd(), self._node(), tuple(containers)
        key, own = (
            keys.volume(volume.driver, volume.name),
            keys.volume_users(node, volume.driver, volume.name),
        )
        change: Operation = Put(own, records.encode(VolumeUsers(containers=users))) if users else Delete(own)
        for _ in range(_TRIES):
            found = etcd.get(key)
            known = self._known(found, volume)
            if users and known.removing not in ("", node):
                raise Conflict(f"volume {volume.name} is being removed by host {known.removing}")
            value = found.value if found else records.encode(known)
            if known.removing == node and (users or new):  # who lets go says nothing of a removal under way
                value = records.encode(msgspec.structs.replace(known, removing=""))
            is_known = found is not None or users or new
            if _done(etcd, key, found, [*([Put(key, value)] if is_known else []), change]):
                return known
        raise _contended(volume.name)

    def _known(self, found: KeyValue | None, volume: SharedVolume) -> SharedVolume:
        if found is None:
            return msgspec.structs.replace(volume, node=self._node(), removing="")
        return records.decode(found.value, SharedVolume)

    def begin_removal(self, driver: str, name: str) -> None:
        """Nobody takes it from now on. Raises Conflict naming the hosts whose containers have it."""
        etcd, node, key = self._etcd(), self._node(), keys.volume(driver, name)
        for _ in range(_TRIES):
            found = etcd.get(key)
            if users := self._users_elsewhere(etcd, driver, name):
                raise Conflict(f"volume is in use on {users}")
            if found is None:
                volume = SharedVolume(driver=driver, name=name, node=node, removing=node)
            else:
                volume = msgspec.structs.replace(records.decode(found.value, SharedVolume), removing=node)
            if _done(etcd, key, found, [Put(key, records.encode(volume))]):
                return
        raise _contended(name)

    def _users_elsewhere(self, etcd: Etcd, driver: str, name: str) -> str:
        found = []
        for item in etcd.list(keys.VOLUME_USERS).items:
            node, *volume = keys.volume_used(item.key)
            if volume == [driver, name] and node != self._node():
                users = records.decode(item.value, VolumeUsers).containers
                found.append(f"host {node} - [{', '.join(users)}]")
        return ", ".join(found)

    def end_removal(self, driver: str, name: str, *, removed: bool, created: int = 0) -> None:
        """`removed`: it is gone at its driver; else it is as before.

        One that was removed by force, and so without a beginning, is known by when it was made (`created`).
        """
        etcd, node, key = self._etcd(), self._node(), keys.volume(driver, name)
        for _ in range(_TRIES):
            found = etcd.get(key)
            if found is None:
                return
            volume = records.decode(found.value, SharedVolume)
            is_forced = removed and not volume.removing and volume.created == created
            if volume.removing != node and not is_forced:
                return
            back = records.encode(msgspec.structs.replace(volume, removing=""))
            gone: list[Operation] = [Delete(key), Delete(keys.volume_users(node, driver, name))]
            if _done(etcd, key, found, gone if removed else [Put(key, back)]):
                return
        raise _contended(name)


def _done(etcd: Etcd, key: str, found: KeyValue | None, operations: list[Operation]) -> bool:
    """One whose answer was lost may be made again."""
    try:
        return etcd.transact([unchanged(key, found.mod_revision if found else 0)], operations).succeeded
    except Ambiguous:
        return False


def _contended(name: str) -> Unavailable:
    return Unavailable(f"volume {name} is changed by other hosts all the time: try again")
