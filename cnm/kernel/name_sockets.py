"""What a name server needs inside a sandbox: sockets at an address of its loopback, port 53 there led to them.

Packets are rewritten on their way out and on their way back, without connection tracking: nothing is remembered of a
query. A socket keeps its namespace alive, so all are to be closed before the namespace can go.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Sequence
from typing import NamedTuple

from cnm.errors import KernelError, NotFound
from cnm.kernel import nft_rules
from cnm.kernel.namespaces import Namespaces
from cnm.kernel.netlink import NetlinkSocket, Request
from cnm.kernel.nft_rules import Rewrite
from cnm.kernel.nft_transaction import NETLINK_NETFILTER, TransactionSocket

ADDRESS = "127.0.0.11"
"""Docker's, which images know."""
PORT = 53
_TABLE, _CHAIN = "cnm-dns", "output"

_IP_FREEBIND = 15
_SO_RCVBUFFORCE = 33
_SO_NETNS_COOKIE = 71
_RECEIVE_BUFFER = 1 << 20
"""Bytes: what comes while the name server starts anew waits here."""
_BACKLOG = 64


class NameSockets(NamedTuple):
    """Bound, and the TCP one listening."""

    udp: socket.socket
    tcp: socket.socket

    @property
    def ports(self) -> tuple[int, int]:
        """(of UDP, of TCP)."""
        return self.udp.getsockname()[1], self.tcp.getsockname()[1]

    def close(self) -> None:
        self.udp.close()
        self.tcp.close()


def open_sockets(namespaces: Namespaces, path: str) -> NameSockets:
    """With port 53 led to them. Raises NotFound where there is no namespace, KernelError."""
    with namespaces.inside(path):
        sockets = _bound(path)
        try:
            _lead(sockets.ports)
        except BaseException:
            sockets.close()
            raise
    return sockets


def lead(namespaces: Namespaces, path: str, ports: tuple[int, int]) -> None:
    """Lead port 53 to these ports, wherever it was led before."""
    with namespaces.inside(path):
        _lead(ports)


def led_to(namespaces: Namespaces, path: str) -> tuple[int, int] | None:
    """The ports (UDP, TCP) that port 53 is led to; None where that is not, or not wholly, so."""
    with namespaces.inside(path), NetlinkSocket(NETLINK_NETFILTER) as netlink:
        question = Request(nft_rules.GET_RULE, 0, nft_rules.rules_of(_TABLE, _CHAIN), "list rules")
        try:
            rules = [message.payload for message in netlink.dump(question)]
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
    found = tuple(map(nft_rules.rewrite_of, rules[1:]))
    if len(found) != 4 or found[0] is None or found[2] is None or not nft_rules.is_for_loopback(rules[0]):
        return None
    ports = found[0].becomes, found[2].becomes
    return ports if found == _rewrites(ports) else None


def mislead(namespaces: Namespaces, path: str) -> None:
    """Lead port 53 nowhere any more; nothing to undo is fine."""
    with namespaces.inside(path):
        transaction = TransactionSocket()
        try:
            transaction.commit(nft_rules.deletion(_TABLE))
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
        finally:
            _close_behind(transaction)


def open_asking(
    namespaces: Namespaces, path: str, wanted: Sequence[tuple[socket.AddressFamily, socket.SocketKind]]
) -> list[socket.socket]:
    """Sockets to ask others from inside the namespace, one of each sort that is `wanted`."""
    made: list[socket.socket] = []
    try:
        with namespaces.inside(path):
            for family, kind in wanted:
                made.append(socket.socket(family, kind))
    except OSError as error:
        for each in made:
            each.close()
        raise _refused(path, error) from None
    return made


def is_in(namespaces: Namespaces, path: str, one: socket.socket) -> bool:
    """Whether a socket is of the namespace that is at `path` now."""
    try:
        with namespaces.inside(path), socket.socket(socket.AF_UNIX) as probe:
            return _cookie(probe) == _cookie(one)
    except NotFound:
        return False


def _cookie(one: socket.socket) -> bytes:
    """What tells a socket's network namespace from every other since the machine started."""
    return one.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8)


def open_on_host(address: str) -> NameSockets:
    """At port 53 of an address of the calling thread's namespace. Raises KernelError."""
    return _bound(f"the host, at {address}", address, PORT)


def _bound(where: str, address: str = ADDRESS, port: int = 0) -> NameSockets:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    tcp = socket.socket(family, socket.SOCK_STREAM)
    try:
        udp.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
        if port:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for what rests in TIME-WAIT
        for each in (udp, tcp):
            each.setsockopt(
                socket.IPPROTO_IP, _IP_FREEBIND, 1
            )  # the address may come later, as a bridge of Docker's
            each.bind((address, port))
        tcp.listen(_BACKLOG)
    except OSError as error:
        udp.close()
        tcp.close()
        raise _refused(where, error) from None
    return NameSockets(udp, tcp)


def _lead(ports: tuple[int, int]) -> None:
    rewrites = _rewrites(ports)
    transaction = TransactionSocket()
    try:
        transaction.commit(nft_rules.creation(_TABLE, _CHAIN, rewrites))
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        transaction.commit(nft_rules.creation(_TABLE, _CHAIN, rewrites, replace=True))
    finally:
        transaction.close()


def _close_behind(transaction: TransactionSocket) -> None:
    """Closing waits until a table that was deleted is freed, some 10 ms: nobody waits for that."""
    threading.Thread(target=transaction.close, name="nft close", daemon=True).start()


def _rewrites(ports: tuple[int, int]) -> tuple[Rewrite, ...]:
    return tuple(
        rewrite
        for protocol, port in zip((socket.IPPROTO_UDP, socket.IPPROTO_TCP), ports, strict=True)
        for rewrite in (
            Rewrite(protocol, ADDRESS, PORT, port, source=False),
            Rewrite(protocol, ADDRESS, port, PORT, source=True),
        )
    )


def _refused(where: str, error: OSError) -> KernelError:
    number = error.errno or 0
    return KernelError(
        f"cannot open a name server's sockets in {where}: {os.strerror(number).lower()}", number
    )
