"""Pairs of a user and a network namespace, made before their container so that its sandbox is there first.

A network namespace belongs to the user namespace that it was made in, and nobody else has rights over it. So both are
made by one short-lived process, kept by bind mounts of /proc/PID/ns, and joined by their paths.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cnm.errors import CnmError, NotBuilt, Unavailable
from cnm.kernel import link_messages, mounting
from cnm.kernel.namespaces import Namespaces
from cnm.kernel.netlink import NetlinkSocket
from cnm.launcher.modes import UserMapping

_KINDS = ("user", "net")
_PATIENCE_MS = 10_000
_MAKER = ("unshare", "--user", "--net", "--", "cat")
_USERS_ALONE = ("unshare", "--user", "--", "cat")
_BESIDE = ("nsenter", "--user={}", "--", "unshare", "--net", "--", "cat")
"""What they say back, they say from inside their new namespaces: by then these are there."""
_LIMITED = (errno.ENOSPC, errno.EUSERS)


class Pair(NamedTuple):
    """Paths of the two namespaces."""

    user: str
    net: str


def make(folder: str, mapping: UserMapping, beside: str = "") -> Pair:
    """A new pair, kept in `folder`, which is made; what is there already is replaced.

    `beside` is the path of a user namespace that has the mapping: only a network namespace of it is new then.
    Raises Unavailable and NotBuilt where this host does not let user namespaces, or not this mapping.
    """
    remove(folder)
    os.makedirs(folder, mode=0o700)
    pair = Pair(*(os.path.join(folder, kind) for kind in _KINDS))
    try:
        with _maker([part.format(beside) for part in _BESIDE] if beside else _MAKER) as pid:
            if not beside:
                _map(pid, mapping)
            for kind, path in zip(_KINDS, pair, strict=True):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
                mounting.bind(f"/proc/{pid}/ns/{kind}", path)
        _loopback_up(pair.net)
    except BaseException:
        remove(folder)
        raise
    return pair


def _loopback_up(path: str) -> None:
    """As cnmd has it in namespaces of its own making."""
    namespaces = Namespaces()
    try:
        with namespaces.inside(path), NetlinkSocket() as netlink:
            netlink.execute([link_messages.up("lo", 1)])
    finally:
        namespaces.close()


def find(folder: str) -> Pair | None:
    """The pair that is kept there; None for none."""
    pair = Pair(*(os.path.join(folder, kind) for kind in _KINDS))
    return pair if all(map(os.path.exists, pair)) else None


def remove(folder: str) -> None:
    """The namespaces live on while processes are in them. Nothing there is fine."""
    for kind in _KINDS:
        mounting.unmount_all(os.path.join(folder, kind))
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


@contextlib.contextmanager
def opened(mapping: UserMapping) -> Iterator[int]:
    """A descriptor of a user namespace with the mapping, of which there is nothing else. Raises as `make`."""
    with _maker(_USERS_ALONE) as pid:
        _map(pid, mapping)
        users = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield users
    finally:
        os.close(users)


@contextlib.contextmanager
def _maker(command: Sequence[str]) -> Iterator[int]:
    """The process in the new namespaces, which nobody has mapped yet."""
    program = shutil.which(command[0])
    if program is None:
        raise Unavailable(f"user namespaces need the program {command[0]}: install util-linux")
    child = subprocess.Popen(
        [program, *command[1:]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    with child:
        try:
            _await(child)
            yield child.pid
        finally:
            child.kill()


def _await(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(b"\n")
    poll = select.poll()
    poll.register(child.stdout, select.POLLIN)
    if not poll.poll(_PATIENCE_MS):
        raise Unavailable(f"a user namespace could not be made within {_PATIENCE_MS // 1000} s")
    if not child.stdout.read(1):
        said = child.stderr.read().decode("utf-8", "replace").strip().rpartition(": ")[2]
        raise _refused(said)


def _refused(said: str) -> CnmError:
    if said in map(os.strerror, _LIMITED):
        return Unavailable(
            "cannot make a user namespace: this host's limit is reached: raise the sysctls user.max_user_namespaces "
            "and user.max_net_namespaces"
        )
    return NotBuilt(f"cannot make a user namespace on this host: {said.lower()}: use --userns host")


def _map(pid: int, mapping: UserMapping) -> None:
    line = f"0 {mapping.host_id} {mapping.size}\n".encode()
    for kind in ("uid", "gid"):
        try:
            written = os.open(f"/proc/{pid}/{kind}_map", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(written, line)
            finally:
                os.close(written)
        except OSError as error:
            raise Unavailable(
                f"this host does not allow to map {kind}s {mapping.host_id} to {mapping.host_id + mapping.size - 1} "
                f"into a user namespace: {(error.strerror or '').lower()}: choose others with --userns "
                "private:HOSTUID:SIZE"
            ) from None
