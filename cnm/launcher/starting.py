"""From a container to its processes: the sandbox and the root file system first, then the process joins them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait

from cnm.errors import CnmError, Conflict, NotBuilt
from cnm.launcher.arrivals import Arrivals
from cnm.launcher.container import Container, Status
from cnm.launcher.exits import has_ended, started
from cnm.launcher.failures import exit_code_of, explained
from cnm.launcher.modes import is_host, shared_with
from cnm.launcher.monitor import Created
from cnm.launcher.mount_points import MountPoint, mount_points
from cnm.launcher.mounts import Bind, network_files, resolve
from cnm.launcher.ocispec import Inside, cgroup_path, spec
from cnm.launcher.parts import Parts
from cnm.launcher.process import make_working_directory
from cnm.launcher.sandboxes import Sandbox, hostname
from cnm.launcher.takedown import Takedown
from cnm.launcher.users import find_user
from cnm.wire import codec

log = logging.getLogger("cnm.launcher")

_MONITOR_SECONDS = 5.0
"""For conmon to see that its container is gone."""


class Starter:
    """Callers hold the container's lock."""

    def __init__(self, parts: Parts, arrivals: Arrivals, takedown: Takedown) -> None:
        self._p = parts
        self._takedown = takedown
        self._arrivals = arrivals

    def start(self, container: Container) -> Container:
        """Running when this returns. Raises what stood in the way, which the container keeps; nothing is left then."""
        try:
            if not self._takedown.is_done(container):
                self._takedown.run(container)
            with contextlib.ExitStack() as undo:
                undo.callback(self._takedown.clear, container)
                running = self._start(container, undo)
                undo.pop_all()
        except CnmError as error:
            raise self._failed(container, error) from None
        except OSError as error:
            reason = f"cannot start container {container.short}: {error.filename}: {error.strerror}"
            raise self._failed(container, CnmError(reason)) from None
        self._p.tell("start", running)
        return running

    def _failed(self, container: Container, error: CnmError) -> CnmError:
        """The reason in Docker's words, which the container keeps."""
        self._arrivals.disappoint(container.id)
        command = container.args[0]
        reason = explained(error, command)
        self._keep_reason(container, reason, exit_code_of(error, command))
        return reason

    def _keep_reason(self, container: Container, reason: CnmError, code: int) -> None:
        status = Status.EXITED if container.state.started else Status.CREATED
        self._p.registry.note_state(
            container, status=status, exit_code=code, error=str(reason), finished=time.time_ns()
        )

    def _start(self, container: Container, undo: contextlib.ExitStack) -> Container:
        p = self._p
        bundle = p.places.bundle(container.id)
        os.makedirs(bundle, mode=0o711)
        network = p.networking.submit(self._network, container)
        undo.callback(wait, [network])
        root = p.rootfs(container).mount()
        inside = self._inside(container, root, network)
        document = spec(container, inside, p.host)
        with open(os.path.join(bundle, "config.json"), "wb") as file:
            file.write(codec.encode(document))
        return self._run(container, bundle, undo)

    def _inside(self, container: Container, root: str, network: Future[Sandbox]) -> Inside:
        points = mount_points(container.config, container.host)
        binds = resolve(points, _no_volume, self._p.host)
        user = find_user(root, container.config.user or "", container.host.group_add or ())
        make_working_directory(root, container.config)
        sandbox = network.result()
        return Inside(
            rootfs=root,
            netns=sandbox.netns,
            hostname=hostname(container),
            user=user,
            mounts=(*_files(container, sandbox, points), *binds),
            namespaces=self._namespaces(container),
            cgroup=cgroup_path(container.host, container.id, ""),
        )

    def _run(self, container: Container, bundle: str, undo: contextlib.ExitStack) -> Container:
        p, config = self._p, container.config
        created = p.monitor(container).create(
            container.id,
            bundle,
            tty=bool(config.tty),
            stdin=bool(config.open_stdin),
            stdin_once=bool(config.stdin_once),
            log=p.places.log(container.id),
        )
        undo.callback(self._end_monitor, container, created)
        self._arrivals.connect(container.id, bundle, created.pid)
        p.runtime(container).start(container.id)
        return p.registry.set_state(
            container,
            status=Status.RUNNING,
            pid=created.pid,
            pid_started=started(created.pid),
            monitor_pid=created.monitor_pid,
            monitor_started=started(created.monitor_pid),
            exit_code=0,
            error="",
            oom_killed=False,
            started=time.time_ns(),
            stopped_by_user=False,
        )

    def _end_monitor(self, container: Container, created: Created) -> None:
        """It ends with its container: before anybody takes its exit code for that of another life."""
        with contextlib.suppress(CnmError):
            self._p.runtime(container).delete(container.id, force=True)
        begun = started(created.monitor_pid)
        if not has_ended(created.monitor_pid, _MONITOR_SECONDS, begun):
            os.kill(created.monitor_pid, signal.SIGKILL)
            has_ended(created.monitor_pid, _MONITOR_SECONDS, begun)
        self._p.monitor(container).forget(container.id)

    # The network

    def _network(self, container: Container) -> Sandbox:
        if other := shared_with(container.host.network_mode):
            return self._p.sandboxes.find(self._other(other, container, "network").id)
        return self._p.sandboxes.make(container, container.config.exposed_ports or {})

    # Other containers' namespaces

    def _namespaces(self, container: Container) -> Mapping[str, str]:
        host, found = container.host, {}
        for kind, mode in (("pid", host.pid_mode), ("ipc", host.ipc_mode), ("uts", host.uts_mode)):
            if is_host(mode):
                found[kind] = "host"
            elif other := shared_with(mode):
                found[kind] = f"/proc/{self._other(other, container, kind).state.pid}/ns/{kind}"
        return found

    def _other(self, reference: str, container: Container, kind: str) -> Container:
        """The running container whose namespace is shared. Raises NotFound, Conflict."""
        other = self._p.registry.find(reference)
        if other.id == container.id:
            raise Conflict(f"cannot join own {kind} namespace")
        if not other.state.status.is_alive:
            raise Conflict(f"cannot join {kind} of a non running container: {other.id}")
        return other


def _files(container: Container, sandbox: Sandbox, points: tuple[MountPoint, ...]) -> tuple[Bind, ...]:
    files = {
        "/etc/resolv.conf": sandbox.resolv_conf,
        "/etc/hostname": sandbox.hostname,
        "/etc/hosts": sandbox.hosts,
    }
    there = {target: source for target, source in files.items() if source}
    return network_files(there, points, read_only=bool(container.host.readonly_rootfs))


def _no_volume(point: MountPoint) -> str:
    raise NotBuilt(f"volumes are not built yet: mount a directory of the host at {point.destination}")
