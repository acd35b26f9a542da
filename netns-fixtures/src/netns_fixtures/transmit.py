"""Send packets at layer 2 out of an interface, without letting scapy consult routes or neighbours.

scapy fills in missing addresses from the namespace in which it happens to run, and resolves MACs by sending
ARP there. Here what is missing is taken from the interface itself, and a missing destination MAC is an error.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet

from netns_fixtures.errors import KernelRefused
from netns_fixtures.namespace import Namespace


class Transmitter:
    """The sending side of one interface; its socket stays open, since closing one takes 20 ms."""

    def __init__(
        self,
        namespace: Namespace,
        interface: str,
        mac: Callable[[], str],
        address: Callable[[int], str],
        where: str,
    ) -> None:
        self._where = where
        self._mac = mac
        self._address = address
        self._lock = threading.Lock()
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW)
        try:
            self._socket.bind((interface, 0))
        except OSError as error:
            self._socket.close()
            raise KernelRefused(f"cannot send on {where}: {error.strerror}") from error

    def send(self, packet: Packet | bytes) -> None:
        """Send one frame; KernelRefused if the interface is down or the frame longer than its MTU allows."""
        frame = packet if isinstance(packet, bytes) else bytes(self._completed(packet))
        try:
            with self._lock:
                self._socket.send(frame)
        except OSError as error:
            raise KernelRefused(
                f"cannot send {len(frame)} bytes on {self._where}: {error.strerror}"
            ) from error

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._socket.fileno() == -1

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _completed(self, packet: Packet) -> Packet:
        """A copy in which every source that was left out is the interface's own."""
        if not isinstance(packet, Ether):
            raise ValueError(
                f"{self._where}: a frame starts with Ether(dst=...), this packet with {packet.name}"
            )
        if packet.getfieldval("dst") is None:
            raise ValueError(f"{self._where}: the packet has no destination MAC; give Ether(dst=...)")
        packet = packet.copy()
        if packet.getfieldval("src") is None:
            packet.src = self._mac()
        layer: Packet | None = packet.payload
        while layer:
            self._complete_layer(layer)
            layer = layer.payload
        return packet

    def _complete_layer(self, layer: Packet) -> None:
        if isinstance(layer, IP | IPv6) and layer.getfieldval("src") is None:
            layer.src = self._address(layer.version)
        if isinstance(layer, ARP) and layer.getfieldval("hwsrc") is None:
            layer.hwsrc = self._mac()
        if isinstance(layer, ARP) and layer.getfieldval("psrc") is None:
            layer.psrc = self._address(4)
