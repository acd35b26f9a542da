"""What the hosts of a cluster know together of volumes that all of them reach: by cnmd, which keeps it in etcd.

Local work goes on while cnmd or the cluster is away: what could not be told is told later. Only a removal is refused,
since nobody can say whether another host uses the volume.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol

import msgspec

from cnm.errors import CnmError, Conflict, Forbidden, NotFound, Unavailable
from cnm.launcher.cnmd import Cnmd
from cnm.launcher.volumes.drivers import Scope
from cnm.launcher.volumes.telling import Telling
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")

_PATH = "/cnm/v1/volumes"


class Shared(NamedTuple):
    """What the cluster knows of volumes; nothing in no cluster, or where it is away."""

    volumes: Mapping[tuple[str, str], Volume]
    """By driver and name."""
    users: Mapping[tuple[str, str], Mapping[str, Sequence[str]]]
    """Ids of containers by host, of other hosts."""
    is_known: bool = False
    """Whether this is all that there is."""
    warning: str = ""
    """Why it is not known, where it is not."""


NOTHING = Shared({}, {})


Users = Callable[[Volume], Sequence[str]]
"""Ids of this host's containers that have a volume, at the moment at which it is called."""


class OtherHosts(Protocol):
    """Thread-safe."""

    def known(self) -> Shared:
        """Never fails."""
        ...

    def described(self, volume: Volume) -> Volume:
        """With what was asked for on the host that made it. Never fails."""
        ...

    def find(self, name: str) -> Volume | None:
        """One that the cluster knows. Never fails."""
        ...

    def tell(self, volume: Volume, users: Users, *, new: bool = False) -> None:
        """Which containers of this host have it. Raises Conflict where another host removes it; anything else is told
        later."""
        ...

    def begin_removal(self, volume: Volume, *, force: bool) -> None:
        """Raises Conflict where another host has it, Unavailable where that cannot be known, unless `force`."""
        ...

    def end_removal(self, volume: Volume, *, removed: bool) -> None: ...

    def agree(self, volumes: Sequence[Volume], users: Users) -> None:
        """All volumes of this host that others reach, with the containers that have them here. Never fails."""
        ...

    def tell_again(self) -> None:
        """What could not be told. Never fails."""
        ...


class NoOtherHosts:
    """For a launcher without cnmd."""

    def known(self) -> Shared:
        return NOTHING

    def described(self, volume: Volume) -> Volume:
        return volume

    def find(self, name: str) -> Volume | None:
        return None

    def tell(self, volume: Volume, users: Users, *, new: bool = False) -> None:
        return

    def begin_removal(self, volume: Volume, *, force: bool) -> None:
        return

    def end_removal(self, volume: Volume, *, removed: bool) -> None:
        return

    def agree(self, volumes: Sequence[Volume], users: Users) -> None:
        return

    def tell_again(self) -> None:
        return


class ClusterHosts:
    """By this host's cnmd."""

    def __init__(self, cnmd: Cnmd) -> None:
        self._cnmd = cnmd
        self._telling = Telling()
        self._made: set[tuple[str, str]] = set()
        """By driver and name: new ones that the cluster has not heard of."""

    def known(self) -> Shared:
        try:
            told = self._cnmd.ask("GET", _PATH)
        except Forbidden:  # in no cluster
            return NOTHING
        except CnmError as error:
            return NOTHING._replace(
                warning=f"what other hosts know of volumes, and whether they use them, is not known: {error}"
            )
        volumes = {_key(each): _volume(each) for each in told["Volumes"]}
        users = {
            _key(each): {
                node: found for node, found in each["Users"].items() if found and node != told["Node"]
            }
            for each in told["Volumes"]
        }
        return Shared(volumes, users, is_known=True)

    def find(self, name: str) -> Volume | None:
        return next((volume for (_, named), volume in self.known().volumes.items() if named == name), None)

    def described(self, volume: Volume) -> Volume:
        return as_known(volume, self.known()) if volume.scope is Scope.GLOBAL else volume

    def tell(self, volume: Volume, users: Users, *, new: bool = False) -> None:
        if new:
            self._made.add((volume.driver, volume.name))
        self._telling.tell(volume, partial(self._put, volume, users))

    def _put(self, volume: Volume, users: Users) -> None:
        key = volume.driver, volume.name
        body = {
            "Driver": volume.driver,
            "Name": volume.name,
            "Created": volume.created,
            "Options": dict(volume.options) if volume.options is not None else None,
            "Labels": dict(volume.labels) if volume.labels is not None else None,
            "Containers": list(users(volume)),
            "New": key in self._made,
        }
        with suppress(Forbidden, NotFound):  # in no cluster, or a cnmd of an older version
            self._cnmd.ask("PUT", _PATH, body)
        self._made.discard(key)

    def begin_removal(self, volume: Volume, *, force: bool) -> None:
        try:
            self._telling.catch_up(volume)
            self._remove(volume, "begin")
        except Forbidden:  # in no cluster
            return
        except Conflict as error:
            raise Conflict(f"remove {volume.name}: {error}") from None
        except CnmError as error:
            if not force:
                raise Unavailable(
                    f"remove {volume.name}: whether another host uses it is not known: {error}"
                ) from None
            log.warning("volume %s is removed, whoever uses it: %s", volume.name, error)

    def end_removal(self, volume: Volume, *, removed: bool) -> None:
        self._made.discard((volume.driver, volume.name))
        self._telling.tell(volume, partial(self._end_removal, volume, "removed" if removed else "kept"))

    def _end_removal(self, volume: Volume, step: str) -> None:
        with suppress(Forbidden, NotFound):
            self._remove(volume, step)

    def _remove(self, volume: Volume, step: str) -> None:
        body = {
            "Driver": volume.driver,
            "Name": volume.name,
            "Step": step,
            "Created": volume.created,
        }
        self._cnmd.ask("POST", f"{_PATH}/removal", body)

    def agree(self, volumes: Sequence[Volume], users: Users) -> None:
        try:
            told = self._cnmd.ask("GET", _PATH)
        except CnmError as error:
            log.debug("%s", error)
            return
        known = {_key(each): each["Users"].get(told["Node"], []) for each in told["Volumes"]}
        here = {(volume.driver, volume.name): volume for volume in volumes}
        here = {**{_key(each): _volume(each) for each in told["Volumes"]}, **here}
        for key, volume in here.items():
            if known.get(key, []) != users(volume):
                try:
                    self.tell(volume, users)
                except Conflict as error:
                    log.error("%s", error)

    def tell_again(self) -> None:
        self._telling.tell_again()


def as_known(volume: Volume, shared: Shared) -> Volume:
    """With creation time, labels and options as the cluster has them."""
    found = shared.volumes.get((volume.driver, volume.name))
    if found is None:
        return volume
    return msgspec.structs.replace(
        volume,
        created=found.created or volume.created,
        labels=found.labels,
        options=found.options,
    )


def _key(told: dict[str, Any]) -> tuple[str, str]:
    return told["Driver"], told["Name"]


def _volume(told: dict[str, Any]) -> Volume:
    return Volume(
        name=told["Name"],
        driver=told["Driver"],
        created=told["Created"],
        labels=told["Labels"],
        options=told["Options"],
        scope=Scope.GLOBAL,
    )
