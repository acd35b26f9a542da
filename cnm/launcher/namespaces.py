"""Other containers' namespaces: whose a container joins, and whether it can."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound
from cnm.launcher import user_namespaces
from cnm.launcher.container import Container, Status
from cnm.launcher.modes import is_host, shared_with, user_mapping
from cnm.launcher.places import Places
from cnm.launcher.registry import Registry
from cnm.wire.containers import HostConfig

_HOSTS_SHM = "/dev/shm"


class Namespaces:
    """The words are Docker's (daemon/container_operations.go and container_operations_unix.go of 20.10)."""

    def __init__(self, registry: Registry, places: Places) -> None:
        self._registry = registry
        self._places = places

    def settled(self, host: HostConfig) -> HostConfig:
        """As it is kept: other containers by their ids, so that they may be renamed.

        Raises InvalidParameter for one that there is not: NotFound makes clients look for the image elsewhere.
        """
        modes = {kind: getattr(host, kind) for kind in ("network_mode", "pid_mode", "ipc_mode")}
        joined = {kind: other for kind, mode in modes.items() if (other := shared_with(mode))}
        try:
            found = {kind: f"container:{self._registry.find(other).id}" for kind, other in joined.items()}
        except NotFound as error:
            raise InvalidParameter(str(error)) from None
        return msgspec.structs.replace(host, **found)

    def paths(self, container: Container) -> Mapping[str, str]:
        """By kind, of those that are not new: "host" for the host's. Raises NotFound, Conflict, InvalidParameter."""
        host, found = container.host, {}
        for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
            if is_host(mode):
                found[kind] = "host"
        if other := self.pid(container):
            found["pid"] = f"/proc/{other.state.pid}/ns/pid"
        if other := self.ipc(container):
            found["ipc"] = f"/proc/{other.state.pid}/ns/ipc"
        if user_mapping(host.userns_mode) is not None:
            own = user_namespaces.find(self._places.namespaces(container.id))
            found["user"] = own.user if own else self.users_of_others(container)
        return found

    def network(self, container: Container) -> Container | None:
        """Whose network namespace it joins. Raises NotFound, Conflict."""
        other = self._other(container, container.host.network_mode, "network")
        if other is None:
            return None
        if not _is_up(other):
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        _check_restarting(other)
        return other

    def pid(self, container: Container) -> Container | None:
        """Raises NotFound, Conflict."""
        mode = container.host.pid_mode
        try:
            other = self._other(container, mode, "PID")
        except NotFound as error:
            raise NotFound(
                f"cannot join PID of a non running container: {shared_with(mode)}: {error}"
            ) from None
        if other is not None:
            _check_up(other)
        return other

    def ipc(self, container: Container) -> Container | None:
        """Raises NotFound, Conflict, InvalidParameter for one that does not let others share it."""
        mode = container.host.ipc_mode
        text = f"can't join IPC of container {shared_with(mode)}"
        try:
            other = self._other(container, mode, "IPC")
            if other is not None:
                _check_up(other)
        except (NotFound, Conflict) as error:
            raise type(error)(f"{text}: {error}") from None
        if other is not None and not self._shm_of(other):
            raise InvalidParameter(
                f"{text}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )
        return other

    def shared_memory(self, container: Container) -> str:
        """What it has at /dev/shm that is not its own: a path on the host; "" for nothing. Raises as `ipc`."""
        other = self.ipc(container)
        if other is not None:
            return self._shm_of(other)
        if not is_host(container.host.ipc_mode):
            return ""
        if not os.path.isdir(_HOSTS_SHM):
            raise CnmError("/dev/shm is not mounted, but must be for --ipc=host")
        return _HOSTS_SHM

    def _shm_of(self, container: Container) -> str:
        """It shares the host's, or its own."""
        if is_host(container.host.ipc_mode):
            return _HOSTS_SHM
        path = self._places.shm(container.id)
        return path if os.path.ismount(path) else ""

    def users_of_others(self, container: Container) -> str:
        """Path of the user namespace of those whose namespaces it joins, which must be its own too; "" for none.

        Whoever is root in one user namespace has no rights over another's. Raises Conflict.
        """
        mapping = user_mapping(container.host.userns_mode)
        found: dict[tuple[int, int], str] = {}
        for other in self._others(container):
            kept = user_namespaces.find(self._users_folder(other))
            if kept is None or user_mapping(other.host.userns_mode) != mapping:
                raise Conflict(
                    f"cannot join namespaces of container {other.name}: it is not in the same user namespace: "
                    "give both the same --userns"
                )
            status = os.stat(kept.user)
            found[status.st_dev, status.st_ino] = kept.user
        if len(found) > 1:
            raise Conflict("cannot join namespaces of containers that are in different user namespaces")
        return next(iter(found.values()), "")

    def _users_folder(self, container: Container) -> str:
        """One that has another's network has that one's users."""
        while other := shared_with(container.host.network_mode):
            container = self._registry.find(other)
        return self._places.namespaces(container.id)

    def _others(self, container: Container) -> Iterator[Container]:
        for other in (self.network(container), self.pid(container), self.ipc(container)):
            if other is not None:
                yield other

    def _other(self, container: Container, mode: str | None, kind: str) -> Container | None:
        """Raises NotFound, Conflict."""
        reference = shared_with(mode)
        if not reference:
            return None
        other = self._registry.find(reference)
        if other.id == container.id:
            raise Conflict(f"cannot join own {kind}")
        return other


def _is_up(container: Container) -> bool:
    """Running as Docker counts it."""
    return container.state.status.is_alive or container.state.status is Status.RESTARTING


def _check_up(container: Container) -> None:
    if not _is_up(container):
        raise Conflict(f"container {container.id} is not running")
    _check_restarting(container)


def _check_restarting(container: Container) -> None:
    if container.state.status is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
