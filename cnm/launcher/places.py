"""Where the launcher keeps what: below the root what survives a reboot, below the run directory what does not."""

from __future__ import annotations

import os
from typing import NamedTuple

from cnm.errors import CnmError, InvalidParameter

_LONGEST_STORAGE_RUN = 50
"""containers-storage's limit of its run root, for the sockets in it."""


class Places(NamedTuple):
    """`root` and `run` are cnmd's too; everything here is in a folder of the launcher's own in each."""

    root: str
    run: str

    @property
    def socket(self) -> str:
        return os.path.join(self.run, "docker.sock")

    @property
    def containers(self) -> str:
        return os.path.join(self.root, "launcher", "containers")

    @property
    def volumes(self) -> str:
        """A folder by each volume's name."""
        return os.path.join(self.root, "launcher", "volumes")

    @property
    def storage(self) -> str:
        """containers-storage's graph root."""
        return os.path.join(self.root, "launcher", "storage")

    @property
    def storage_run(self) -> str:
        return os.path.join(self.run, "launcher", "storage")

    @property
    def bundles(self) -> str:
        return os.path.join(self.run, "launcher", "containers")

    @property
    def exits(self) -> str:
        """A file by each container's id, with its exit code in it."""
        return os.path.join(self.run, "launcher", "exits")

    @property
    def execs(self) -> str:
        """What the runtime is told of an exec; a folder each, for a moment."""
        return os.path.join(self.run, "launcher", "execs")

    @property
    def builds(self) -> str:
        """What clients send with builds; a folder each, while it lasts."""
        return os.path.join(self.root, "launcher", "builds")

    @property
    def remembered_builds(self) -> str:
        """A file of each build that need not be done again."""
        return os.path.join(self.root, "launcher", "remembered-builds")

    @property
    def builds_run(self) -> str:
        """What is known of builds that go on; a folder each."""
        return os.path.join(self.run, "launcher", "builds")

    @property
    def views(self) -> str:
        """Files of containers that do not run, with what is mounted in them; a folder each, while somebody looks."""
        return os.path.join(self.run, "launcher", "views")

    def runtime(self, name: str) -> str:
        """The state of an OCI runtime of this name."""
        return os.path.join(self.run, "launcher", name)

    @property
    def all_namespaces(self) -> str:
        return os.path.join(self.run, "launcher", "namespaces")

    def namespaces(self, ident: str) -> str:
        """Where a container's user and network namespace are kept, if it has its own users."""
        return os.path.join(self.all_namespaces, ident)

    def shm(self, ident: str) -> str:
        """Where the /dev/shm of a container is mounted that shares it."""
        return os.path.join(self.containers, ident, "shm")

    def container(self, ident: str) -> str:
        return os.path.join(self.containers, ident)

    def log(self, ident: str) -> str:
        return os.path.join(self.containers, ident, "log")

    def bundle(self, ident: str) -> str:
        return os.path.join(self.bundles, ident)

    def make(self) -> None:
        """What must be there before the first container. User namespaces have to pass through to root file systems.

        Raises InvalidParameter for a run directory whose path is too long.
        """
        if (excess := len(self.storage_run) - _LONGEST_STORAGE_RUN) > 0:
            raise InvalidParameter(
                f"{self.run} is {excess} characters too long for podman: choose another run directory"
            )
        for path in (
            self.root,
            os.path.join(self.root, "launcher"),
            self.containers,
            self.volumes,
            self.storage,
            self.builds,
            self.remembered_builds,
        ):
            _make(path)
        for path in (
            self.run,
            os.path.join(self.run, "launcher"),
            self.storage_run,
            self.bundles,
            self.exits,
            self.execs,
            self.builds_run,
            self.views,
            self.all_namespaces,
        ):
            _make(path)


def _make(path: str) -> None:
    try:
        os.makedirs(path, mode=0o711, exist_ok=True)
    except OSError as error:
        raise CnmError(f"cannot make {path}: {error.strerror}: give another directory") from None
