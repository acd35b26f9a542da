"""Ports of the host, held by real sockets, so that a clash with any program is seen at once.

A port on every address is one dual-stack socket. None sets SO_REUSEADDR: others that do could bind the same port.
TCP sockets are bound and do not listen: a connection that NAT does not take is refused. UDP sockets drop what reaches
them. A relay that is handed such a socket listens on it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence

from cnm import ports
from cnm.endpoint import PortMapping, PortRequest, Protocol
from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, KernelError, Unavailable
from cnm.kernel.ephemeral_ports import EphemeralPorts

_SO_ATTACH_FILTER = 26
_TIME_WAIT = "06"
"""As /proc/net/tcp writes it."""
_DROP_ALL = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0))
"""One BPF instruction: return 0 bytes of the packet."""

_ANY = ("", "0.0.0.0", "::")

_Key = tuple[Protocol, str, int]


class Reservations:
    """The host ports that this process holds, in the namespace of the calling threads. Thread-safe.

    SCTP ports are held on paper only, against others of ours: many kernels have no sockets of that type, and asking
    for one would load it into those that can.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[_Key, socket.socket | None] = {}
        self._sctp: dict[int, set[str]] = {}
        """Host addresses by port."""
        self._lost: dict[_Key, PortMapping] = {}
        self._ephemeral = EphemeralPorts()
        self._dual_stack = _has_ipv6()

    def reserve(self, requests: Sequence[PortRequest]) -> tuple[PortMapping, ...]:
        """Hold a host port for each container port asked for, fixed ones first; all or none, in the order asked.

        Raises Conflict "port is already allocated", Unavailable "all ports are allocated" when a range is used up,
        InvalidParameter for an address that is not the host's and for ranges of different lengths.
        """
        held: list[list[PortMapping]] = [[] for _ in requests]
        with self._lock:
            free = self._ephemeral.candidates()
            try:
                for index in sorted(range(len(requests)), key=lambda i: _is_open(requests[i])):
                    for candidates in _wanted(requests[index], free):
                        held[index].append(self._hold_first_locked(candidates, requests[index]))
            except BaseException:
                self._release_locked(mapping for mappings in held for mapping in mappings)
                raise
        return ports.ranges(mapping for mappings in held for mapping in mappings)

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
            try:
                self._held[key] = holder or self._holder_locked(single)
            except Conflict:
                self._lost[key] = single
                raise
            self._lost.pop(key, None)

    def lost(self) -> tuple[PortMapping, ...]:
        """Single ports that another program took while nobody held them."""
        with self._lock:
            return tuple(self._lost.values())

    def socket_of(self, single: PortMapping) -> socket.socket | None:
        """The socket of a single port; None for one that is not held by a socket."""
        with self._lock:
            return self._held.get(_key(single))

    def _hold_first_locked(self, candidates: Iterable[PortMapping], request: PortRequest) -> PortMapping:
        """Of one candidate the clash itself is raised; of many, that all are taken."""
        tried = 0
        clash: Conflict | None = None
        for mapping in candidates:
            tried += 1
            try:
                self._held[_key(mapping)] = self._holder_locked(mapping)
            except Conflict as error:
                clash = error
                continue
            return mapping
        if clash is not None and tried == 1:
            raise clash
        asked = f"{request.host_port}-{request.host_port_end}" if request.host_port else "the ephemeral range"
        raise Unavailable(
            f"all ports are allocated: no free port in {asked}, ask for other ports or unpublish some"
        )

    def _holder_locked(self, mapping: PortMapping) -> socket.socket | None:
        if mapping.protocol is not Protocol.SCTP:
            return _bound(mapping, dual_stack=self._dual_stack)
        addresses = self._sctp.setdefault(mapping.host_port, set())
        if any(_overlap(address, mapping.host_address) for address in addresses):
            raise _taken(mapping)
        addresses.add(mapping.host_address)
        return None

    def _release_locked(self, mappings: Iterable[PortMapping]) -> None:
        for single in ports.singles(mappings):
            holder = self._held.pop(_key(single), None)
            self._lost.pop(_key(single), None)
            if single.protocol is Protocol.SCTP:
                self._sctp.get(single.host_port, set()).discard(single.host_address)
            if holder is not None:
                holder.close()


def _wanted(request: PortRequest, free: Iterator[int]) -> Iterator[Iterable[PortMapping]]:
    """For each container port the mappings to try, the first one that is free to be taken."""
    last = request.container_port_end or request.container_port
    count = last - request.container_port + 1
    host_count = max(request.host_port_end - request.host_port + 1, 1)
    if not request.host_port:
        for container_port in range(request.container_port, last + 1):
            yield (_single(request, container_port, port) for port in free)
    elif count == 1:
        host_ports = range(request.host_port, request.host_port + host_count)
        yield (_single(request, request.container_port, port) for port in host_ports)
    elif count == host_count:
        for offset in range(count):
            yield (_single(request, request.container_port + offset, request.host_port + offset),)
    else:
        raise InvalidParameter(
            f"ranges {request.host_port}-{request.host_port_end or request.host_port} of the host and "
            f"{request.container_port}-{last} of the container differ in length"
        )


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


def _overlap(one: str, other: str) -> bool:
    """Whether two host addresses have one in common: all of a family have with each of it."""
    if one == other or "" in (one, other):
        return True
    return (":" in one) == (":" in other) and (one in _ANY or other in _ANY)


def _bound(mapping: PortMapping, *, dual_stack: bool) -> socket.socket:
    both = dual_stack and not mapping.host_address
    family = socket.AF_INET6 if both or ":" in mapping.host_address else socket.AF_INET
    kind = socket.SOCK_STREAM if mapping.protocol is Protocol.TCP else socket.SOCK_DGRAM
    holder: socket.socket | None = None
    try:
        holder = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        if family == socket.AF_INET6:
            holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        if kind == socket.SOCK_DGRAM:
            _drop_all(holder)
        _bind(holder, (mapping.host_address or ("::" if both else "0.0.0.0"), mapping.host_port))
    except OSError as error:
        if holder is not None:
            holder.close()
        raise _explained(error, mapping) from None
    return holder


def _bind(holder: socket.socket, address: tuple[str, int]) -> None:
    """Connections that a relay served here rest for a minute (TIME-WAIT): they alone do not keep the port."""
    try:
        holder.bind(address)
    except OSError as error:
        if (
            error.errno != errno.EADDRINUSE
            or holder.type != socket.SOCK_STREAM
            or not _only_rests(address[1])
        ):
            raise
        # For the bind only, so that nobody else can share the port afterwards.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(address)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


def _only_rests(port: int) -> bool:
    """Whether TCP sockets on this port of the host are listed, and all of them are connections that have ended."""
    states = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError), open(f"/proc/thread-self/net/{table}") as file:
            next(file)
            for line in file:
                local, _remote, state = line.split()[1:4]
                if int(local.rpartition(":")[2], 16) == port:
                    states.add(state)
    return states == {_TIME_WAIT}


def _drop_all(holder: socket.socket) -> None:
    """Keep a socket that nobody reads from filling up."""
    program = struct.pack("@HP", 1, ctypes.addressof(_DROP_ALL))
    holder.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _failed(mapping: PortMapping) -> str:
    """Docker's words."""
    host = mapping.host_address or "0.0.0.0"
    return f"Bind for {f'[{host}]' if ':' in host else host}:{mapping.host_port} failed"


def _taken(mapping: PortMapping) -> Conflict:
    return Conflict(f"{_failed(mapping)}: port is already allocated: choose another host port")


def _explained(error: OSError, mapping: PortMapping) -> CnmError:
    if error.errno == errno.EADDRINUSE:
        return _taken(mapping)
    if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
        return InvalidParameter(f"{_failed(mapping)}: {mapping.host_address} is not an address of this host")
    if error.errno == errno.EACCES:
        return Forbidden(f"{_failed(mapping)}: permission denied: ports below 1024 need CAP_NET_BIND_SERVICE")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return Unavailable(
            "no more files can be opened: raise cnmd's limit of open files, each port needs one"
        )
    return KernelError(f"{_failed(mapping)}: {(error.strerror or 'unknown error').lower()}", error.errno or 0)


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True
