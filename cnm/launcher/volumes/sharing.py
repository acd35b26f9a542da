"""This host's part in volumes that all hosts of a cluster reach: it tells who has them here, and looks who has them
elsewhere."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence

from cnm.errors import Conflict
from cnm.launcher.volumes.drivers import Scope
from cnm.launcher.volumes.listing import Listed
from cnm.launcher.volumes.other_hosts import OtherHosts, Shared, as_known
from cnm.launcher.volumes.registry import Registry
from cnm.launcher.volumes.use import Use
from cnm.launcher.volumes.volume import Volume

log = logging.getLogger("cnm.launcher")


class Sharing:
    """Thread-safe. Volumes that are this host's alone are none of its business: for them nothing is done."""

    def __init__(self, others: OtherHosts, registry: Registry, use: Use) -> None:
        self._others = others
        self._registry = registry
        self._use = use

    # Told

    def made(self, volume: Volume) -> None:
        if volume.scope is Scope.GLOBAL:
            self._others.tell(volume, self._users, new=True)

    def take(self, volume: Volume, container: str) -> None:
        """The container has it. Raises Conflict where another host is removing it: then it does not."""
        self._use.add(volume.name, container)
        try:
            self._tell(volume)
        except BaseException:
            self._use.drop([volume.name], container)
            raise

    def let_go(self, volume: Volume) -> None:
        """Somebody has it no more. Never fails."""
        try:
            self._tell(volume)
        except Conflict as error:
            log.warning("%s", error)

    def _tell(self, volume: Volume) -> None:
        """Who has it here."""
        if volume.scope is Scope.GLOBAL:
            self._others.tell(volume, self._users)

    def _users(self, volume: Volume) -> list[str]:
        """Nobody where the name is that of a volume of another driver here."""
        known = self._registry.get(volume.name)
        is_another = known is not None and known.driver != volume.driver
        return [] if is_another and not self._registry.fault(volume.name) else self._use.of(volume.name)

    def agree(self, volumes: Iterable[Volume]) -> None:
        """The same of all of this host's, whatever could not be told. Never fails."""
        self._others.agree([volume for volume in volumes if volume.scope is Scope.GLOBAL], self._users)

    @contextlib.contextmanager
    def removing(self, volume: Volume, *, force: bool) -> Iterator[None]:
        """Raises Conflict where another host has it, Unavailable where that is not known, unless `force`."""
        if volume.scope is not Scope.GLOBAL:
            yield
            return
        self._others.begin_removal(volume, force=force)
        removed = False
        try:
            yield
            removed = True
        finally:
            self._others.end_removal(volume, removed=removed)

    # Looked at

    def users(self, volume: Volume) -> dict[str, Sequence[str]]:
        """Ids of containers that have it, by other hosts of the cluster."""
        if volume.scope is not Scope.GLOBAL:
            return {}
        return dict(self._others.known().users.get((volume.driver, volume.name), {}))

    def listed(self, here: Listed) -> Listed:
        """What other hosts know counts, and what one of them has removed is gone."""
        shared = self._others.known()
        found = {volume.name: volume for _, volume in sorted(shared.volumes.items())}
        for volume in here.volumes:
            if not shared.is_known or not self._is_ghost(volume, here, shared):
                found[volume.name] = as_known(volume, shared)
        has_global = any(volume.scope is Scope.GLOBAL for volume in found.values())
        more = [shared.warning] if shared.warning and has_global else []
        return here._replace(
            volumes=[found[name] for name in sorted(found)], warnings=[*here.warnings, *more]
        )

    def _is_ghost(self, volume: Volume, here: Listed, shared: Shared) -> bool:
        """Whether nobody else knows it any more: neither its driver, which answers, nor the cluster."""
        if volume.scope is not Scope.GLOBAL or here.warnings or self._use.of(volume.name):
            return False
        return volume.name not in here.paths and (volume.driver, volume.name) not in shared.volumes
