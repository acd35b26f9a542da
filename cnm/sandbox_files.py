"""The hosts, hostname and resolv.conf of each sandbox, which `cnmctl sandbox exec` puts over those of the host.

They are made with the sandbox, follow what it joins and leaves, and go with it. Whoever edits resolv.conf keeps it: a
digest beside it tells what was written here. In hosts only the lines about the sandbox itself are touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

from cnm import hosts_file, resolv_conf
from cnm.config import Settings
from cnm.endpoint import Endpoint, EndpointState
from cnm.errors import CnmError, InvalidParameter
from cnm.hosts_file import Line
from cnm.kernel.contract import Kernel
from cnm.model import Model
from cnm.network import DEFAULT_NETWORK
from cnm.resolv_conf import HostFile
from cnm.sandbox import HOST_GATEWAY, Sandbox, SandboxKind
from cnm.store import in_place

_RESOLVED = "/run/systemd/resolve/resolv.conf"
"""The servers behind systemd-resolved's stub."""
_OURS = re.compile(r"[0-9a-f]{64}\Z")
_BLANK = b"\n\0 "
"""All that a power cut may leave of a file."""

log = logging.getLogger(__name__)


class HostFiles:
    """The host's resolv.conf and hosts; read again when they changed. `etc` and `resolved` are where they are."""

    def __init__(self, etc: str, resolved: str = _RESOLVED) -> None:
        self._resolv_conf = os.path.join(etc, "resolv.conf")
        self._hosts = os.path.join(etc, "hosts")
        self._resolved = resolved
        self._known: dict[str, tuple[object, HostFile]] = {}

    def own_resolv_conf(self) -> HostFile:
        """What programs of the host go by; a missing file is an empty one."""
        return self._read(self._resolv_conf)

    def resolv_conf(self) -> HostFile:
        """With the servers that answer: behind systemd-resolved's stub, those that it asks itself."""
        own = self.own_resolv_conf()
        if resolv_conf.is_stub(own.text):
            behind = self._read(self._resolved)
            return behind if behind.text else own
        return own

    def hosts(self) -> str:
        return self._read(self._hosts).text

    def state(self) -> tuple[object, ...]:
        """Differs when a file does."""
        return tuple(map(_signature, (self._resolv_conf, self._resolved, self._hosts)))

    def _read(self, path: str) -> HostFile:
        signature = _signature(path)
        known = self._known.get(path)
        if known is None or known[0] != signature:
            try:
                text = _decoded(in_place.read(path))
            except OSError as error:
                raise _failure("read", path, error) from None
            known = self._known[path] = signature, HostFile(path, text)
        return known[1]


class SandboxFiles:
    """Callers hold the sandbox's lock; `created`, `joined` and `left` are undone by what they push on `undo`.

    Nothing is done for sandboxes of dockerd's, which has files of its own for them.
    """

    def __init__(self, settings: Settings, kernel: Kernel, model: Model) -> None:
        self.host = HostFiles(settings.etc)
        self._directory = settings.sandboxes
        self._kernel = kernel
        self._model = model
        self._host_state = self.host.state()
        self._digests: dict[str, frozenset[str]] = {}
        """Of what resolv.conf said as it was written here, by the ids of sandboxes, as far as they were read."""

    def paths(self, sandbox: Sandbox) -> tuple[str, str, str]:
        """Of its hosts, hostname and resolv.conf; "" for a sandbox of dockerd's."""
        if sandbox.kind is SandboxKind.DOCKERD:
            return "", "", ""
        place = self._place(sandbox)
        return f"{place}/hosts", f"{place}/hostname", f"{place}/resolv.conf"

    def resolves(self, sandbox: Sandbox) -> bool:
        """Whether names are looked up by the resolver inside: it is on a network that a user made."""
        return self._needs_resolver(sandbox, self._joined(sandbox))

    # Verbs

    def created(self, sandbox: Sandbox, undo: contextlib.ExitStack) -> None:
        """Raises InvalidParameter where an extra host is the host's gateway, and the host has no address."""
        if sandbox.kind is SandboxKind.DOCKERD:
            return
        undo.callback(self.deleted, sandbox)
        gateway_lines = self._gateway_lines(sandbox)
        if not gateway_lines and _gateway_names(sandbox):
            raise InvalidParameter(
                f"unable to derive the IP value for {HOST_GATEWAY}: the host has no default route, "
                "and network bridge was never used"
            )
        self._make(sandbox, gateway_lines)

    def joined(self, sandbox: Sandbox, endpoint: Endpoint, undo: contextlib.ExitStack) -> None:
        """`endpoint`, whose state in the model is not JOINED yet, is in it now."""
        self._follow(sandbox, [*self._joined(sandbox), endpoint], undo)

    def left(self, sandbox: Sandbox, undo: contextlib.ExitStack) -> None:
        """The endpoint that leaves is not JOINED in the model any more."""
        self._follow(sandbox, self._joined(sandbox), undo)

    def deleted(self, sandbox: Sandbox) -> None:
        self._digests.pop(sandbox.id, None)
        if sandbox.kind is not SandboxKind.DOCKERD:
            _remove(self._place(sandbox))

    # Upkeep

    def start(self) -> None:
        """Make what is missing and right what a killed process left; what belongs to no sandbox goes."""
        sandboxes = {sandbox.id: sandbox for sandbox in self._model.sandboxes()}
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                if name not in sandboxes and _OURS.match(name):
                    _remove(os.path.join(self._directory, name))
        for sandbox in sandboxes.values():
            self.refresh(sandbox)

    def host_changed(self) -> bool:
        """Whether a file of the host has changed since this was asked last."""
        before, self._host_state = self._host_state, self.host.state()
        return self._host_state != before

    def refresh(self, sandbox: Sandbox) -> None:
        """As if it was made now, but for what somebody edited. What cannot be written is logged."""
        if sandbox.kind is SandboxKind.DOCKERD:
            return
        try:
            self._make(sandbox, self._gateway_lines(sandbox))
        except CnmError as error:
            log.warning("sandbox %s: %s", sandbox.name, error)

    def _make(self, sandbox: Sandbox, gateway_lines: Sequence[Line]) -> None:
        """All its files, for the endpoints that are joined; those that are there are brought up to date."""
        hosts, hostname, resolv = self.paths(sandbox)
        endpoints = self._joined(sandbox)
        _rewrite(hosts, partial(self._hosts_made, sandbox, endpoints, gateway_lines))
        _rewrite(hostname, partial(_hostname, sandbox))
        self._write_resolv_conf(resolv, sandbox, endpoints)

    def _follow(self, sandbox: Sandbox, endpoints: list[Endpoint], undo: contextlib.ExitStack) -> None:
        if sandbox.kind in (SandboxKind.DOCKERD, SandboxKind.HOST):
            return  # the host's files do not depend on networks
        hosts, _, resolv = self.paths(sandbox)
        _rewrite(hosts, partial(self._hosts_followed, sandbox, endpoints), undo)
        self._write_resolv_conf(resolv, sandbox, endpoints, undo)

    def _place(self, sandbox: Sandbox) -> str:
        return f"{self._directory}/{sandbox.id}"

    def _joined(self, sandbox: Sandbox) -> list[Endpoint]:
        inside = self._model.endpoints_of_sandbox(sandbox.id)
        return [endpoint for endpoint in inside if endpoint.state is EndpointState.JOINED]

    # hosts

    def _hosts_made(
        self, sandbox: Sandbox, endpoints: list[Endpoint], gateway_lines: Sequence[Line], text: str
    ) -> str:
        if sandbox.kind is SandboxKind.HOST and not sandbox.resolution.extra_hosts:
            return self.host.hosts() or hosts_file.build((), self._kernel.has_ipv6(sandbox.netns))
        own, ipv6 = _own_lines(sandbox, endpoints), self._kernel.has_ipv6(sandbox.netns)
        fixed = _fixed_lines(sandbox)
        if not text:
            return hosts_file.build([*fixed, *gateway_lines, *own], ipv6)
        names = {hosts_file.own_names(sandbox.hostname), *(line.names for line in gateway_lines)}
        lines = [*_about(names, fixed), *gateway_lines, *own]
        return hosts_file.revise(text, names, lines, ipv6)

    def _hosts_followed(self, sandbox: Sandbox, endpoints: list[Endpoint], text: str) -> str:
        gateway_lines = self._gateway_lines(sandbox)
        if not text:
            return self._hosts_made(sandbox, endpoints, gateway_lines, text)
        names = {hosts_file.own_names(sandbox.hostname)}
        lines = [
            *_about(names, [*_fixed_lines(sandbox), *gateway_lines]),
            *_own_lines(sandbox, endpoints),
        ]
        return hosts_file.revise(text, names, lines, self._kernel.has_ipv6(sandbox.netns))

    def _gateway_lines(self, sandbox: Sandbox) -> list[Line]:
        names = _gateway_names(sandbox)
        addresses = self._gateway_addresses() if names else ()
        return [Line(address, name) for name in names for address in addresses]

    def _gateway_addresses(self) -> Sequence[str]:
        """Where the host answers: on network bridge as in Docker, else on its uplink."""
        pools = self._model.network(DEFAULT_NETWORK).pools
        gateways = [pool.gateway for pool in pools if pool.gateway]
        return gateways or self._kernel.uplink_addresses()

    # resolv.conf

    def _needs_resolver(self, sandbox: Sandbox, endpoints: Sequence[Endpoint]) -> bool:
        return sandbox.kind is not SandboxKind.HOST and any(
            not self._model.network(endpoint.network_id).predefined for endpoint in endpoints
        )

    def _resolv_conf(self, sandbox: Sandbox, endpoints: Sequence[Endpoint]) -> str:
        asked = sandbox.resolution
        if sandbox.kind is SandboxKind.HOST:
            return resolv_conf.of_the_host(self.host.own_resolv_conf(), asked)
        if self._needs_resolver(sandbox, endpoints):
            return resolv_conf.internal(self.host.resolv_conf(), asked)
        ipv6 = any(endpoint.ipv6 for endpoint in endpoints)
        return resolv_conf.legacy(self.host.resolv_conf(), asked, ipv6)

    def _write_resolv_conf(
        self,
        path: str,
        sandbox: Sandbox,
        endpoints: Sequence[Endpoint],
        undo: contextlib.ExitStack | None = None,
    ) -> None:
        """Unless somebody edited it. Its digest is there first: a process killed in between leaves one of both."""
        text = self._resolv_conf(sandbox, endpoints)

        def change(before: str) -> str:
            if before == text:
                return before
            known = self._known_digests(sandbox, path) if before else frozenset()
            if known and _digest(before) not in known:
                return before
            if _digest(text) not in known:
                self._announce(sandbox, path, text, before)
            return text

        _rewrite(path, change, undo)

    def _known_digests(self, sandbox: Sandbox, path: str) -> frozenset[str]:
        """Of what was written there; without any nothing is known to be edited, as in Docker."""
        known = self._digests.get(sandbox.id)
        if known is None:
            try:
                known = frozenset(_decoded(in_place.read(f"{path}.hash")).split())
            except OSError as error:
                raise _failure("read", f"{path}.hash", error) from None
            self._digests[sandbox.id] = known
        return known

    def _announce(self, sandbox: Sandbox, path: str, text: str, before: str) -> None:
        """What is about to be written, and what will be with a resolver: most sandboxes get one, and wait for it."""
        texts = (text, before, resolv_conf.internal(self.host.resolv_conf(), sandbox.resolution))
        digests = sorted({_digest(each) for each in texts if each})
        _rewrite(f"{path}.hash", lambda _: "".join(f"{digest}\n" for digest in digests))
        self._digests[sandbox.id] = frozenset(digests)


def _own_lines(sandbox: Sandbox, endpoints: Sequence[Endpoint]) -> Iterator[Line]:
    names = hosts_file.own_names(sandbox.hostname)
    for endpoint in endpoints:
        for cidr in filter(None, (endpoint.ipv4, endpoint.ipv6)):
            yield Line(cidr.partition("/")[0], names)


def _fixed_lines(sandbox: Sandbox) -> list[Line]:
    extra = sandbox.resolution.extra_hosts
    return [Line(host.address, host.name) for host in extra if host.address != HOST_GATEWAY]


def _gateway_names(sandbox: Sandbox) -> list[str]:
    return [host.name for host in sandbox.resolution.extra_hosts if host.address == HOST_GATEWAY]


def _about(names: set[str], lines: Sequence[Line]) -> list[Line]:
    return [line for line in lines if line.names in names]


def _hostname(sandbox: Sandbox, text: str) -> str:
    """What somebody wrote stays; the host's own name is followed."""
    if sandbox.hostname:
        return text or f"{sandbox.hostname}\n"
    return f"{os.uname().nodename}\n"


@lru_cache(maxsize=64)
def _digest(text: str) -> str:
    """Without the lines' ends at the text's, of which a process killed in writing may leave too many."""
    return hashlib.sha256(_encoded(text.rstrip("\n"))).hexdigest()


def _rewrite(path: str, change: Callable[[str], str], undo: contextlib.ExitStack | None = None) -> None:
    """`change` is given "" for a file that is missing, or has nothing in it; its directory is made, if need be."""

    def changed(before: bytes) -> bytes:
        return _encoded(change(_decoded(before) if before.strip(_BLANK) else ""))

    try:
        try:
            before = in_place.rewrite(path, changed)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            before = in_place.rewrite(path, changed)
    except OSError as error:
        raise _failure("write", path, error) from None
    if before is not None and undo is not None:
        undo.callback(_restore, path, before)


def _restore(path: str, content: bytes) -> None:
    try:
        in_place.rewrite(path, lambda _: content)
    except OSError as error:
        log.warning("%s", _failure("restore", path, error))


def _remove(directory: str) -> None:
    try:
        shutil.rmtree(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s", _failure("remove", directory, error))


def _failure(doing: str, path: str, error: OSError) -> CnmError:
    return CnmError(f"cannot {doing} {path}: {os.strerror(error.errno or 0).lower()}")


def _signature(path: str) -> object:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _decoded(content: bytes) -> str:
    return content.decode(errors="surrogateescape")


def _encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
