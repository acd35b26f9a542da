"""A sandbox that wants an address of its network: it asks for its MAC until somebody tells, then for an echo."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from netns_fixtures import Host
from tests.cluster.hosts import ClusterHost

_ARP, _IPV4 = 0x0806, 0x0800
_ARP_REPLY, _ECHO_REQUEST, _ECHO_REPLY = 2, 8, 0
_ICMP = 1
_BROADCAST = b"\xff" * 6
_IDENT = 0x636E
_FRAME_BYTES = 2048


class Prober:
    """In a sandbox of its own, on the network, on this host."""

    def __init__(self, host: ClusterHost, network: str) -> None:
        self._host, self._name = host, f"prober-{host.name}"
        sandbox = host.cnmd.create_sandbox(self._name)
        endpoint = host.cnmd.connect(network, self._name)
        self._ip = socket.inet_aton(str(endpoint["IPv4Address"]).partition("/")[0])
        self._mac = bytes.fromhex(str(endpoint["MacAddress"]).replace(":", ""))
        box = Host(self._name, Path(sandbox["NetnsPath"]))
        self._socket = box.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        self._socket.bind((str(endpoint["IfName"]), 0x0003))
        self._socket.setblocking(False)
        self._target, self._at = b"", b""

    def __enter__(self) -> Prober:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()
        self._host.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{self._name}?force=1")

    def fileno(self) -> int:
        return self._socket.fileno()

    def aim(self, address: str) -> None:
        """At bare IPv4 text; what came before is not heard any more."""
        self._target, self._at = socket.inet_aton(address), b""

    def ask(self) -> None:
        """For the MAC where it is not known yet, else for an echo."""
        if not self._at:
            arp = struct.pack(
                "!HHBBH6s4s6s4s", 1, _IPV4, 6, 4, 1, self._mac, self._ip, bytes(6), self._target
            )
            self._socket.send(_BROADCAST + self._mac + struct.pack("!H", _ARP) + arp)
            return
        echo = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, _IDENT, 1)
        echo = echo[:2] + struct.pack("!H", _checksum(echo)) + echo[4:]
        head = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 20 + len(echo), 0, 0, 64, _ICMP, 0, self._ip, self._target
        )
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        self._socket.send(self._at + self._mac + struct.pack("!H", _IPV4) + head + echo)

    def hears(self) -> bool:
        """Read what has come: whether an echo of the target is in it. Asks at once when the MAC is known."""
        while True:
            try:
                frame = self._socket.recv(_FRAME_BYTES)
            except BlockingIOError:
                return False
            kind = frame[12:14]
            if kind == struct.pack("!H", _ARP) and frame[21] == _ARP_REPLY and frame[28:32] == self._target:
                if not self._at:
                    self._at = frame[22:28]
                    self.ask()
            elif self._is_echo(frame):
                return True

    def _is_echo(self, frame: bytes) -> bool:
        is_icmp = frame[12:14] == struct.pack("!H", _IPV4) and frame[23] == _ICMP
        return is_icmp and frame[26:30] == self._target and frame[34] == _ECHO_REPLY


def _checksum(data: bytes) -> int:
    """Of the internet (RFC 1071); `data` has an even length."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
