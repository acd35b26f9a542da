"""The verbs of containers: what a client asks for is done, and kept, when they return."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter, NotBuilt, NotFound
from cnm.events import Event
from cnm.launcher import monitor, requests
from cnm.launcher.arrivals import Arrival, Arrivals
from cnm.launcher.attachments import Attachments
from cnm.launcher.building.builds import Builds
from cnm.launcher.container import Container, Status
from cnm.launcher.container_volumes import ContainerVolumes
from cnm.launcher.disk import refusal
from cnm.launcher.ending import Ender
from cnm.launcher.entering import Entering, check_runs
from cnm.launcher.failures import check_alive, said_of, while_it_runs
from cnm.launcher.generated_names import generated_name
from cnm.launcher.health import HealthChecks
from cnm.launcher.image_events import ImageEvents
from cnm.launcher.joining import Joining
from cnm.launcher.links import Links
from cnm.launcher.log_options import keeps_log
from cnm.launcher.modes import shared_with
from cnm.launcher.moving.arriving import Arriving
from cnm.launcher.moving.departing import Departures
from cnm.launcher.moving.listener import ArrivalRequests, Listening
from cnm.launcher.moving.peers import ClusterPeers
from cnm.launcher.moving.settling import Settling
from cnm.launcher.namespaces import Namespaces
from cnm.launcher.parts import Parts
from cnm.launcher.pulling import Pulls
from cnm.launcher.pushing import Pushes
from cnm.launcher.recovery import Recovery
from cnm.launcher.removal import User
from cnm.launcher.saving import Saves
from cnm.launcher.selection import has_labels
from cnm.launcher.starting import Starter
from cnm.launcher.stats import Stats
from cnm.launcher.stopping import Stopper
from cnm.launcher.streams import ContainerStreams
from cnm.launcher.takedown import Takedown
from cnm.launcher.top import Top, top
from cnm.launcher.updating import apply_update, updated
from cnm.launcher.validation import check_update, settled, warnings
from cnm.launcher.visits import Visits
from cnm.wire.containers import Config, ContainerCreate, ContainerUpdate, HostConfig

log = logging.getLogger("cnm.launcher")


class Engine:
    """Thread-safe."""

    def __init__(
        self,
        parts: Parts,
        *,
        cgroup_parent: str = "/cnm",
        runtime: str = "runc",
        volume_port: int = 2381,
    ) -> None:
        self.parts = parts
        self._cgroup_parent, self.default_runtime = cgroup_parent, runtime
        self.registry = parts.registry
        self.attachments, self.arrivals = Attachments(), Arrivals()
        self.volumes = ContainerVolumes(parts)
        self._takedown = Takedown(parts, self.volumes)
        self.links = Links(parts.registry, parts.sandboxes)
        self.namespaces = Namespaces(parts.registry, parts.places)
        self._starter = Starter(
            parts, self.arrivals, self._takedown, self.namespaces, self.links, self.volumes
        )
        self.entering = Entering(parts)
        self.health = HealthChecks(parts, self.entering)
        self._ender = Ender(
            parts, self._starter, self._takedown, self.attachments, self._remove, self.health.follow
        )
        self.stopper = Stopper(parts, self._ender, self.run)
        self.joining = Joining(parts)
        self._recovery = Recovery(parts, self._ender, self._takedown, self._remove)
        self.stats = Stats(parts)
        self.image_events = ImageEvents(parts.images, parts.events)
        self.pulls = Pulls(parts.images, self.image_events)
        self.pushes = Pushes(parts.images, self.image_events)
        self.saves = Saves(parts.images, self.image_events)
        self._visits = Visits(parts)
        self.builds = Builds(parts, self.image_events, cgroup_parent, self._running)
        peers = ClusterPeers(parts.places.root, parts.cnmd, volume_port)
        self.settling = Settling(parts.volumes, peers)
        self.departures = Departures(parts.volumes, parts.registry, peers, self.settling)
        self._arriving = Arriving(parts.places.volumes, parts.volumes)
        self._listening = Listening(
            ArrivalRequests(self._arriving, peers),
            peers,
            joined=parts.volumes.agree_with_other_hosts,
            idle=self._settle_moves,
        )

    def start(self) -> None:
        """Take up what there is: containers run on while no launcher does."""
        self.registry.load()
        self.volumes.load()
        self.builds.start()  # its podmans work on, and hold layers
        self.parts.images.settle()
        self._arriving.load()
        self.settling.load()
        self._recovery.run()
        self._listening.start()

    def _settle_moves(self) -> None:
        """Of volumes between this host and others: what was cut off, or could not be told."""
        self._arriving.sweep()
        self.settling.settle_all()
        self.parts.volumes.others.tell_again()

    def cnmd_is_back(self) -> None:
        """What could not be done while it was away."""
        self._recovery.agree_with_cnmd()
        self.parts.volumes.agree_with_other_hosts()
        self.builds.cnmd_is_back()

    def close(self) -> None:
        """Containers run on; builds end."""
        self.builds.close()
        self._listening.close()
        self._ender.restarts.close()
        self.parts.exits.close()

    # Made and removed

    def create(self, name: str, body: ContainerCreate) -> tuple[Container, list[str]]:
        """The container and warnings. Raises NotFound for its image, Conflict for its name."""
        p = self.parts
        name = requests.check_name(name) if name else ""
        image = p.images.find(body.image or "")
        made = requests.container(name, body, image, p.host, self._cgroup_parent, self.default_runtime)
        networks = {p.sandboxes.called(key): settings for key, settings in made.networks.items()}
        made = msgspec.structs.replace(made, networks=networks)
        p.runtime(made)
        host = self.links.settled(self.namespaces.settled(made.host))
        made = msgspec.structs.replace(made, host=host)
        made = self._named(made)
        with contextlib.ExitStack() as undo:
            undo.callback(self.registry.drop, made)
            _make_folder(p.places.container(made.id))
            made = self.volumes.make(made, undo)
            created = msgspec.structs.replace(
                made, state=msgspec.structs.replace(made.state, status=Status.CREATED)
            )
            self.registry.put(created)
            undo.pop_all()
        p.tell("create", created)
        return created, warnings(body.host_config or HostConfig(), p.host)

    def _named(self, made: Container) -> Container:
        """Its name is reserved, one of our choice where it has none."""
        if made.name:
            self.registry.reserve(made)
            return made
        for attempt in range(100):
            named = msgspec.structs.replace(made, name=generated_name(attempt))
            with contextlib.suppress(Conflict):
                self.registry.reserve(named)
                return named
        raise Conflict("no name is free: give one with --name")

    def remove(self, reference: str, *, force: bool = False, volumes: bool = False) -> None:
        """Raises Conflict for one that runs, unless `force`. `volumes`: its anonymous ones go too."""
        with self.registry.locked(reference) as container:
            status = container.state.status
            if status.is_alive or status is Status.RESTARTING:
                if not force:
                    state = "paused" if status is Status.PAUSED else "running"
                    raise Conflict(
                        f'cannot remove container "{container.name}": container is {state}: stop the container before '
                        "removing or force remove"
                    )
                container = self.stopper.killed(container)
            if self.registry.is_there(container.id):  # one that removes itself is gone by now
                self._remove(container, volumes=volumes)

    def _remove(self, container: Container, *, volumes: bool = False) -> None:
        """One that removes itself takes its volumes along, as does one that was not made wholly."""
        self._ender.restarts.cancel(container.id)
        before = container.state
        takes = volumes or before.takes_volumes or container.host.auto_remove is True
        takes = takes or before.status is Status.CREATING
        removing = self.registry.note_state(container, status=Status.REMOVING, takes_volumes=takes)
        self.arrivals.disappoint(container.id)
        self.entering.execs.forget(container.id)
        self.parts.monitor(container).forget(container.id)
        try:
            if not self._takedown.is_done(container):
                self._takedown.run(removing)
            self.parts.rootfs(container).remove()
            self.volumes.release(removing)
        except OSError as error:
            place = self.parts.places.container(container.id)
            reason = CnmError(f"cannot remove container {container.short}: {refusal(error, place)}")
            raise self._died(removing, reason) from None
        except CnmError as error:
            raise self._died(removing, error) from None
        self.registry.drop(removing)
        self.parts.tell("destroy", removing)
        self.parts.workers.submit(self.parts.images.forget, self.users_of)

    def _died(self, container: Container, reason: CnmError) -> CnmError:
        """It is to go still, and does not run any more."""
        self.registry.note_state(container, status=Status.DEAD, error=str(reason))
        return reason

    def rename(self, reference: str, name: str) -> None:
        with self.registry.locked(reference) as container:
            if not name:
                raise InvalidParameter("Neither old nor new names may be empty")
            slashed = name if name.startswith("/") else f"/{name}"
            if slashed == f"/{container.name}":
                raise InvalidParameter("Renaming a container with the same name as its current name")
            with said_of("Error when allocating new name"):
                name = requests.check_name(slashed)
                renamed = self.registry.rename(container, name)
            if renamed.state.status.is_alive and self._has_sandbox(renamed):
                try:
                    self.parts.sandboxes.rename(renamed.id, name)
                except BaseException:
                    self.registry.rename(renamed, container.name)
                    raise
            self.parts.tell("rename", renamed, oldName=f"/{container.name}")

    def _has_sandbox(self, container: Container) -> bool:
        return not shared_with(container.host.network_mode)

    # Started and ended

    def run(self, reference: str) -> bool:
        """Start it; False where it runs already. Raises StartFailed, Conflict for a paused one."""
        with self.registry.locked(reference) as container:
            status = container.state.status
            if status is Status.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if status is Status.RUNNING:
                return False
            if status in (Status.REMOVING, Status.DEAD):
                raise Conflict("container is marked for removal and cannot be started")
            self._ender.restarts.cancel(container.id)
            fresh = msgspec.structs.replace(
                container, state=msgspec.structs.replace(container.state, restart_count=0)
            )
            try:
                running = self._starter.start(fresh)
            except CnmError:
                if container.host.auto_remove:
                    self._remove(self.registry.get(container.id))
                raise
            self._ender.watch(running)
            return True

    def pause(self, reference: str) -> None:
        with self.registry.locked(reference) as container:
            check_alive(container)
            if container.state.status is Status.PAUSED:
                raise Conflict(f"Container {container.id} is already paused")
            with while_it_runs(container):
                self.parts.runtime(container).pause(container.id)
            self.parts.tell("pause", self.registry.note_state(container, status=Status.PAUSED))

    def unpause(self, reference: str) -> None:
        with self.registry.locked(reference) as container:
            if container.state.status is not Status.PAUSED:
                raise Conflict(f"Container {container.id} is not paused")
            with while_it_runs(container):
                self.parts.runtime(container).resume(container.id)
            self.parts.tell("unpause", self.registry.note_state(container, status=Status.RUNNING))

    def wait(self, reference: str, condition: str) -> Iterator[int | None]:
        """None again and again while it waits, then the exit code.

        `condition` is "not-running", "next-exit" or "removed". Raises InvalidParameter, NotFound.
        """
        container = self.registry.find(reference)
        if condition not in ("", "not-running", "next-exit", "removed"):
            raise InvalidParameter(f'invalid condition: "{condition}"')
        return self._waits(container, condition, self.registry.ends(container.id))

    def _waits(self, container: Container, condition: str, ends: int) -> Iterator[int | None]:
        registry, ident = self.registry, container.id
        last = container

        def is_over() -> bool:
            nonlocal last
            last = registry.last(container)
            if not registry.is_there(ident):
                return True
            if condition == "removed":
                return last.state.status is Status.DEAD  # it could not be removed, and may stay for long
            if registry.ends(ident) != ends:  # whatever policy starts it again
                return True
            status = last.state.status
            return condition != "next-exit" and not status.is_alive and status is not Status.RESTARTING

        while not registry.wait(is_over, 1.0):
            yield None
        ended = registry.ends(ident) != ends
        yield registry.ended_with(ident, last.state.exit_code) if ended else last.state.exit_code

    # Changed while it is there

    def update(self, reference: str, body: ContainerUpdate) -> list[str]:
        """Limits and the restart policy; the answer is warnings."""
        with self.registry.locked(reference) as container:
            check_update(body, self.parts.host)
            try:
                wanted = updated(container.host, body)
            except Conflict as error:
                raise Conflict(f"Cannot update container {container.id}: {error}") from None
            host = settled(wanted, self.parts.host)
            with while_it_runs(container):
                changed = apply_update(self.parts, container, host)
            self.parts.tell("update", changed)
            return warnings(wanted, self.parts.host)

    def resize(self, reference: str, rows: int, columns: int) -> None:
        container = self.registry.find(reference)
        check_alive(container)
        monitor.resize(self.parts.places.bundle(container.id), rows, columns)
        self.parts.tell("resize", container, height=str(rows), width=str(columns))

    # Streams

    def check_attachable(self, container: Container) -> None:
        """Raises Conflict."""
        if container.state.status is Status.PAUSED:
            raise Conflict(f"container {container.name} is paused, unpause the container before attach")
        if container.state.status is Status.RESTARTING:
            raise Conflict(f"container {container.id} is restarting, wait until the container is running")

    def streams_of(self, container: Container) -> Arrival:
        """conmon's end of a container's streams, as soon as there is one."""
        with self.registry.locked(container.id) as now:
            if not now.state.status.is_alive:
                return self.arrivals.expect(container.id)
            there: Arrival = Future()
            there.set_result(ContainerStreams(self.parts.places.bundle(now.id), now.state.pid))
            return there

    def check_readable(self, container: Container) -> None:
        """Raises NotBuilt for a container that keeps no log."""
        if not keeps_log(container.host.log_config):
            raise NotBuilt("configured logging driver does not support reading")

    def may_speak(self, ident: str) -> bool:
        """Whether its log may grow still."""
        status = self.registry.get(ident).state.status
        return status.is_alive or status is Status.RESTARTING

    # What happens

    def subscribe(self) -> AbstractContextManager[queue.Queue[Event]]:
        return self.parts.events.subscribe()

    def past_events(self, since: int = 0) -> list[Event]:
        return self.parts.events.past(since)

    # Processes, files, images

    def top(self, reference: str, arguments: str) -> Top:
        container = self.registry.find(reference)
        if container.state.status is not Status.PAUSED:
            check_runs(container)
        found = top(self.parts.runtime(container).pids(container.id), arguments)
        self.parts.tell("top", container)
        return found

    @contextlib.contextmanager
    def files_of(self, container: Container) -> Iterator[str]:
        """The path of its root file system, with what is mounted in it; there in the block."""
        if container.state.status.is_alive:
            yield f"/proc/{container.state.pid}/root"
            return
        with self._visits.of(container) as root, self.volumes.seen_in(container, root) as seen:
            yield seen

    @contextlib.contextmanager
    def own_files_of(self, container: Container) -> Iterator[str]:
        """The same without what is mounted in it."""
        if container.state.status.is_alive:
            yield self.parts.rootfs(container).path
            return
        with self._visits.of(container) as root:
            yield root

    def _running(self, reference: str) -> str:
        """The id of a container whose network a build is to share. Raises NotFound, Conflict."""
        found = self.registry.find(reference)
        while other := shared_with(found.host.network_mode):
            found = self.registry.find(other)
        if not found.state.status.is_alive:
            raise Conflict(f"cannot join network of a non running container: {found.id}")
        return found.id

    def users_of(self, image: str) -> list[User]:
        """Containers that are made from an image."""
        return [
            User(container.id, container.state.status.is_alive)
            for container in self.registry.all()
            if container.image == image
        ]

    def commit(
        self,
        reference: str,
        name: str,
        *,
        author: str,
        message: str,
        changes: Sequence[str],
        pause: bool,
        config: Config | None = None,
    ) -> str:
        """An image of the container as it is, `config` before its own; the image's id."""
        with self.registry.locked(reference) as container:
            runs = pause and container.state.status is Status.RUNNING
            if runs:
                self.parts.runtime(container).pause(container.id)
            try:
                ident = self.parts.images.commit(
                    container, self.parts.rootfs(container).upper, name, author, message, changes, config
                )
            finally:
                if runs:
                    self.parts.runtime(container).resume(container.id)
            self.image_events.tell_tagged(ident, name)
            self.parts.tell("commit", container, comment=message, imageID=ident, imageRef=name)
            return ident

    def prune(
        self, labels: Sequence[str], without: Sequence[str], before: int | None
    ) -> tuple[list[str], int]:
        """Remove what does not run; (ids, bytes that were freed)."""
        removed, space = [], 0
        for container in self.registry.all():
            if container.state.status.is_alive or container.state.status is Status.RESTARTING:
                continue
            if before is not None and container.created >= before:
                continue
            if not has_labels(container, labels) or (without and has_labels(container, without)):
                continue
            with contextlib.suppress(NotFound, Conflict):
                size = self.parts.rootfs(container).size()
                self.remove(container.id)
                removed.append(container.id)
                space += size
        self.parts.events.publish("container", "prune", "", reclaimed=str(space))
        return removed, space


def _make_folder(path: str) -> None:
    """Raises CnmError."""
    try:
        os.makedirs(path, mode=0o711)
    except OSError as error:
        raise CnmError(f"cannot make {path}: {os.strerror(error.errno or 0).lower()}") from None
