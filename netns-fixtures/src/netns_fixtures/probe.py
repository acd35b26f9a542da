"""Ask a server something over TCP, UDP or ICMP echo, from inside a namespace and without a child process."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from typing import Any

from netns_fixtures.errors import KernelRefused
from netns_fixtures.namespace import Namespace
from netns_fixtures.outcome import Address, Outcome, Status, is_complete, outcome_of
from netns_fixtures.sockets import family_of, plain, socket_address

_REFUSED = {errno.ECONNREFUSED}
_UNREACHABLE = {
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.EADDRNOTAVAIL,
    errno.EACCES,
    errno.EPERM,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
}
"""ICMP errors as connect(2) reports them (icmp(7)), no route, no source address, a local firewall."""
_ICMP_ERRORS = _REFUSED | _UNREACHABLE

_IP_RECVERR = 11
_IPV6_RECVERR = 25
"""Of <linux/in.h> and <linux/in6.h>, absent from the socket module."""

_BUFFER = 65536
_ECHO_REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
_ECHO_REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}


def tcp(namespace: Namespace, target: Address, *, source: Address, timeout: float, send: bytes) -> Outcome:
    """Connect, say `send`, and read until the server has said all or `timeout` seconds have passed."""
    deadline = time.monotonic() + timeout
    with _client(namespace, socket.SOCK_STREAM, target, source) as client:
        try:
            _connect(client, socket_address(namespace, target), timeout)
            return _conversation(client, send, deadline)
        except OSError as error:
            return _failure(error, client)


def udp(namespace: Namespace, target: Address, *, source: Address, timeout: float, send: bytes) -> Outcome:
    """Send one datagram and wait up to `timeout` seconds for one back from where it was sent to."""
    with _client(namespace, socket.SOCK_DGRAM, target, source) as client:
        try:
            _report_icmp_errors(client)
            client.settimeout(timeout)
            client.connect(socket_address(namespace, target))
            client.send(send)
            received = client.recv(_BUFFER)
        except OSError as error:
            return _failure(error, client)
        return outcome_of(received, plain(client.getsockname()), plain(client.getpeername()))


def ping(namespace: Namespace, address: str, *, source: str, timeout: float, size: int) -> bool:
    """Whether one ICMP echo request with `size` bytes of data is answered within `timeout` seconds."""
    family = family_of(address)
    token = os.urandom(8)
    body = token + bytes(max(0, size - len(token)))
    deadline = time.monotonic() + timeout
    with namespace.socket(family, socket.SOCK_RAW, _PROTOCOL[family]) as raw:
        _bind(namespace, raw, (source, 0))
        try:
            _report_icmp_errors(raw)
            raw.connect(socket_address(namespace, (address, 0)))
            raw.send(_echo_request(family, body))
        except OSError as error:
            if error.errno in _ICMP_ERRORS:
                return False
            raise
        return _await_reply(raw, family, token, deadline)


def _client(namespace: Namespace, kind: int, target: Address, source: Address) -> socket.socket:
    client = namespace.socket(family_of(target[0]), kind)
    try:
        _bind(namespace, client, source)
    except KernelRefused:
        client.close()
        raise
    return client


def _bind(namespace: Namespace, client: socket.socket, source: Address) -> None:
    """Choose the source of a probe; a source that cannot be had is a mistake of the test, not an outcome."""
    if source == ("", 0):
        return
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.bind(socket_address(namespace, source))
    except OSError as error:
        raise KernelRefused(f"source {source[0]} port {source[1]} cannot be used: {error}") from error


def _report_icmp_errors(client: socket.socket) -> None:
    """Ask for all ICMP errors; by default a socket hears of some only (ip(7), IP_RECVERR)."""
    if client.family == socket.AF_INET6:
        client.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        client.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def _connect(client: socket.socket, address: tuple[Any, ...], timeout: float) -> None:
    """Like connect(2), but an ICMP error ends it at once.

    One that arrives while connect(2) still holds the socket, as it may between namespaces, is merely noted by the
    kernel, which means to try again a second later; SO_ERROR shows the note.
    """
    client.setblocking(False)
    try:
        client.connect(address)
    except BlockingIOError:
        _raise_pending_error(client)
        poll = select.poll()
        poll.register(client, select.POLLOUT)
        ready = poll.poll(timeout * 1000)
        _raise_pending_error(client)
        if not ready:
            raise TimeoutError("timed out") from None


def _raise_pending_error(client: socket.socket) -> None:
    if number := client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        raise OSError(number, os.strerror(number))


def _conversation(client: socket.socket, send: bytes, deadline: float) -> Outcome:
    local, peer = plain(client.getsockname()), plain(client.getpeername())
    received, error = b"", ""
    try:
        if send:
            client.sendall(send)
        while not is_complete(received):
            client.settimeout(max(0.001, deadline - time.monotonic()))
            chunk = client.recv(_BUFFER)
            if not chunk:
                break
            received += chunk
    except TimeoutError:
        if not received:
            return Outcome(Status.TIMEOUT, local=local, peer=peer, error="connected, but nothing came")
    except OSError as reset:
        error = str(reset.strerror)
    if not received:
        return Outcome(Status.CLOSED, local=local, peer=peer, error=error)
    return outcome_of(received, local, peer)


def _failure(error: OSError, client: socket.socket) -> Outcome:
    local = plain(client.getsockname())
    words = error.strerror or str(error)
    if isinstance(error, TimeoutError):
        return Outcome(Status.TIMEOUT, local=local, error=words)
    if error.errno in _REFUSED:
        return Outcome(Status.REFUSED, local=local, error=words)
    if error.errno in (errno.ECONNRESET, errno.ENOTCONN):  # not connected any more: the peer reset at once
        return Outcome(Status.CLOSED, local=local, error=words)
    if error.errno in _UNREACHABLE:
        return Outcome(Status.UNREACHABLE, local=local, error=words)
    raise error


def _echo_request(family: int, body: bytes) -> bytes:
    """RFC 792 and RFC 4443; the kernel adds the checksum of ICMPv6, since it knows the pseudo header."""
    kind = _ECHO_REQUEST[socket.AddressFamily(family)]
    header = struct.pack("!BBHHH", kind, 0, 0, 1, 1)
    checksum = _checksum(header + body) if family == socket.AF_INET else 0
    return struct.pack("!BBHHH", kind, 0, checksum, 1, 1) + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _await_reply(raw: socket.socket, family: int, token: bytes, deadline: float) -> bool:
    """Read until the reply with our token comes; a raw socket hears the replies to everyone's requests."""
    while (left := deadline - time.monotonic()) > 0:
        try:
            raw.settimeout(left)
            message = raw.recv(_BUFFER)
        except OSError as error:
            if isinstance(error, TimeoutError) or error.errno in _ICMP_ERRORS:
                return False
            raise
        header = (message[0] & 0x0F) * 4 if family == socket.AF_INET else 0
        is_reply = message[header] == _ECHO_REPLY[socket.AddressFamily(family)]
        if is_reply and message[header + 8 :].startswith(token):
            return True
    return False
