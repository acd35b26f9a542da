"""From a container to its processes: the sandbox and the root file system first, then the process joins them."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from cnm.errors import CnmError, Conflict, NotFound
from cnm.launcher import mounts, users
from cnm.launcher.attachments import Attachments
from cnm.launcher.container import Container, Status
from cnm.launcher.failures import StartFailed, exit_code_of
from cnm.launcher.ocispec import Inside, spec
from cnm.launcher.parts import Parts
from cnm.launcher.runtime import RuntimeFailed
from cnm.launcher.sandboxes import Sandbox, hostname

log = logging.getLogger("cnm.launcher")


class Starter:
    """Callers hold the container's lock."""

    def __init__(self, parts: Parts, attachments: Attachments) -> None:
        self._p = parts
        self._attachments = attachments

    def start(self, container: Container) -> Container:
        """Running when this returns. Raises StartFailed, whose reason the container keeps; nothing is left then."""
        try:
            with contextlib.ExitStack() as undo:
                started = self._start(container, undo)
                undo.pop_all()
        except CnmError as error:
            self._attachments.fail(container.id)
            self._keep_reason(container, error)
            raise
        self._p.tell("start", started)
        return started

    def _keep_reason(self, container: Container, error: CnmError) -> None:
        code = exit_code_of(error)
        status = container.state.status if container.state.started else Status.CREATED
        if status is Status.RESTARTING:
            status = Status.EXITED
        self._p.registry.set_state(
            container, status=status, exit_code=code, error=str(error), finished=time.time_ns()
        )

    def _start(self, container: Container, undo: contextlib.ExitStack) -> Container:
        p = self._p
        bundle = p.places.bundle(container.id)
        shutil.rmtree(bundle, ignore_errors=True)
        os.makedirs(bundle, mode=0o700)
        undo.callback(shutil.rmtree, bundle, ignore_errors=True)
        network = p.workers.submit(self._network, container)
        undo.callback(self._unmake_network, container, network)
        rootfs = p.rootfs(container)
        undo.callback(rootfs.unmount)
        root = rootfs.mount()
        user = users.resolve(root, container.config.user or "", container.host.group_add or ())
        binds = mounts.resolve(container, root)
        sandbox = network.result()
        inside = Inside(
            rootfs=root,
            netns=sandbox.netns,
            hostname=hostname(container).partition(".")[0],
            user=user,
            mounts=(*_files(sandbox), *binds),
            namespaces=self._namespaces(container),
            cgroup=os.path.join(container.host.cgroup_parent or "/", container.id),
            userns=None,
        )
        document = spec(container, inside, p.host)
        with open(os.path.join(bundle, "config.json"), "w") as file:
            json.dump(document, file)
        return self._run(container, bundle, undo)

    def _run(self, container: Container, bundle: str, undo: contextlib.ExitStack) -> Container:
        p, config = self._p, container.config
        created = p.monitor(container).create(
            container.id,
            bundle,
            tty=bool(config.tty),
            stdin=bool(config.open_stdin),
            log=p.places.log(container.id),
        )
        undo.callback(p.runtime(container).delete, container.id, force=True)
        self._attachments.connect(container.id, p.monitor(container))
        p.runtime(container).start(container.id)
        running = p.registry.set_state(
            container,
            status=Status.RUNNING,
            pid=created.pid,
            pid_started=process_start(created.pid),
            monitor_pid=created.monitor_pid,
            monitor_started=process_start(created.monitor_pid),
            exit_code=0,
            error="",
            oom_killed=False,
            started=time.time_ns(),
            stopped_by_user=False,
        )
        return running

    # The network

    def _network(self, container: Container) -> Sandbox:
        mode = container.host.network_mode or ""
        if mode.startswith("container:"):
            return self._p.sandboxes.find(self._other(mode, container).id)
        return self._p.sandboxes.make(container, container.config.exposed_ports or {})

    def _unmake_network(self, container: Container, network: Any) -> None:
        with contextlib.suppress(CnmError):
            network.result()
        if not (container.host.network_mode or "").startswith("container:"):
            self._p.sandboxes.remove(container.id)

    # Other containers' namespaces

    def _namespaces(self, container: Container) -> Mapping[str, str]:
        host, found = container.host, {}
        for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
            if mode == "host":
                found[kind] = "host"
            elif mode and mode.startswith("container:"):
                found[kind] = f"/proc/{self._other(mode, container).state.pid}/ns/{kind}"
        if host.network_mode == "host" and not container.config.hostname:
            found.setdefault("uts", "host")
        return found

    def _other(self, mode: str, container: Container) -> Container:
        """The running container of `container:NAME`. Raises NotFound, Conflict."""
        reference = mode.partition(":")[2]
        other = self._p.registry.find(reference)
        if other.id == container.id:
            raise Conflict("cannot join own network, process or IPC namespace")
        if not other.state.status.is_alive:
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        return other


def _files(sandbox: Sandbox) -> tuple[mounts.Bind, ...]:
    found = (
        ("/etc/resolv.conf", sandbox.resolv_conf),
        ("/etc/hostname", sandbox.hostname),
        ("/etc/hosts", sandbox.hosts),
    )
    return tuple(mounts.Bind(source, target) for target, source in found if source)


def process_start(pid: int) -> int:
    """Clock ticks since boot (proc(5), stat, field 22), 0 for a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError, ValueError):
        return 0
