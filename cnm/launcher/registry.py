"""The containers that there are: found by id, name or prefix, changed one at a time, waited for."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound
from cnm.launcher.container import Container, State
from cnm.launcher.records import Records

log = logging.getLogger("cnm.launcher")

_REMEMBERED = 256


class Registry:
    """Thread-safe. A container is changed under its lock, and what was asked for is on the disk before it is seen."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._changed = threading.Condition()
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._locks: dict[str, threading.RLock] = {}
        self._ends: dict[str, int] = {}
        """How often each has ended since the launcher's start."""
        self._ended_with: dict[str, int] = {}
        self._gone: dict[str, Container] = {}
        """The last ones that went, the oldest first: who waited for one may look only then."""

    def load(self) -> None:
        """What was kept."""
        with self._changed:
            for container in self._records.all():
                self._containers[container.id] = container
                self._names[container.name] = container.id

    def all(self) -> list[Container]:
        """The newest first, as Docker lists them."""
        with self._changed:
            return sorted(self._containers.values(), key=lambda each: each.created, reverse=True)

    def get(self, ident: str) -> Container:
        """Raises NotFound."""
        with self._changed:
            if ident not in self._containers:
                raise NotFound(f"No such container: {ident}")
            return self._containers[ident]

    def find(self, reference: str) -> Container:
        """Docker's order: full id, name, unique prefix of an id. Raises NotFound, InvalidParameter."""
        with self._changed:
            name = reference.removeprefix("/")
            ident = reference if reference in self._containers else self._names.get(name, "")
            if ident in self._containers:
                return self._containers[ident]
            found = [c for c in self._containers.values() if reference and c.id.startswith(reference)]
            if len(found) > 1:
                raise InvalidParameter(f"Multiple IDs found with provided prefix: {reference}")
            if not found:
                raise NotFound(f"No such container: {reference}")
            return found[0]

    @contextmanager
    def locked(self, reference: str) -> Iterator[Container]:
        """The container, which nobody else changes meanwhile. Raises as `find`."""
        ident = self.find(reference).id
        with self._changed:
            lock = self._locks.setdefault(ident, threading.RLock())
        with lock:
            yield self.get(ident)

    def reserve(self, container: Container) -> None:
        """Its name is taken from now on; nobody finds it before `put`. Raises Conflict where the name is another's."""
        with self._changed:
            self._take_name(container.id, container.name)

    def _take_name(self, ident: str, name: str) -> None:
        other = self._names.get(name)
        if other is not None:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{other}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = ident

    def keep(self, container: Container) -> None:
        """The record, of one that nobody finds before `put`. Raises CnmError where it cannot be written."""
        self._records.write(container)

    def put(self, container: Container) -> Container:
        """The record in the place of the one before. Raises CnmError where it cannot be written."""
        self._records.write(container)
        return self._show(container)

    def _show(self, container: Container) -> Container:
        with self._changed:
            self._containers[container.id] = container
            self._changed.notify_all()
        return container

    def set_state(self, container: Container, **changes: object) -> Container:
        """How it stands from now on. Raises CnmError where that cannot be written."""
        changed = _with_state(container, changes)
        self._records.write_state(changed)
        return self._show(changed)

    def note_state(self, container: Container, **changes: object) -> Container:
        """What has happened to it, which is so even where it cannot be written: a full disk must not keep a container.

        The next start of the launcher finds the same out again.
        """
        changed = _with_state(container, changes)
        try:
            self._records.write_state(changed)
        except CnmError as error:
            log.error("container %s: %s", container.short, error)
        return self._show(changed)

    def rename(self, container: Container, name: str) -> Container:
        """Raises Conflict."""
        with self._changed:
            self._take_name(container.id, name)
        try:
            renamed = self.put(msgspec.structs.replace(container, name=name))
        except BaseException:
            with self._changed:
                del self._names[name]
            raise
        with self._changed:
            del self._names[container.name]
        return renamed

    def drop(self, container: Container) -> None:
        """It and everything that is kept of it."""
        self._records.delete(container.id)
        self.forget(container)

    def forget(self, container: Container) -> None:
        with self._changed:
            if self._containers.pop(container.id, None):
                self._gone[container.id] = container
                if len(self._gone) > _REMEMBERED:
                    del self._gone[next(iter(self._gone))]
            if self._names.get(container.name) == container.id:
                del self._names[container.name]
            self._locks.pop(container.id, None)
            self._ends.pop(container.id, None)
            self._ended_with.pop(container.id, None)
            self._changed.notify_all()

    # Waiting

    def ended(self, container: Container) -> None:
        """One of its lives is over, and its record says so."""
        with self._changed:
            self._ends[container.id] = self._ends.get(container.id, 0) + 1
            self._ended_with[container.id] = container.state.exit_code
            self._changed.notify_all()

    def ends(self, ident: str) -> int:
        with self._changed:
            return self._ends.get(ident, 0)

    def ended_with(self, ident: str, otherwise: int) -> int:
        """The exit code of the last of these ends, which a new life's record does not have any more."""
        with self._changed:
            return self._ended_with.get(ident, otherwise)

    def last(self, container: Container) -> Container:
        """As it is now, or as it was when it went."""
        with self._changed:
            return self._containers.get(container.id) or self._gone.get(container.id, container)

    def is_there(self, ident: str) -> bool:
        with self._changed:
            return ident in self._containers

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Until it holds, but no longer; it is asked whenever a container changes, and must be quick."""
        deadline = time.monotonic() + seconds
        with self._changed:
            return self._changed.wait_for(condition, deadline - time.monotonic())


def _with_state(container: Container, changes: dict[str, object]) -> Container:
    state: State = msgspec.structs.replace(container.state, **changes)
    return msgspec.structs.replace(container, state=state)
