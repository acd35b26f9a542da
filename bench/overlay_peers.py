"""`python -m bench.overlay_peers [--peers N] [--rounds N]`: an overlay network's remote endpoints, many and one by one.

Beside the same work done by one run of bridge(8) and one of ip(8), which read their commands from a file. As root, in
namespaces of its own; it prints the medians, and the least.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench.samples import Samples, median
from cnm.firewall import ruleset, sets
from cnm.kernel.linux import LinuxKernel
from cnm.kernel.state import RemotePeer
from netns_fixtures import IsolationError, isolate
from tests.support.overlays import DEVICE, network, peer

_HOSTS = 50
_SINGLES = 500
_FAMILIES = {1: "IPv4", 2: "IPv4 + IPv6"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.overlay_peers", description=__doc__)
    parser.add_argument("--peers", type=int, default=10_000, metavar="N")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    options = parser.parse_args()
    try:
        isolate()
    except IsolationError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    samples = Samples()
    with (
        tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory,
        _kernel(Path(directory)) as (kernel, place),
    ):
        for _ in range(options.rounds):
            for families in _FAMILIES:
                _round(samples, kernel, place, _peers(options.peers, families), families)
    _report(samples, options.peers)
    return 0


@contextlib.contextmanager
def _kernel(directory: Path) -> Iterator[tuple[LinuxKernel, str]]:
    """With a network, and the path of its namespace."""
    kernel, place = LinuxKernel(sets.ELEMENT_SETS, ruleset.start_text), str(directory / "overlay")
    try:
        kernel.create_namespace(place, bridged=True)
        kernel.apply([network(place)])
        yield kernel, place
        kernel.remove([network(place)], wait=True)
    finally:
        kernel.remove_namespace(place)
        kernel.close()


def _peers(number: int, families: int) -> list[RemotePeer]:
    return [peer(n, f"192.0.2.{2 + n % _HOSTS}", families) for n in range(1, number + 1)]


def _round(
    samples: Samples, kernel: LinuxKernel, place: str, peers: Sequence[RemotePeer], families: int
) -> None:
    what = _FAMILIES[families]
    batches = _batches(Path(place).parent, peers)
    samples.time(f"{what}: bridge and ip", lambda: [_run(place, *command) for command in batches])
    kernel.program_peers(place, DEVICE, (), peers)
    samples.time(f"{what}: written", kernel.program_peers, place, DEVICE, peers, ())
    samples.time(f"{what}: written again", kernel.program_peers, place, DEVICE, peers, ())
    have = samples.time(f"{what}: read", kernel.observe_peers, place, DEVICE)
    if set(have.peers) != set(peers):
        raise RuntimeError("what was read is not what was written")
    _singly(samples, what, kernel, place, peers)
    samples.time(f"{what}: network examined", kernel.observe, [network(place)])
    samples.time(f"{what}: removed", kernel.program_peers, place, DEVICE, (), peers)


def _singly(
    samples: Samples, what: str, kernel: LinuxKernel, place: str, peers: Sequence[RemotePeer]
) -> None:
    """Endpoints that move, one by one: time, and the processor's."""
    start, used = time.perf_counter(), time.process_time()
    for one in peers[:_SINGLES]:
        kernel.program_peers(place, DEVICE, [one], ())
    each = 1000 / len(peers[:_SINGLES])
    samples.add(f"{what}: one change", (time.perf_counter() - start) * each)
    samples.add(f"{what}: one change, processor", (time.process_time() - used) * each)


def _batches(directory: Path, peers: Sequence[RemotePeer]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Commands that read all their work from files."""
    forwarding, neighbors = directory / "forwarding", directory / "neighbors"
    forwarding.write_text(
        "".join(f"fdb replace {p.mac} dev {DEVICE} dst {p.vtep} self master static\n" for p in peers)
    )
    neighbors.write_text(
        "".join(
            f"neigh replace {a} lladdr {p.mac} dev {DEVICE} nud permanent\n"
            for p in peers
            for a in p.addresses
        )
    )
    return ("bridge", "-batch", str(forwarding)), ("ip", "-batch", str(neighbors))


def _run(place: str, *command: str) -> None:
    subprocess.run(["nsenter", f"--net={place}", *command], check=True)


def _report(samples: Samples, peers: int) -> None:
    rows: list[tuple[str, Callable[[str], str]]] = [("", lambda what: what)]
    sorts = ("written", "written again", "read", "removed", "bridge and ip", "network examined")
    rows += [
        (f"{peers:,} {sort}" if sort != "network examined" else sort, _figures(samples, sort))
        for sort in sorts
    ]
    rows += [(sort, _figures(samples, sort, 3)) for sort in ("one change", "one change, processor")]
    print("milliseconds: median (least)")
    for name, figures in rows:
        print(f"{name:28}" + "".join(f"{figures(what):>22}" for what in _FAMILIES.values()))


def _figures(samples: Samples, sort: str, digits: int = 1) -> Callable[[str], str]:
    def figures(what: str) -> str:
        values = samples.of(f"{what}: {sort}")
        return f"{median(values):.{digits}f} ({min(values):.{digits}f})"

    return figures


if __name__ == "__main__":
    sys.exit(main())
