"""From a container to its processes: the sandbox and the root file system first, then the process joins them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, wait

from cnm.errors import CnmError
from cnm.kernel.processes import has_ended, started
from cnm.launcher import shared_memory, user_namespaces
from cnm.launcher.arrivals import Arrivals
from cnm.launcher.container import Container, Status
from cnm.launcher.container_volumes import ContainerVolumes
from cnm.launcher.disk import refusal
from cnm.launcher.failures import exit_code_of, explained
from cnm.launcher.links import Links, environment, write_hosts
from cnm.launcher.log_options import keeps_log, largest
from cnm.launcher.modes import user_mapping
from cnm.launcher.monitor import Created
from cnm.launcher.mount_points import MountPoint
from cnm.launcher.mounts import Bind, network_files, resolve
from cnm.launcher.namespaces import Namespaces
from cnm.launcher.ocispec import SHM_SIZE, Inside, cgroup_path, spec
from cnm.launcher.parts import Parts
from cnm.launcher.process import make_working_directory
from cnm.launcher.sandboxes import Sandbox, own_name
from cnm.launcher.takedown import Takedown
from cnm.launcher.users import find_user
from cnm.store import in_place
from cnm.wire import codec

log = logging.getLogger("cnm.launcher")

_MONITOR_SECONDS = 5.0
"""For conmon to see that its container is gone."""


class Starter:
    """Callers hold the container's lock."""

    def __init__(
        self,
        parts: Parts,
        arrivals: Arrivals,
        takedown: Takedown,
        namespaces: Namespaces,
        links: Links,
        volumes: ContainerVolumes,
    ) -> None:
        self._p = parts
        self._volumes = volumes
        self._takedown = takedown
        self._arrivals = arrivals
        self._links = links
        self._namespaces = namespaces

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
            place = self._p.places.container(container.id)
            reason = f"cannot start container {container.short}: {refusal(error, place)}"
            raise self._failed(container, CnmError(reason)) from None
        self._follow(running)
        self._p.tell("start", running)
        return running

    def _failed(self, container: Container, error: CnmError) -> CnmError:
        """The reason in Docker's words, which the container keeps."""
        self._arrivals.disappoint(container.id)
        reason = explained(error)
        self._keep_reason(container, reason, exit_code_of(error))
        return reason

    def _follow(self, running: Container) -> None:
        """It runs, whatever becomes of those that are linked to it."""
        try:
            self._links.follow(running)
        except CnmError as error:
            log.error("containers linked to %s do not learn where it is: %s", running.name, error)

    def _keep_reason(self, container: Container, reason: CnmError, code: int) -> None:
        status = Status.EXITED if container.state.started else Status.CREATED
        self._p.registry.note_state(
            container, status=status, exit_code=code, error=str(reason), finished=time.time_ns()
        )

    def _start(self, container: Container, undo: contextlib.ExitStack) -> Container:
        p = self._p
        bundle = p.places.bundle(container.id)
        os.makedirs(bundle, mode=0o711)
        made = p.networking.submit(self._sandbox, container)
        joined = p.networking.submit(self._join, container, made)
        undo.callback(wait, [joined])  # which waits for the other
        root = p.rootfs(container).mount()
        shm = self._shared_memory(container)
        if any(name.startswith("net.") for name in container.host.sysctls or ()):
            joined.result()  # they may be of an interface
        inside = self._inside(container, root, made, shm)
        document = spec(container, inside, p.host)
        linux = document["linux"]
        linux["resources"] = p.runtime(container).understood(linux["resources"])
        with open(os.path.join(bundle, "config.json"), "wb") as file:
            file.write(codec.encode(document))
        with _network_first(joined):
            created = self._create(container, bundle, undo)
        joined.result()
        write_hosts(made.result(), self._links.linked(container))
        return self._begin(container, bundle, created)

    def _shared_memory(self, container: Container) -> str:
        """What is mounted at /dev/shm from outside; "" for nothing."""
        if container.host.ipc_mode != "shareable":
            return self._namespaces.shared_memory(container)
        path = self._p.places.shm(container.id)
        mapping = user_mapping(container.host.userns_mode)
        shared_memory.make(path, container.host.shm_size or SHM_SIZE, mapping.host_id if mapping else 0)
        return path

    def _inside(self, container: Container, root: str, made: Future[Sandbox], shm: str) -> Inside:
        mapping = user_mapping(container.host.userns_mode)
        points = container.points
        binds = resolve(points, self._volumes.mounting(container), self._p.host)
        user = find_user(root, container.config.user or "", container.host.group_add or ())
        make_working_directory(root, container.config, (mapping.host_id,) * 2 if mapping else (0, 0))
        sandbox = made.result()
        if container.config.domainname and sandbox.netns:
            in_place.rewrite(sandbox.hostname, lambda _: f"{own_name(container)}\n".encode())
        return Inside(
            rootfs=root,
            netns=sandbox.netns,
            hostname=own_name(container),
            user=user,
            mounts=(*_files(container, sandbox, points), *binds),
            namespaces=self._namespaces.paths(container),
            cgroup=cgroup_path(container.host, container.id, ""),
            userns=mapping,
            shm=shm,
            environment=environment(container, self._links.linked(container)),
        )

    def _create(self, container: Container, bundle: str, undo: contextlib.ExitStack) -> Created:
        p, config = self._p, container.config
        created = p.monitor(container).create(
            container.id,
            bundle,
            tty=bool(config.tty),
            stdin=bool(config.open_stdin),
            stdin_once=bool(config.stdin_once),
            log=p.places.log(container.id) if keeps_log(container.host.log_config) else "",
            log_size=largest(container.host.log_config),
            placed=p.scopes.placed(container.id, container.name),
        )
        undo.callback(self._end_monitor, container, created)
        return created

    def _begin(self, container: Container, bundle: str, created: Created) -> Container:
        p = self._p
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

    def _sandbox(self, container: Container) -> Sandbox:
        p = self._p
        if other := self._namespaces.network(container):
            return p.sandboxes.find(other.id)
        mapping = user_mapping(container.host.userns_mode)
        if mapping is None:
            return p.sandboxes.make(container)
        beside = self._namespaces.users_of_others(container)
        pair = user_namespaces.make(p.places.namespaces(container.id), mapping, beside)
        sandbox = p.sandboxes.make(container, pair.net)
        for path in (sandbox.hosts, sandbox.hostname, sandbox.resolv_conf):
            os.chown(path, mapping.host_id, mapping.host_id)
        return sandbox

    def _join(self, container: Container, made: Future[Sandbox]) -> None:
        """While the runtime creates the container, which needs the namespace and nothing in it."""
        made.result()
        if not self._namespaces.network(container):
            self._p.sandboxes.join(container, container.config.exposed_ports or {})


@contextlib.contextmanager
def _network_first(joined: Future[None]) -> Iterator[None]:
    """Of two things that go wrong at once the network's is told, as dockerd asks for networks first."""
    try:
        yield
    except CnmError:
        joined.result()
        raise


def _files(container: Container, sandbox: Sandbox, points: tuple[MountPoint, ...]) -> tuple[Bind, ...]:
    files = {
        "/etc/resolv.conf": sandbox.resolv_conf,
        "/etc/hostname": sandbox.hostname,
        "/etc/hosts": sandbox.hosts,
    }
    there = {target: source for target, source in files.items() if source}
    return network_files(there, points, read_only=bool(container.host.readonly_rootfs))
