"""Legacy links (`--link` on the default network): hosts entries and variables of the containers that are linked to.

On networks that users made a link is a name of the endpoint's, and cnmd's to serve.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from cnm.errors import CnmError, Conflict, InvalidParameter, NotFound
from cnm.hosts_file import Line
from cnm.launcher.container import Container
from cnm.launcher.link_variables import variables
from cnm.launcher.modes import is_host, shared_with
from cnm.launcher.registry import Registry
from cnm.launcher.sandboxes import PREDEFINED, Sandbox, Sandboxes
from cnm.store import in_place
from cnm.wire.containers import HostConfig

_NETWORK = "bridge"
_ON_HOSTS_NETWORK = (
    "conflicting options: host type networking can't be used with links. "
    "This would result in undefined behavior"
)


class Linked(NamedTuple):
    """A running container that another one is linked to."""

    alias: str
    container: Container
    addresses: tuple[str, ...]
    """On the default network, IPv4 first; bare."""

    @property
    def lines(self) -> list[Line]:
        """Of a hosts file: the alias, what the container calls itself, and its name."""
        names = [self.alias, self.container.config.hostname or self.container.short]
        if self.alias != self.container.name:
            names.append(self.container.name)
        return [Line(address, " ".join(names)) for address in self.addresses]


class Links:
    """A container's record keeps its links as "ID:ALIAS": a container that is renamed stays linked.

    The words are Docker's (daemon/daemon_unix.go and container_operations.go of 20.10).
    """

    def __init__(self, registry: Registry, sandboxes: Sandboxes) -> None:
        self._registry = registry
        self._sandboxes = sandboxes

    def settled(self, host: HostConfig) -> HostConfig:
        """As it is kept. Raises InvalidParameter for a link that is none, or to a container that there is not."""
        if not host.links or not _is_on_default(host):
            return host
        return msgspec.structs.replace(host, links=[self._settled(text) for text in host.links])

    def _settled(self, text: str) -> str:
        name, alias = parsed(text)
        target = self._found(name, f"could not get container for {name}")
        while other := shared_with(target.host.network_mode):
            target = self._found(other, f"Could not get container for {other}")
        if is_host(target.host.network_mode):
            raise InvalidParameter(_ON_HOSTS_NETWORK)
        return f"{target.id}:{alias}"

    def _found(self, reference: str, text: str) -> Container:
        try:
            return self._registry.find(reference)
        except NotFound as error:
            raise InvalidParameter(f"{text}: {error}") from None

    def shown(self, container: Container) -> list[str] | None:
        """As Docker shows them: "/TARGET:/NAME/ALIAS"."""
        if not _is_on_default(container.host):
            return container.host.links
        found = [f"/{target.name}:/{container.name}/{alias}" for target, alias in self._targets(container)]
        return found or None

    def linked(self, container: Container) -> list[Linked]:
        """Raises CnmError for one that does not run, or is not on the default network."""
        return [self._linked(container, target, alias) for target, alias in self._targets(container)]

    def _linked(self, container: Container, target: Container, alias: str) -> Linked:
        if not target.state.status.is_alive:
            raise CnmError(
                f"Cannot link to a non running container: /{target.name} AS /{container.name}/{alias}"
            )
        addresses = self._addresses(target)
        if not addresses:
            raise CnmError(f"Cannot link to /{target.name}, as it does not belong to the default network")
        return Linked(alias, target, addresses)

    def _addresses(self, container: Container) -> tuple[str, ...]:
        """None where it has no sandbox. Raises Unavailable: without cnmd nobody knows whether there are any."""
        for endpoint in self._endpoints(container):
            if endpoint["Network"] == _NETWORK:
                return tuple(
                    _bare(endpoint, key) for key in ("IPv4Address", "IPv6Address") if endpoint.get(key)
                )
        return ()

    def _endpoints(self, container: Container) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = self._sandboxes.record(container.id)["Endpoints"]
        except NotFound:
            return []
        return found

    def _targets(self, container: Container) -> Iterator[tuple[Container, str]]:
        """Those that are there still, with their aliases."""
        for text in container.host.links or () if _is_on_default(container.host) else ():
            ident, _, alias = text.partition(":")
            if self._registry.is_there(ident):
                yield self._registry.get(ident), alias

    def remove(self, name: str) -> None:
        """`name` is of the link, "PARENT/ALIAS"; variables in the environment of what runs stay.

        Raises NotFound for one that there is not, Conflict for a container's own name.
        """
        parent, _, alias = name.strip("/").rpartition("/")
        if not parent:
            self._registry.find(alias)
            raise Conflict("Conflict, cannot remove the default link name of the container")
        with self._registry.locked(parent) as container:
            target = next((each for each, known in self._targets(container) if known == alias), None)
            if target is None:
                raise NotFound(f"No such container: {name}")
            kept = [text for text in container.host.links or () if text != f"{target.id}:{alias}"]
            host = msgspec.structs.replace(container.host, links=kept or None)
            self._registry.put(msgspec.structs.replace(container, host=host))
            if container.state.status.is_alive:
                path = self._sandboxes.find(container.id).hosts
                _replace_lines(path, Linked(alias, target, ("",)).lines, [])

    def follow(self, started: Container) -> None:
        """It has begun another life: containers that are linked to it find it at its new addresses."""
        for container in self._registry.all():
            for target, alias in self._targets(container) if container.state.status.is_alive else ():
                if target.id == started.id and (addresses := self._addresses(started)):
                    path = self._sandboxes.find(container.id).hosts
                    write_lines(path, Linked(alias, started, addresses).lines)


def environment(container: Container, linked: Sequence[Linked]) -> tuple[str, ...]:
    """Variables of all links."""
    found: list[str] = []
    for each in linked:
        other = each.container.config
        name = f"/{container.name}/{each.alias}"
        found += variables(name, each.alias, each.addresses[0], other.exposed_ports or (), other.env or ())
    return tuple(found)


def write_hosts(sandbox: Sandbox, linked: Sequence[Linked]) -> None:
    """Into the sandbox's file, whose other lines stay. Raises CnmError."""
    for each in linked:
        write_lines(sandbox.hosts, each.lines)


def write_lines(path: str, lines: Sequence[Line]) -> None:
    """In the place of those with the same names. Raises CnmError."""
    _replace_lines(path, lines, lines)


def _replace_lines(path: str, like: Sequence[Line], lines: Sequence[Line]) -> None:
    """`lines` in the place of those that have the names of one of `like`. Raises CnmError."""
    names = {line.names for line in like}

    def changed(content: bytes) -> bytes:
        kept = [line for line in content.decode().splitlines() if line.partition("\t")[2] not in names]
        return "\n".join([*kept, *map(str, lines), ""]).encode()

    try:
        in_place.rewrite(path, changed)
    except OSError as error:
        raise CnmError(f"cannot write {path}: {os.strerror(error.errno or 0).lower()}") from None


def parsed(text: str) -> tuple[str, str]:
    """(name or id, alias) of NAME, NAME:ALIAS or what Docker shows of a container, /NAME:/OTHER/ALIAS."""
    if not text:
        raise InvalidParameter("empty string specified for links")
    name, separator, alias = text.partition(":")
    if ":" in alias:
        raise InvalidParameter(f"bad format for links: {text}")
    if not separator:
        return name, name
    if name.startswith("/"):
        return name[1:], alias.rpartition("/")[2]
    return name, alias


def _is_on_default(host: HostConfig) -> bool:
    mode = host.network_mode or _NETWORK
    return mode in (*PREDEFINED, "default")


def _bare(endpoint: Any, key: str) -> str:
    return str(endpoint[key]).partition("/")[0]
