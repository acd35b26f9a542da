"""Execs of containers: who they are, and what they inherit from the container that runs."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from cnm.errors import Conflict, InvalidParameter
from cnm.launcher.capabilities import granted
from cnm.launcher.container import Container, Status
from cnm.launcher.execs import Exec, Execs, Stage, process
from cnm.launcher.parts import Parts
from cnm.launcher.users import User, find_user
from cnm.wire.containers import ExecCreate


class Entering:
    """Thread-safe."""

    def __init__(self, parts: Parts) -> None:
        self._p = parts
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self.execs = Execs(parts.exits, parts.places.execs, self._ended)

    def create(self, container: Container, wanted: ExecCreate) -> Exec:
        """Raises Conflict for a container that does not run, InvalidParameter for what is wrong."""
        if not wanted.cmd:
            raise InvalidParameter("No exec command specified")
        check_runs(container)
        user, refused = self._user(container, wanted.user or "")
        own = self._process_of(container)
        told = (
            {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.additional_gids)} if user else None
        )
        made = self.execs.create(
            container.id, wanted, process(own, wanted, told, self._all()), self._p.runtime(container)
        )
        made.refused = refused
        self._tell("exec_create", made)
        return made

    def _all(self) -> tuple[str, ...]:
        return granted((), (), privileged=True, available=self._p.host.capabilities)

    def _process_of(self, container: Container) -> dict[str, Any]:
        with open(os.path.join(self._p.places.bundle(container.id), "config.json")) as file:
            found: dict[str, Any] = json.load(file)["process"]
        return found

    def _user(self, container: Container, wanted: str) -> tuple[User | None, InvalidParameter | None]:
        """None: the container's own; or why it can be nobody."""
        if not wanted:
            return None, None
        try:
            root = self._p.rootfs(container).path
            return find_user(root, wanted, container.host.group_add or ()), None
        except InvalidParameter as error:
            return None, error

    def check_startable(self, made: Exec) -> None:
        """Before a client is given its connection. Raises Conflict."""
        if made.stage is not Stage.CREATED:
            raise Conflict(f"Error: Exec command {made.id} is already running")
        check_runs(self._p.registry.get(made.container))

    def started(self, made: Exec) -> None:
        self._tell_start(made)

    def _ended(self, made: Exec) -> None:
        self._p.workers.submit(self._tell_end, made)

    def _tell_end(self, made: Exec) -> None:
        self._tell_start(made)
        self._tell("exec_die", made)

    def _tell_start(self, made: Exec) -> None:
        """Once, by whoever comes first: a short command may have ended before its start was told."""
        with self._lock:
            if made.id in self._told:
                self._told.discard(made.id)
                return
            self._told.add(made.id)
            self._tell("exec_start", made)

    def _tell(self, action: str, made: Exec) -> None:
        if not self._p.registry.is_there(made.container):
            return
        container = self._p.registry.get(made.container)
        if action == "exec_die":
            self._p.tell(action, container, execID=made.id, exitCode=str(made.exit_code))
        else:
            command = " ".join(made.wanted.cmd or ())
            self._p.tell(f"{action}: {command}", container, execID=made.id)


def check_runs(container: Container) -> None:
    """For what is asked of processes. Raises Conflict in Docker's words."""
    status = container.state.status
    if status is Status.PAUSED:
        raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
    if status is Status.RESTARTING:
        raise Conflict(f"Container {container.id} is restarting, wait until the container is running")
    if not status.is_alive:
        raise Conflict(f"Container {container.id} is not running")
