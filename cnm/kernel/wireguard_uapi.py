"""WireGuard devices of a process (wireguard-go): the text protocol of its control socket, with keys in hex digits.

Source: https://www.wireguard.com/xplatform/. The socket's path is one for the whole machine, not for a namespace.
"""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
from collections.abc import Iterator

from cnm.errors import KernelError, NotFound, Unavailable
from cnm.kernel.wireguard_records import (
    DeviceChange,
    Endpoint,
    PeerStatus,
    WireGuardDevice,
    WireGuardPeer,
    key_bytes,
    split_checked,
)

_DIRECTORY = "/var/run/wireguard"
_ANSWER_SECONDS = 3.0
_NO_KEY = "0" * 64
_RECEIVE_BYTES = 1 << 16
_CREDENTIALS = struct.Struct("=iII")  # struct ucred


class UserspaceDevice:
    """A device of a process of this machine."""

    def __init__(self, name: str) -> None:
        self.name = name

    def change(self, change: DeviceChange) -> None:
        self._ask(set_text(change))

    def read(self) -> WireGuardDevice:
        return parse(self.name, self._ask("get=1\n\n"))

    def _ask(self, question: str) -> str:
        """Raises NotFound where nobody listens, Unavailable where nobody answers, KernelError for a refusal."""
        with _connected(self.name) as channel:
            try:
                channel.sendall(question.encode())
                answer = _received(channel)
            except OSError as error:
                why = "timed out" if isinstance(error, TimeoutError) else error.strerror or str(error)
                raise Unavailable(f"WireGuard interface {self.name} does not answer: {why.lower()}") from None
        number = _errno(answer)
        if number is None:
            raise Unavailable(f"WireGuard interface {self.name} hangs up in the middle of an answer")
        if number:
            why = os.strerror(abs(number)).lower()
            raise KernelError(f"cannot set WireGuard interface {self.name}: {why}", abs(number))
        return answer


def socket_path(name: str) -> str:
    return f"{_DIRECTORY}/{name}.sock"


def owner(name: str) -> int:
    """The process that serves an interface's socket, as the kernel knows it. Raises NotFound where there is none."""
    with _connected(name) as channel:
        credentials = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(credentials)[0])


@contextlib.contextmanager
def _connected(name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(_ANSWER_SECONDS)
        try:
            channel.connect(socket_path(name))
        except OSError as error:
            why = "nobody answers" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise NotFound(f"no process serves WireGuard interface {name}: {why.lower()}") from None
        yield channel


def _received(channel: socket.socket) -> str:
    """An answer ends with an empty line."""
    answer = b""
    while not answer.endswith(b"\n\n"):
        more = channel.recv(_RECEIVE_BYTES)
        if not more:
            break
        answer += more
    return answer.decode(errors="replace")


def _errno(answer: str) -> int | None:
    """Of the last line but one, None where that is missing."""
    _, found, number = answer.rstrip("\n").rpartition("errno=")
    return int(number) if found and number.lstrip("-").isdigit() else None


def set_text(change: DeviceChange) -> str:
    """Raises InvalidParameter for a key or an address that is none."""
    return "".join(f"{line}\n" for line in _set_lines(change)) + "\n"


def _set_lines(change: DeviceChange) -> Iterator[str]:
    yield "set=1"
    if change.private_key is not None:
        yield f"private_key={_hex(change.private_key)}"
    if change.listen_port is not None:
        yield f"listen_port={change.listen_port}"
    if change.replace:
        yield "replace_peers=true"
    for key in change.remove:
        yield f"public_key={_hex(key)}"
        yield "remove=true"
    for peer in change.peers:
        yield from _peer_lines(peer)


def _peer_lines(peer: WireGuardPeer) -> Iterator[str]:
    """The addresses come before the keepalive: that has the device speak to the peer at once."""
    yield f"public_key={_hex(peer.public_key)}"
    yield f"preshared_key={_hex(peer.preshared_key) if peer.preshared_key else _NO_KEY}"
    if peer.endpoint is not None:
        yield f"endpoint={_endpoint_text(peer.endpoint)}"
    yield "replace_allowed_ips=true"
    for cidr in peer.allowed_ips:
        split_checked(cidr)
        yield f"allowed_ip={cidr}"
    yield f"persistent_keepalive_interval={peer.keepalive}"


def _endpoint_text(endpoint: Endpoint) -> str:
    address, port = endpoint
    split_checked(address)
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _hex(key: str) -> str:
    return key_bytes(key).hex()


def parse(name: str, answer: str) -> WireGuardDevice:
    """The answer to get=1."""
    own, peers = _sections(answer)
    statuses = [_parse_peer(section) for section in peers]
    return WireGuardDevice(
        name,
        _key_text(own.get("private_key", _NO_KEY)),
        int(own.get("listen_port", 0)),
        {status.peer.public_key: status for status in statuses},
    )


Section = dict[str, str]


def _sections(answer: str) -> tuple[Section, list[Section]]:
    """(the device's values, each peer's); addresses of one peer in one value, with spaces between them."""
    own: Section = {}
    peers: list[Section] = []
    for line in answer.splitlines():
        key, _, value = line.partition("=")
        if key == "public_key":
            peers.append({})
        section = peers[-1] if peers else own
        section[key] = f"{section[key]} {value}" if key == "allowed_ip" and key in section else value
    return own, peers


def _parse_peer(section: Section) -> PeerStatus:
    peer = WireGuardPeer(
        public_key=_key_text(section["public_key"]),
        endpoint=_endpoint(section["endpoint"]) if section.get("endpoint") else None,
        allowed_ips=tuple(section.get("allowed_ip", "").split()),
        keepalive=int(section.get("persistent_keepalive_interval", 0)),
        preshared_key=_key_text(section.get("preshared_key", _NO_KEY)),
    )
    handshake = int(section.get("last_handshake_time_sec", 0))
    nanoseconds = int(section.get("last_handshake_time_nsec", 0))
    return PeerStatus(
        peer,
        handshake + nanoseconds / 1e9,
        int(section.get("rx_bytes", 0)),
        int(section.get("tx_bytes", 0)),
    )


def _endpoint(text: str) -> Endpoint:
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def _key_text(digits: str) -> str:
    return "" if digits == _NO_KEY else base64.b64encode(bytes.fromhex(digits)).decode()
