"""Network namespaces without fork: create, enter from a thread, remove, list.

`os.unshare` and `os.setns` exist only from Python 3.12 on; ctypes serves every version and releases the GIL.
A namespace is entered by one thread for a few system calls; sockets made meanwhile stay in it.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from cnm.errors import Conflict, KernelError, NotFound
from cnm.kernel import mounting
from cnm.kernel.state import HOST

CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_THREAD_NAMESPACE = "/proc/thread-self/ns/net"

_libc = ctypes.CDLL(None, use_errno=True)


def _call(doing: str, result: int) -> None:
    if result != 0:
        raise _refusal(doing, ctypes.get_errno())


@contextmanager
def _refusing(doing: str) -> Iterator[None]:
    """OSErrors of the block are KernelErrors."""
    try:
        yield
    except OSError as error:
        raise _refusal(doing, error.errno or 0) from None


def _refusal(doing: str, number: int) -> KernelError:
    return KernelError(f"cannot {doing}: {os.strerror(number).lower()}", number)


class Namespaces:
    """The namespaces of this host, seen from the one that the maker's thread is in: HOST."""

    def __init__(self) -> None:
        self._home = os.open(_THREAD_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
        self._thread = threading.local()

    def close(self) -> None:
        os.close(self._home)

    def open(self, path: str) -> int:
        """A descriptor of the namespace at `path`. Raises NotFound where there is none, whatever else is there."""
        if path == HOST:
            return os.dup(self._home)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            why = os.strerror(error.errno or 0).lower()
            raise NotFound(f"network namespace {path} cannot be opened: {why}") from None
        if not _is_network_namespace(descriptor):
            os.close(descriptor)
            raise NotFound(f"{path} is not a network namespace")
        return descriptor

    @contextmanager
    def inside(self, path: str) -> Iterator[None]:
        """Run the body with the calling thread in the namespace at `path`, from wherever it is."""
        outer = getattr(self._thread, "descriptor", self._home)
        if path == HOST and outer == self._home:
            yield
            return
        descriptor = self.open(path)
        try:
            _call(f"enter network namespace {path}", _libc.setns(descriptor, CLONE_NEWNET))
            self._thread.descriptor = descriptor
            try:
                yield
            finally:
                self._thread.descriptor = outer
                _return_to(outer)
        finally:
            os.close(descriptor)

    @contextmanager
    def created(self, path: str) -> Iterator[None]:
        """Create a namespace kept by a bind mount at `path`; the body runs inside it. Undone if the body fails.

        The mount comes last: a process killed before it leaves no namespace that is half made. Raises Conflict when
        something stands at `path` already.
        """
        try:
            os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
        except FileExistsError as error:
            raise Conflict(
                f"{error.filename} exists already: remove it, or choose another run directory"
            ) from None
        except OSError as error:
            raise _refusal(f"make {path}", error.errno or 0) from None
        try:
            _call("create a network namespace", _libc.unshare(CLONE_NEWNET))
            try:
                yield
                with _refusing(f"bind a network namespace to {path}"):
                    mounting.bind(_THREAD_NAMESPACE, path)
            finally:
                _return_to(self._home)
        except BaseException:
            self.remove(path)
            raise

    def remove(self, path: str) -> None:
        """Let go of the namespace at `path`; it vanishes when nobody else uses it. Nothing there is fine."""
        with _refusing(f"unmount {path}"):
            mounting.unmount(path)
        try:
            os.unlink(path)
        except FileNotFoundError:
            return

    def is_alive(self, path: str) -> bool:
        """Whether a network namespace is found at `path`."""
        return self.identity(path) is not None

    def identity(self, path: str) -> tuple[int, int] | None:
        """Device and inode number of the namespace at `path`, None where there is none."""
        try:
            descriptor = self.open(path)
        except NotFound:
            return None
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return status.st_dev, status.st_ino


def _return_to(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        # This thread would go on with the host's verbs in a sandbox's namespace: nothing is safe any more.
        os.abort()


def list_directory(directory: str) -> tuple[str, ...]:
    """Paths of the files in a directory of namespaces, none where it does not exist."""
    try:
        return tuple(sorted(os.path.join(directory, name) for name in os.listdir(directory)))
    except FileNotFoundError:
        return ()


def _is_network_namespace(descriptor: int) -> bool:
    try:
        return fcntl.ioctl(descriptor, _NS_GET_NSTYPE) == CLONE_NEWNET
    except OSError:
        return False
