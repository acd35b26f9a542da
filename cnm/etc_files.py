"""The files that a sandbox's programs see in /etc: hosts, hostname, resolv.conf, one directory a sandbox.

They live as long as the sandbox. Written in place, since they may be bound over files in other mount namespaces; what
its user wrote into them stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from cnm import etc_hosts, resolv_conf
from cnm.errors import CnmError, KernelError
from cnm.kernel.contract import Kernel
from cnm.naming import Attached, is_served
from cnm.sandbox import HOST_GATEWAY, Sandbox, SandboxKind

log = logging.getLogger(__name__)

_RESOLVED_FILE = "/run/systemd/resolve/resolv.conf"
_HOSTS = "/etc/hosts"
_GENERATED = "resolv.conf.hash"
"""Of what we wrote last: another content is the user's."""


class Paths(NamedTuple):
    """Of a sandbox's files."""

    hosts: str
    hostname: str
    resolv_conf: str


class EtcFiles:
    """Of all sandboxes, below `root`. `host_file` is the host's resolv.conf. Callers hold the sandbox's lock."""

    def __init__(self, root: str, kernel: Kernel, host_file: str) -> None:
        self._root = os.path.join(root, "sandboxes")
        self._kernel = kernel
        self._host_file = host_file

    def paths(self, sandbox: Sandbox) -> Paths:
        """ "" for a sandbox that has none: dockerd keeps those of its own."""
        if sandbox.kind is SandboxKind.DOCKERD:
            return Paths("", "", "")
        directory = self._directory(sandbox)
        return Paths(*(os.path.join(directory, name) for name in ("hosts", "hostname", "resolv.conf")))

    def create(self, sandbox: Sandbox, host_addresses: Sequence[str]) -> None:
        """`host_addresses` are the host's, as the sandbox reaches it. Raises KernelError, leaving nothing."""
        if sandbox.kind is SandboxKind.DOCKERD:
            return
        try:
            os.makedirs(self._directory(sandbox), mode=0o755, exist_ok=True)
            paths = self.paths(sandbox)
            _write(paths.hosts, self._first_hosts(sandbox, host_addresses))
            _write(paths.hostname, f"{sandbox.hostname or os.uname().nodename}\n")
            self._generate(sandbox, ())
        except OSError as error:
            self.delete(sandbox)
            raise _refused(sandbox, error) from None

    def joined(self, sandbox: Sandbox, joined: Attached, others: Sequence[Attached]) -> None:
        """Raises KernelError."""
        self._update(sandbox, (*others, joined), add=_addresses(joined))

    def left(self, sandbox: Sandbox, left: Attached, others: Sequence[Attached]) -> None:
        """Raises KernelError."""
        self._update(sandbox, others, remove=_addresses(left))

    def delete(self, sandbox: Sandbox) -> None:
        """Nothing there is fine."""
        shutil.rmtree(self._directory(sandbox), ignore_errors=True)

    def restore(self, sandbox: Sandbox, attached: Sequence[Attached], host_addresses: Sequence[str]) -> None:
        """At start-up: what is missing is made anew, and what a crash left out is made up for."""
        if sandbox.kind is SandboxKind.DOCKERD:
            return
        try:
            if not all(map(os.path.exists, self.paths(sandbox))):
                self.create(sandbox, host_addresses)
            if sandbox.hostname:
                hosts = self.paths(sandbox).hosts
                addresses = [address for each in attached for address in _addresses(each)]
                _rewrite(hosts, lambda text: etc_hosts.settled(text, sandbox.hostname, addresses))
            self._generate(sandbox, attached)
        except (OSError, CnmError) as error:
            log.error("the files of sandbox %s are not right: %s", sandbox.name, error)

    def drop_strangers(self, known: Iterable[Sandbox]) -> None:
        """Delete the files of sandboxes that are no more."""
        names = {sandbox.id for sandbox in known}
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._root):
                if name not in names:
                    shutil.rmtree(os.path.join(self._root, name), ignore_errors=True)

    def host_servers(self) -> tuple[str, ...]:
        """Whom the host asks."""
        return resolv_conf.parse(_read(self._host_file)).servers

    def _directory(self, sandbox: Sandbox) -> str:
        return os.path.join(self._root, sandbox.id)

    def _first_hosts(self, sandbox: Sandbox, host_addresses: Sequence[str]) -> str:
        extra = [
            (name, address)
            for name, given in sandbox.etc.extra_hosts
            for address in (host_addresses if given == HOST_GATEWAY else (given,))
        ]
        if sandbox.kind is SandboxKind.HOST:
            return _read(_HOSTS) + "".join(f"{address}\t{name}\n" for name, address in extra)
        return etc_hosts.first(extra, ipv6=self._kernel.loopback_has_ipv6(sandbox.netns))

    def _update(
        self,
        sandbox: Sandbox,
        attached: Sequence[Attached],
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
    ) -> None:
        if sandbox.kind not in (SandboxKind.OWN, SandboxKind.GIVEN):
            return
        try:
            hosts = self.paths(sandbox).hosts
            _rewrite(hosts, lambda text: etc_hosts.changed(text, sandbox.hostname, add, remove))
            self._generate(sandbox, attached)
        except OSError as error:
            raise _refused(sandbox, error) from None

    def _generate(self, sandbox: Sandbox, attached: Sequence[Attached]) -> None:
        """resolv.conf, unless somebody has changed it. Raises OSError."""
        path = self.paths(sandbox).resolv_conf
        seal = os.path.join(self._directory(sandbox), _GENERATED)
        now = _read(path)
        if now and _digest(now) != _read(seal).strip():
            return
        text = self._resolv_conf(sandbox, attached)
        if text != now:
            _write(path, text)
            _write(seal, f"{_digest(text)}\n")

    def _resolv_conf(self, sandbox: Sandbox, attached: Sequence[Attached]) -> str:
        path, host_text = self._host_file, _read(self._host_file)
        host, etc = resolv_conf.parse(host_text), sandbox.etc
        if sandbox.kind is SandboxKind.HOST and not (etc.dns or etc.dns_search or etc.dns_options):
            return host_text
        if is_served(sandbox, attached):
            return resolv_conf.inside(host, path, etc)
        if resolv_conf.is_stub(host) and (beyond := _read(_RESOLVED_FILE)):
            path, host = _RESOLVED_FILE, resolv_conf.parse(beyond)
        ipv6 = any(each.endpoint.ipv6 for each in attached)
        return resolv_conf.outside(host, path, etc, ipv6=ipv6)


def _addresses(attached: Attached) -> list[str]:
    cidrs = (attached.endpoint.ipv4, attached.endpoint.ipv6)
    return [cidr.partition("/")[0] for cidr in cidrs if cidr]


def _read(path: str) -> str:
    """ "" where there is nothing."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def _write(path: str, text: str) -> None:
    """In place and in one piece: a reader sees the old text or the new, for a moment with the old one's end."""
    content = text.encode("utf-8", "surrogateescape")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))
    finally:
        os.close(descriptor)


def _rewrite(path: str, change: Callable[[str], str]) -> None:
    text = _read(path)
    if (after := change(text)) != text:
        _write(path, after)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _refused(sandbox: Sandbox, error: OSError) -> KernelError:
    number = error.errno or 0
    where = error.filename or "its directory"
    return KernelError(
        f"cannot write the files of sandbox {sandbox.name}: {where}: {os.strerror(number).lower()}", number
    )
