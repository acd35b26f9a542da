"""A host of a running topology: what a test does inside one network namespace."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from netns_fixtures import probe, process, sysctl
from netns_fixtures.errors import KernelRefused, NetnsError
from netns_fixtures.namespace import Namespace
from netns_fixtures.outcome import Outcome
from netns_fixtures.server import TcpServer, UdpServer

if TYPE_CHECKING:
    from scapy.packet import Packet

    from netns_fixtures.capture import Capture
    from netns_fixtures.transmit import Transmitter

_SIOCGIFHWADDR = 0x8927


class _Closable(Protocol):
    @property
    def closed(self) -> bool: ...

    def close(self) -> None: ...


C = TypeVar("C", bound=_Closable)


class Host:
    """A network namespace under a name; scapy and pyroute2 are imported only by the methods that need them.

    Topologies make their own hosts. `Host(name, path)` stands for a namespace that something else made:
    closing it closes what was opened through it and leaves the namespace alone. All methods may be called
    from any thread.
    """

    def __init__(self, name: str, path: str | Path) -> None:
        self.name = name
        self._namespace = Namespace(path)
        self._lock = threading.Lock()
        self._open: list[_Closable] = []
        self._transmitters: dict[str, Transmitter] = {}

    def __repr__(self) -> str:
        return f"Host({self.name!r}, {str(self.path)!r})"

    @property
    def path(self) -> Path:
        """The file of the namespace, for `nsenter --net=PATH`, setns(2) and the like."""
        return self._namespace.path

    def enter(self) -> AbstractContextManager[None]:
        """Inside the block the calling thread is in this host; what it opens stays there."""
        return self._namespace.enter()

    def socket(
        self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0
    ) -> socket.socket:
        """A socket of this host, usable from any thread; the caller closes it."""
        return self._namespace.socket(family, kind, protocol)

    def netlink(self) -> AbstractContextManager[Any]:
        """A pyroute2 `IPRoute` of this host, to be used by the calling thread inside the block."""
        from netns_fixtures.build import open_netlink

        return open_netlink(self._namespace)

    def run(
        self,
        command: Sequence[str],
        *,
        check: bool = True,
        timeout: float = 30.0,
        input: str | None = None,
        sysfs: bool = False,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return its output as text.

        CommandFailed after `timeout` seconds and, unless `check` is false, after another exit code than 0.
        With `sysfs` the command sees the host's own /sys. `options` are those of subprocess.Popen (cwd, env).
        """
        where = f'host "{self.name}"'
        return process.run(
            self._namespace,
            command,
            where=where,
            check=check,
            timeout=timeout,
            input=input,
            sysfs=sysfs,
            **options,
        )

    def popen(self, command: Sequence[str], *, sysfs: bool = False, **options: Any) -> process.Process:
        """Start a command and return at once; `close()`, or closing the host, ends its process group."""
        return self.keep(process.start(self._namespace, command, sysfs=sysfs, **options))

    def sysctl(self, key: str, value: str | int | None = None) -> str:
        """Read a value under /proc/sys/net of this host, after setting it if `value` is given."""
        try:
            with self.enter():
                if value is not None:
                    sysctl.write(key, value)
                return sysctl.read(key)
        except OSError as error:
            raise KernelRefused(f'host "{self.name}": sysctl "{key}": {error.strerror}') from error

    def mac(self, interface: str) -> str:
        """The MAC of an interface."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            try:
                answer = fcntl.ioctl(control, _SIOCGIFHWADDR, struct.pack("16s16x", interface.encode()))
            except OSError as error:
                raise NetnsError(
                    f'host "{self.name}": no interface "{interface}": {error.strerror}'
                ) from error
        return answer[18:24].hex(":")

    def addresses(self, interface: str) -> list[str]:
        """The addresses of an interface as CIDR text, link-local ones included, in the kernel's order."""
        with self.netlink() as netlink:
            index = netlink.link_lookup(ifname=interface)
            if not index:
                raise NetnsError(f'host "{self.name}": no interface "{interface}"')
            found = [entry for entry in netlink.get_addr(index=index[0]) if entry["index"] == index[0]]
        return [f"{entry.get('address')}/{entry['prefixlen']}" for entry in found]

    def address(self, interface: str, version: int = 4) -> str:
        """The first IPv4 (or 6) address of an interface that is not link-local, without a prefix length."""
        for text in self.addresses(interface):
            parsed = ipaddress.ip_interface(text)
            if parsed.version == version and not parsed.ip.is_link_local:
                return str(parsed.ip)
        raise NetnsError(f'host "{self.name}": interface "{interface}" has no IPv{version} address')

    def ping(self, address: str, *, timeout: float = 1.0, source: str = "", size: int = 56) -> bool:
        """Whether one ICMP echo request with `size` bytes of data is answered within `timeout` seconds."""
        return probe.ping(self._namespace, address, source=source, timeout=timeout, size=size)

    def connect_tcp(
        self,
        address: str,
        port: int,
        *,
        timeout: float = 0.6,
        source: str = "",
        source_port: int = 0,
        send: bytes = b"",
    ) -> Outcome:
        """Connect to a TCP port, say `send` if given, and report what came of it within `timeout` seconds."""
        return probe.tcp(
            self._namespace, (address, port), source=(source, source_port), timeout=timeout, send=send
        )

    def send_udp(
        self,
        address: str,
        port: int,
        payload: bytes = b"probe",
        *,
        timeout: float = 0.6,
        source: str = "",
        source_port: int = 0,
    ) -> Outcome:
        """Send a datagram to a UDP port and report what came back within `timeout` seconds."""
        return probe.udp(
            self._namespace, (address, port), source=(source, source_port), timeout=timeout, send=payload
        )

    def serve_tcp(
        self, port: int = 0, address: str = "::", *, payload: bytes | None = None, echo: bool = False
    ) -> TcpServer:
        """Answer TCP clients with `payload` (default: the host's name); "::" means IPv4 too; port 0 is any.

        With `echo` a connection stays open after the answer, and what the client sends comes back.
        """
        where = (address, port)
        return self.keep(TcpServer(self._namespace, where, self._payload(payload), echo))

    def serve_udp(self, port: int = 0, address: str = "::", *, payload: bytes | None = None) -> UdpServer:
        """Answer datagrams with `payload` (default: the host's name), from the address they were sent to."""
        return self.keep(UdpServer(self._namespace, (address, port), self._payload(payload)))

    def capture(self, interface: str, filter: Callable[[Packet], bool] | None = None) -> Capture:
        """Collect from now on the packets that pass an interface, in or out, and that `filter` accepts."""
        from netns_fixtures.capture import Capture, any_packet

        where = f"{self.name}:{interface}"
        return self.keep(Capture(self._namespace, interface, filter or any_packet, where))

    def send(self, packet: Packet | bytes, interface: str) -> None:
        """Send an Ethernet frame out of an interface.

        In a scapy packet, sources that were left out (Ether.src, IP.src, IPv6.src, ARP.hwsrc, ARP.psrc)
        become the interface's own; the destination MAC must be given. Bytes are sent as they are.
        """
        self._transmitter(interface).send(packet)

    def keep(self, resource: C) -> C:
        """Have something closed with the host, before what was opened earlier; `closed` says that it is already."""
        with self._lock:
            self._open = [kept for kept in self._open if not kept.closed]
            self._open.append(resource)
        return resource

    def close(self) -> None:
        """End the processes, servers and captures that were opened through this host."""
        with self._lock:
            resources = [*self._open, *self._transmitters.values()]
            self._open, self._transmitters = [], {}
        for resource in reversed(resources):
            resource.close()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _payload(self, given: bytes | None) -> bytes:
        return self.name.encode() if given is None else given

    def _transmitter(self, interface: str) -> Transmitter:
        from netns_fixtures.transmit import Transmitter

        with self._lock:
            if interface not in self._transmitters:
                where = f"{self.name}:{interface}"
                self._transmitters[interface] = Transmitter(
                    self._namespace,
                    interface,
                    mac=lambda: self.mac(interface),
                    address=lambda version: self.address(interface, version),
                    where=where,
                )
            return self._transmitters[interface]
