"""Which published ports need the relay because NAT cannot serve them, and its upkeep beside the verbs.

NAT does not translate between address families, nor [::1] while br_netfilter is on. Such connections arrive at the
socket that reserves the port, and the relay serves that very socket; everything else never gets there.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from socket import socket

from cnm import ports
from cnm.driver import HostFacts
from cnm.endpoint import Endpoint, PortMapping, Protocol
from cnm.errors import CnmError
from cnm.kernel.reservations import Reservations
from cnm.relays import Relay, Relays, Target

log = logging.getLogger(__name__)

_ANY = ("", "0.0.0.0", "::")


def relay_reason(endpoint: Endpoint, mapping: PortMapping, facts: HostFacts) -> str:
    """Whose source address is lost on a port, in words; "" where the relay is not needed."""
    if not mapping.host_port or mapping.protocol is Protocol.SCTP:
        return ""
    address = mapping.host_address
    if not endpoint.ipv4 and (not address or ":" not in address):
        return "clients over IPv4 are relayed: the container sees the host's address"
    if not endpoint.ipv6 and (not address or ":" in address):
        return "clients over IPv6 are relayed: the container sees the host's address"
    if facts.bridge_nf_ipv6 and address in ("", "::", "::1"):
        return "[::1] is relayed while br_netfilter is on: the container sees the host's address"
    return ""


def relay_target(endpoint: Endpoint, mapping: PortMapping) -> Target:
    """The container's address and port; IPv6 for an IPv6-only listener of a container that has both."""
    both = bool(endpoint.ipv4 and endpoint.ipv6)
    cidr = endpoint.ipv6 if both or not endpoint.ipv4 else endpoint.ipv4
    return cidr.partition("/")[0], mapping.container_port


class Relaying:
    """Hands sockets of `reservations` to the relay from a thread of its own: no verb waits for its process to start."""

    def __init__(self, relays: Relays, reservations: Reservations) -> None:
        self._relays = relays
        self._reservations = reservations
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._idents: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="relaying", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The relay process stays; the next daemon takes it up."""
        self._tasks.put(None)
        self._thread.join()
        self._relays.close()

    def held(self) -> Mapping[str, socket]:
        """Sockets that a relay kept while no daemon ran, by the names of `ident`; the caller owns them."""
        return self._relays.start()

    def serve(self, endpoint: Endpoint, mappings: Iterable[PortMapping], facts: HostFacts) -> None:
        """Begin to relay what needs it of newly published ports; returns at once."""
        wanted = dict(self._wanted(endpoint, mappings, facts))
        if wanted:
            self._idents.update(wanted)
            self._tasks.put(_Task(serve=wanted))

    def drop(self, mappings: Iterable[PortMapping]) -> None:
        """Stop relaying ports that are about to be released; returns when the relay holds their sockets no more."""
        idents = [i for single in ports.singles(mappings) if (i := ident(single)) in self._idents]
        if idents:
            self._idents.difference_update(idents)
            task = _Task(drop=idents)
            self._tasks.put(task)
            task.done.result()

    def reconcile(self, endpoints: Iterable[Endpoint], facts: HostFacts) -> None:
        """Serve exactly what `endpoints` need, after a start or when br_netfilter was switched."""
        wanted: dict[str, tuple[Protocol, socket, Target]] = {}
        for endpoint in endpoints:
            wanted.update(self._wanted(endpoint, endpoint.ports, facts))
        self._idents = set(wanted)
        self._tasks.put(_Task(serve=wanted, only=True))

    def _wanted(
        self, endpoint: Endpoint, mappings: Iterable[PortMapping], facts: HostFacts
    ) -> Iterator[tuple[str, tuple[Protocol, socket, Target]]]:
        for mapping in mappings:
            if not relay_reason(endpoint, mapping, facts):
                continue
            for single in ports.singles((mapping,)):
                holder = self._reservations.socket_of(single)
                if holder is not None:
                    yield ident(single), (single.protocol, _duplicate(holder), relay_target(endpoint, single))

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                self._do(task)
            except CnmError as error:
                log.error("%s", error)
            finally:
                for _protocol, holder, _target in task.serve.values():
                    holder.close()
                task.done.set_result(None)

    def _do(self, task: _Task) -> None:
        relays = {
            name: Relay(protocol.value, holder.fileno(), target)
            for name, (protocol, holder, target) in task.serve.items()
        }
        if task.only:
            self._relays.reconcile(relays)
        else:
            self._relays.update(relays, task.drop)


class _Task:
    """Something for the relay to do; `only`: and nothing else is to be served."""

    def __init__(
        self,
        serve: Mapping[str, tuple[Protocol, socket, Target]] | None = None,
        drop: Iterable[str] = (),
        only: bool = False,
    ) -> None:
        self.serve = serve or {}
        self.drop = drop
        self.only = only
        self.done: Future[None] = Future()


def _duplicate(holder: socket) -> socket:
    """`socket.dup` would set the timeout too, which makes the socket a blocking one for the relay that serves it."""
    return socket(fileno=os.dup(holder.fileno()))


def ident(single: PortMapping) -> str:
    """The relay's name for a single port."""
    return f"{single.protocol.value} {single.host_address or '*'} {single.host_port}"
