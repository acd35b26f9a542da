"""Who asks in `bench.names`: dnsperf, and a client that spends less than it on each query.

As a program (`python -m bench.dns_clients SERVER SECONDS NAMES`) it is that client.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import NamedTuple

import dns.edns
import dns.message

from netns_fixtures import Host
from tests.support import unpacked

OUTSTANDING = 20
_RATE = re.compile(r"Queries per second:\s+([\d.]+)")
_LATENCY = re.compile(r"Average Latency \(s\):\s+([\d.]+) \(min [\d.]+, max ([\d.]+)\)")
_LOST = re.compile(r"Queries lost:\s+(\d+)")
_GOOD = re.compile(r"Response codes:\s+NOERROR \d+ \(100\.00%\)")
_BATCH = 50
_ANSWER_BYTES = 512
_MSG_WAITFORONE = 0x10000
_PATIENCE_MICROSECONDS = 500_000


class Answered(NamedTuple):
    """What dnsperf tells of a run."""

    rate: float
    """Answers per second."""
    average: float
    longest: float
    """Microseconds from a query to its answer."""
    lost: int


class Target(NamedTuple):
    """Who answers, seen from the namespace of `host`."""

    host: Host
    address: str
    names: Sequence[str]


def dnsperf(target: Target, seconds: int, outstanding: int, *, processor: int, rate: int = 0) -> Answered:
    """Ask for the addresses of the names, with EDNS, on this processor; at most `rate` a second where that is given.

    Raises RuntimeError with its output where an answer is an error, or dnsperf fails.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".queries") as queries:
        queries.writelines(f"{name} A\n" for name in target.names)
        queries.flush()
        command = [
            *("taskset", "-c", str(processor), str(unpacked.program("dnsperf")), "-e"),
            *("-s", target.address, "-d", queries.name, "-l", str(seconds)),
            *("-q", str(outstanding), "-c", "4" if outstanding > 1 else "1"),
            *(("-Q", str(rate)) if rate else ()),
        ]
        environment = {**os.environ, **unpacked.environment()}
        output, _ = target.host.popen(command, env=environment, stdout=subprocess.PIPE).communicate()
    found, latency, lost = (pattern.search(output) for pattern in (_RATE, _LATENCY, _LOST))
    if found is None or latency is None or lost is None or not _GOOD.search(output):
        raise RuntimeError(f"dnsperf asked {target.address}: {output}")
    return Answered(float(found[1]), float(latency[1]) * 1e6, float(latency[2]) * 1e6, int(lost[1]))


def light(target: Target, seconds: int, *, processor: int) -> float:
    """Answers per second with 50 to 100 queries outstanding, asked in batches, each with a cookie as dig's have.

    dnsperf itself takes as long for a query as a server does, and leaves a second processor with nothing to do.
    """
    command = [
        *("taskset", "-c", str(processor), sys.executable, "-m", "bench.dns_clients"),
        *(target.address, str(seconds), str(len(target.names))),
    ]
    output, _ = target.host.popen(command, stdout=subprocess.PIPE).communicate()
    return float(output)


def name(number: int) -> str:
    """One of the names that everybody is asked for."""
    return f"name{number}"


# The light client: recvmmsg(2) and sendmmsg(2), which Python has not.


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
