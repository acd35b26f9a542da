"""What a life of a container has made is taken away again, whoever was killed in the middle of making it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator

from cnm.errors import CnmError
from cnm.launcher import cgroups, shared_memory, user_namespaces
from cnm.launcher.container import Container
from cnm.launcher.container_volumes import ContainerVolumes
from cnm.launcher.disk import refusal
from cnm.launcher.modes import shared_with
from cnm.launcher.parts import Parts

log = logging.getLogger("cnm.launcher")


class Takedown:
    """Callers hold the container's lock. A container's bundle is made first and goes last: where it is, there is
    something of a life, which runs, or was not taken down wholly."""

    def __init__(self, parts: Parts, volumes: ContainerVolumes) -> None:
        self._p = parts
        self._volumes = volumes

    def is_done(self, container: Container) -> bool:
        return not os.path.exists(self._p.places.bundle(container.id))

    def clear(self, container: Container) -> None:
        """`run` as far as that is possible: what fails is logged, and tried again when it matters."""
        try:
            self.run(container)
        except CnmError as error:
            log.error("container %s does not run, and is not wholly gone: %s", container.short, error)

    def run(self, container: Container) -> None:
        """As far as it is there. What fails does not keep the rest from being done. Raises the first CnmError."""
        bundle = self._p.places.bundle(container.id)
        failures = [failure for step in self._steps(container) if (failure := _failure(step))]
        if failures:
            os.makedirs(bundle, mode=0o711, exist_ok=True)
            raise failures[0]
        shutil.rmtree(bundle, ignore_errors=True)

    def _steps(self, container: Container) -> Iterator[Callable[[], object]]:
        runtime = self._p.runtime(container)
        if runtime.has(container.id):
            yield lambda: runtime.delete(container.id, force=True)
        yield lambda: cgroups.clear(container.cgroup)
        if not shared_with(container.host.network_mode):
            yield lambda: self._p.sandboxes.remove(container.id)
        yield self._p.rootfs(container).unmount
        yield lambda: self._volumes.unmount(container)
        yield lambda: shared_memory.remove(self._p.places.shm(container.id))
        yield lambda: user_namespaces.remove(self._p.places.namespaces(container.id))


def _failure(step: Callable[[], object]) -> CnmError | None:
    try:
        step()
    except CnmError as error:
        return error
    except OSError as error:
        return CnmError(refusal(error))
    return None
