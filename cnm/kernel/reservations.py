"""Ports of the host, held by real sockets, so that a clash with any program is seen at once.

A port on every address is one dual-stack socket. TCP sockets are bound but do not listen: a connection that NAT does
not take is refused. UDP sockets drop what reaches them. A relay that is handed such a socket listens on it.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence

from cnm import ports
from cnm.endpoint import PortMapping, PortRequest, Protocol
from cnm.errors import Conflict, InvalidParameter, KernelError, Unavailable
from cnm.kernel import sysctls

_SO_ATTACH_FILTER = 26
_DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
"""One BPF instruction: return 0 bytes of the packet."""
_FALLBACK_RANGE = (49153, 65535)

_Key = tuple[Protocol, str, int]


class Reservations:
    """The host ports that this process holds, in the namespace of the calling threads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[_Key, socket.socket | None] = {}
        self._lost: dict[_Key, PortMapping] = {}
        self._last_ephemeral = 0
        self._dual_stack = _has_ipv6()

    def reserve(self, requests: Sequence[PortRequest]) -> tuple[PortMapping, ...]:
        """Hold a host port for each container port asked for, explicit single ones first; all or none.

        Raises Conflict "port is already allocated", Unavailable when a range is used up, InvalidParameter for an
        address that is not the host's.
        """
        held: list[PortMapping] = []
        with self._lock:
            try:
                for request in sorted(requests, key=_is_open):
                    held += self._reserve_one(request)
            except BaseException:
                self._release_locked(held)
                raise
        return ports.ranges(held)

    def release(self, mappings: Iterable[PortMapping]) -> None:
        """Let go of the host ports; what is not held is fine."""
        with self._lock:
            self._release_locked(mappings)

    def restore(self, single: PortMapping, holder: socket.socket | None = None) -> None:
        """Hold a single port again after a restart, by the socket `holder` if somebody kept one.

        Raises Conflict when another program took it meanwhile; it is among `lost` then.
        """
        key = _key(single)
        with self._lock:
            if not single.host_port or key in self._held:
                return
            if holder is not None:
                self._held[key] = holder
                return
            try:
                self._hold(single)
            except Conflict:
                self._lost[key] = single
                raise
            self._lost.pop(key, None)

    def lost(self) -> tuple[PortMapping, ...]:
        """Single ports that another program took while nobody held them."""
        with self._lock:
            return tuple(self._lost.values())

    def socket_of(self, mapping: PortMapping) -> socket.socket | None:
        """The socket of a single port; None for SCTP, which this project holds on paper only."""
        with self._lock:
            return self._held.get(_key(mapping))

    def _reserve_one(self, request: PortRequest) -> Iterator[PortMapping]:
        first, last = request.container_port, request.container_port_end or request.container_port
        host_last = request.host_port_end or request.host_port
        for offset in range(last - first + 1):
            if not request.host_port:
                yield self._ephemeral(request, first + offset)
            elif last == first and host_last > request.host_port:
                yield self._first_free(request, first, range(request.host_port, host_last + 1))
            else:
                yield self._hold(_single(request, first + offset, request.host_port + offset))

    def _ephemeral(self, request: PortRequest, container_port: int) -> PortMapping:
        """The port after the one given out last, as Docker does, so that a port rests before it is used again."""
        first, last, reserved = _ephemeral_range()
        start = self._last_ephemeral + 1 if first <= self._last_ephemeral < last else first
        candidates = (p for p in (*range(start, last + 1), *range(first, start)) if p not in reserved)
        mapping = self._first_free(request, container_port, candidates)
        self._last_ephemeral = mapping.host_port
        return mapping

    def _first_free(
        self, request: PortRequest, container_port: int, candidates: Iterable[int]
    ) -> PortMapping:
        for port in candidates:
            try:
                return self._hold(_single(request, container_port, port))
            except Conflict:
                continue
        asked = f"{request.host_port}-{request.host_port_end}" if request.host_port else "the ephemeral range"
        raise Unavailable(f"all ports are allocated: no free port for {container_port} in {asked}")

    def _hold(self, mapping: PortMapping) -> PortMapping:
        key = _key(mapping)
        if mapping.protocol is Protocol.SCTP:
            if key in self._held:
                raise _taken(mapping)
            self._held[key] = None
        else:
            self._held[key] = self._bound(mapping)
        return mapping

    def _bound(self, mapping: PortMapping) -> socket.socket:
        dual = not mapping.host_address and self._dual_stack
        family = socket.AF_INET6 if dual or ":" in mapping.host_address else socket.AF_INET
        stream = mapping.protocol is Protocol.TCP
        holder = socket.socket(
            family, (socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) | socket.SOCK_CLOEXEC
        )
        try:
            if family == socket.AF_INET6:
                holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
            if not stream:
                _drop_all(holder)
            holder.bind((mapping.host_address or ("::" if dual else "0.0.0.0"), mapping.host_port))
        except OSError as error:
            holder.close()
            raise _explained(error, mapping) from None
        return holder

    def _release_locked(self, mappings: Iterable[PortMapping]) -> None:
        for single in ports.singles(mappings):
            holder = self._held.pop(_key(single), None)
            self._lost.pop(_key(single), None)
            if holder is not None:
                holder.close()


def _is_open(request: PortRequest) -> bool:
    """Whether the choice of a host port is left to us in some measure."""
    return not request.host_port or bool(request.host_port_end and not request.container_port_end)


def _key(mapping: PortMapping) -> _Key:
    return mapping.protocol, mapping.host_address, mapping.host_port


def _single(request: PortRequest, container_port: int, host_port: int) -> PortMapping:
    return PortMapping(
        protocol=request.protocol,
        container_port=container_port,
        host_port=host_port,
        host_address=request.host_address,
    )


def _taken(mapping: PortMapping) -> Conflict:
    host = mapping.host_address or "0.0.0.0"
    where = f"[{host}]" if ":" in host else host
    return Conflict(
        f"Bind for {where}:{mapping.host_port} failed: port is already allocated: choose another host port"
    )


def _explained(error: OSError, mapping: PortMapping) -> Exception:
    if error.errno == errno.EADDRINUSE:
        return _taken(mapping)
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidParameter(f"cannot publish on {mapping.host_address}: it is no address of this host")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable(
            "no more files can be opened: raise cnmd's limit of open files, each port needs one"
        )
    return KernelError(f"cannot bind port {mapping.host_port}: {error.strerror}", error.errno or 0)


def _drop_all(holder: socket.socket) -> None:
    """Keep a socket that nobody reads from filling up."""
    program = struct.pack("@HP", 1, ctypes.addressof(_DROP_ALL))
    holder.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _ephemeral_range() -> tuple[int, int, frozenset[int]]:
    """First and last port of the host's ephemeral range, and those in it that are reserved."""
    limits = (sysctls.read("net/ipv4/ip_local_port_range") or "").split()
    first, last = (int(limits[0]), int(limits[1])) if len(limits) == 2 else _FALLBACK_RANGE
    return first, last, frozenset(_parse_ranges(sysctls.read("net/ipv4/ip_local_reserved_ports") or ""))


def _parse_ranges(text: str) -> Iterator[int]:
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        yield from range(int(low), int(high or low) + 1)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
