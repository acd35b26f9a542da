"""A network namespace that a path keeps alive: made, entered by the calling thread, removed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from netns_fixtures import syscalls


class Namespace:
    """A network namespace known by the path of its file (a bind mount, or /proc/PID/ns/net)."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: Path) -> Namespace:
        """Make a new, empty namespace and bind it to `path`, which must not exist yet."""
        path.touch(exist_ok=False)
        with _returning():
            syscalls.unshare(syscalls.CLONE_NEWNET)
            syscalls.mount(syscalls.THREAD_NETNS, str(path), flags=syscalls.MS_BIND)
        return cls(path)

    @contextmanager
    def enter(self) -> Iterator[None]:
        """Move the calling thread into the namespace and, at the end of the block, back to where it was.

        Other threads stay where they are; blocks may nest. A socket, a process or a thread made inside the
        block belongs to the namespace for good, also after the block.
        """
        with _returning():
            target = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                syscalls.setns(target)
            finally:
                os.close(target)
            yield

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket of this namespace, usable from any thread."""
        with self.enter():
            return socket.socket(family, kind, protocol)

    def remove(self) -> None:
        """Unbind the path; the kernel frees the namespace when its last socket and process are gone."""
        syscalls.umount(str(self.path))
        self.path.unlink()


@contextmanager
def _returning() -> Iterator[None]:
    """Bring the calling thread back to its namespace of now at the end of the block.

    Should the way back fail, OSError leaves the block: the thread is then in the wrong namespace and must
    end.
    """
    home = os.open(syscalls.THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        try:
            syscalls.setns(home)
        finally:
            os.close(home)
