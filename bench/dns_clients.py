"""Who asks in `bench.names`: dnsperf, and `bench.dns_flood`, which spends less than it on each query."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import NamedTuple

from netns_fixtures import Host
from tests.support import unpacked

OUTSTANDING = 20
_RATE = re.compile(r"Queries per second:\s+([\d.]+)")
_LATENCY = re.compile(r"Average Latency \(s\):\s+([\d.]+) \(min [\d.]+, max ([\d.]+)\)")
_LOST = re.compile(r"Queries lost:\s+(\d+)")
_GOOD = re.compile(r"Response codes:\s+NOERROR \d+ \(100\.00%\)")


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
        *("taskset", "-c", str(processor), sys.executable, "-m", "bench.dns_flood"),
        *(target.address, str(seconds), str(len(target.names))),
    ]
    output, _ = target.host.popen(command, stdout=subprocess.PIPE).communicate()
    return float(output)


def name(number: int) -> str:
    """One of the names that everybody is asked for."""
    return f"name{number}"
