"""The nouns in memory: found by id, name or prefix, and by what they belong to. Thread-safe, never blocks for long."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from cnm.endpoint import TRANSITIONS, Endpoint
from cnm.errors import Conflict, Forbidden, InvalidParameter, NotFound
from cnm.network import Network
from cnm.sandbox import Sandbox

_N = TypeVar("_N", Network, Sandbox, Endpoint)
_Any = TypeVar("_Any", bound=Network | Sandbox | Endpoint)

SHORT = 12
"""Hex digits of a short id."""


def new_id() -> str:
    """64 hex digits. Docker's rule: the first 12 are never all decimal, or a short id could pass for a number."""
    while True:
        ident = secrets.token_hex(32)
        if not ident[:SHORT].isdecimal():
            return ident


class Model:
    """What exists. Records are immutable: a change replaces the record under its id."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._networks: dict[str, Network] = {}
        self._sandboxes: dict[str, Sandbox] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._of_network: dict[str, dict[str, None]] = {}
        self._of_sandbox: dict[str, dict[str, None]] = {}
        self._network_names: dict[str, str] = {}
        self._sandbox_names: dict[str, str] = {}
        self._endpoint_names: dict[tuple[str, str], str] = {}
        """Id by name, and for an endpoint by its network's id and its name."""
        self.network_name_freed: Callable[[], None] = lambda: None
        """Called whenever a network's name is free again, by whoever freed it: it must not block."""

    # Reading

    def networks(self) -> list[Network]:
        with self._lock:
            return list(self._networks.values())

    def sandboxes(self) -> list[Sandbox]:
        with self._lock:
            return list(self._sandboxes.values())

    def endpoints(self) -> list[Endpoint]:
        with self._lock:
            return list(self._endpoints.values())

    def endpoints_of_network(self, network_id: str) -> list[Endpoint]:
        with self._lock:
            return [self._endpoints[i] for i in self._of_network.get(network_id, ())]

    def endpoints_of_sandbox(self, sandbox_id: str) -> list[Endpoint]:
        with self._lock:
            return [self._endpoints[i] for i in self._of_sandbox.get(sandbox_id, ())]

    def network(self, ref: str) -> Network:
        with self._lock:
            return _find("network", ref, self._networks, self._network_names)

    def sandbox(self, ref: str) -> Sandbox:
        with self._lock:
            return _find("sandbox", ref, self._sandboxes, self._sandbox_names)

    def endpoint(self, ref: str) -> Endpoint:
        """By id, id prefix, or `NETWORK/NAME`."""
        with self._lock:
            network_ref, slash, name = ref.rpartition("/")
            if not slash:
                return self._endpoint_by_id(ref)
            network = self.network(network_ref)
            ident = self._endpoint_names.get((network.id, name))
            if ident is None:
                raise NotFound(f"endpoint {name} not found on network {network.name}")
            return self._endpoints[ident]

    def _endpoint_by_id(self, ref: str) -> Endpoint:
        try:
            return _find("endpoint", ref, self._endpoints, {})
        except NotFound as error:
            raise NotFound(f"{error}: name it NETWORK/NAME, or by its id") from None

    # Writing

    def add_network(self, network: Network) -> None:
        """Raises Conflict when the name is taken, or the id."""
        with self._lock:
            if network.name in self._network_names:
                raise Conflict(f"network with name {network.name} already exists")
            if network.id in self._networks:
                raise Conflict(f"network with id {network.id[:SHORT]} already exists")
            self._network_names[network.name] = network.id
            self._networks[network.id] = network

    def add_sandbox(self, sandbox: Sandbox) -> None:
        with self._lock:
            if sandbox.id in self._sandboxes:
                raise Conflict(f"sandbox with id {sandbox.id[:SHORT]} already exists")
            other = self._sandbox_names.get(sandbox.name)
            if other is not None:
                raise Conflict(
                    f'the name "{sandbox.name}" is in use by sandbox {other[:SHORT]}: '
                    "remove that sandbox, or choose another name"
                )
            self._sandbox_names[sandbox.name] = sandbox.id
            self._sandboxes[sandbox.id] = sandbox

    def add_endpoint(self, endpoint: Endpoint) -> None:
        """Raises Forbidden, as Docker does, when the network has an endpoint of that name; Conflict for a taken id."""
        with self._lock:
            if endpoint.id in self._endpoints:
                raise Conflict(f"endpoint {endpoint.id[:SHORT]} exists already on another network")
            key = (endpoint.network_id, endpoint.name)
            if key in self._endpoint_names:
                network = self._networks[endpoint.network_id].name
                raise Forbidden(f"endpoint with name {endpoint.name} already exists in network {network}")
            self._endpoint_names[key] = endpoint.id
            self._endpoints[endpoint.id] = endpoint
            self._of_network.setdefault(endpoint.network_id, {})[endpoint.id] = None
            if endpoint.sandbox_id:
                self._of_sandbox.setdefault(endpoint.sandbox_id, {})[endpoint.id] = None

    def rename(self, noun: _Any, name: str) -> _Any:
        """The noun under its new name. Raises Conflict when that is taken."""
        with self._lock:
            names, place = self._names_of(noun)
            if names.get(place(name), noun.id) != noun.id:
                raise Conflict(f"the name {name} is in use already")
            renamed = msgspec.structs.replace(noun, name=name)
            del names[place(noun.name)]
            names[place(name)] = noun.id
            self.replace(renamed)
            if isinstance(noun, Network):
                self.network_name_freed()
            return renamed

    def _names_of(self, noun: Network | Sandbox | Endpoint) -> tuple[dict[Any, str], Callable[[str], Any]]:
        """(ids by name among its like, what a name is there)."""
        if isinstance(noun, Endpoint):
            network_id = noun.network_id
            return self._endpoint_names, lambda name: (network_id, name)
        return (self._network_names if isinstance(noun, Network) else self._sandbox_names), str

    def replace(self, noun: Network | Sandbox | Endpoint) -> None:
        """Put a changed record in the place of the one with the same id; names do not change."""
        with self._lock:
            if isinstance(noun, Network):
                self._networks[noun.id] = noun
            elif isinstance(noun, Sandbox):
                self._sandboxes[noun.id] = noun
            else:
                self._replace_endpoint(noun)

    def exchange(self, before: Endpoint, after: Endpoint) -> None:
        """Replace `before` by `after` if nobody changed it meanwhile and the transition is legal, else Conflict."""
        with self._lock:
            if self._endpoints.get(before.id) is not before:
                raise Conflict(f"endpoint {before.name} was changed by another request meanwhile: try again")
            if after.state is not before.state and after.state not in TRANSITIONS[before.state]:
                raise Conflict(
                    f"endpoint {before.name} is {before.state.value}: it cannot become {after.state.value}"
                )
            self._replace_endpoint(after)

    def _replace_endpoint(self, endpoint: Endpoint) -> None:
        before = self._endpoints[endpoint.id]
        self._endpoints[endpoint.id] = endpoint
        if before.sandbox_id != endpoint.sandbox_id:
            self._of_sandbox.get(before.sandbox_id, {}).pop(endpoint.id, None)
            if endpoint.sandbox_id:
                self._of_sandbox.setdefault(endpoint.sandbox_id, {})[endpoint.id] = None

    def drop(self, noun: Network | Sandbox | Endpoint) -> None:
        with self._lock:
            if isinstance(noun, Network):
                if self._networks.pop(noun.id, None):
                    del self._network_names[noun.name]
                    self.network_name_freed()
                self._of_network.pop(noun.id, None)
            elif isinstance(noun, Sandbox):
                if self._sandboxes.pop(noun.id, None):
                    del self._sandbox_names[noun.name]
                self._of_sandbox.pop(noun.id, None)
            elif noun.id in self._endpoints:
                sandbox_id = self._endpoints.pop(noun.id).sandbox_id
                self._endpoint_names.pop((noun.network_id, noun.name), None)
                self._of_network.get(noun.network_id, {}).pop(noun.id, None)
                self._of_sandbox.get(sandbox_id, {}).pop(noun.id, None)


def _find(kind: str, ref: str, nouns: Mapping[str, _N], names: Mapping[str, str]) -> _N:
    """Docker's order: full id, exact name, unique prefix of an id."""
    if not ref:
        raise InvalidParameter(f"a {kind}'s name or id must not be empty")
    if ref in nouns:
        return nouns[ref]
    if ref in names:
        return nouns[names[ref]]
    return _only(kind, ref, (noun for ident, noun in nouns.items() if ident.startswith(ref)))


def _only(kind: str, ref: str, found: Iterable[_N]) -> _N:
    matches = list(found)
    if len(matches) > 1:
        raise InvalidParameter(f"{kind} {ref} is ambiguous ({len(matches)} matches found on ID prefix)")
    if not matches:
        raise NotFound(f"{kind} {ref} not found")
    return matches[0]
