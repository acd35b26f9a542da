"""`python -m bench.dns_flood SERVER SECONDS NAMES`: a client that spends less than dnsperf on each query.

It asks in batches, by sendmmsg(2) and recvmmsg(2), which Python has not.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import sys
import time
from collections.abc import Sequence

import dns.edns
import dns.message

from bench.dns_clients import name

_BATCH = 50
_ANSWER_BYTES = 512
_MSG_WAITFORONE = 0x10000
_PATIENCE_MICROSECONDS = 500_000


class _Piece(ctypes.Structure):
    """struct iovec"""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr"""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("pieces", ctypes.POINTER(_Piece)),
        ("pieces_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


class _Batch:
    """Datagrams that are sent, or received, in one call; their memory is there as long as this is."""

    def __init__(self, contents: Sequence[bytes]) -> None:
        self._buffers = [ctypes.create_string_buffer(content, len(content)) for content in contents]
        self._pieces = [_Piece(ctypes.addressof(each), len(each)) for each in self._buffers]
        self.messages = (_Message * len(contents))()
        for message, piece in zip(self.messages, self._pieces, strict=True):
            message.header.pieces, message.header.pieces_count = ctypes.pointer(piece), 1


def _flood(server: str, seconds: float, names: int) -> float:
    """Answers per second. Queries whose answer does not come in half a second are given up."""
    libc = ctypes.CDLL(None, use_errno=True)
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, bytes(8))
    queries = [dns.message.make_query(name(n), "A", id=n, options=[cookie]).to_wire() for n in range(names)]
    batches = [_Batch(queries[n : n + _BATCH]) for n in range(0, names - _BATCH + 1, _BATCH)]
    answers = _Batch([bytes(_ANSWER_BYTES)] * _BATCH)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((server, 53))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 0, _PATIENCE_MICROSECONDS))
        began, answered, outstanding, turn = time.monotonic(), 0, 0, 0
        while time.monotonic() - began < seconds:
            while outstanding <= _BATCH:
                outstanding += libc.sendmmsg(client.fileno(), batches[turn].messages, _BATCH, 0)
                turn = (turn + 1) % len(batches)
            got = libc.recvmmsg(client.fileno(), answers.messages, _BATCH, _MSG_WAITFORONE, None)
            if got < 0:
                outstanding = 0
                continue
            answered += got
            outstanding -= got
        return answered / (time.monotonic() - began)


if __name__ == "__main__":
    print(_flood(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
