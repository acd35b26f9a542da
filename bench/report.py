"""What was measured, as the tables of RESULTS.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.samples import Samples, median, percentile, ratio
from bench.scale import Footprint
from bench.verbs import PARALLEL


@dataclass(frozen=True)
class Verb:
    """One line of the first table: a verb, and what is asked of it (milliseconds; 0: nothing)."""

    words: str
    name: str
    floor: str = ""
    most: float = 0
    most_p99: float = 0
    most_floors: float = 0


VERBS = (
    Verb("`GET /_ping`: what HTTP and this client cost", "ping"),
    Verb("attach: endpoint, join, one port", "attach", "floor attach", most_p99=15, most_floors=3),
    Verb("detach, traffic cut", "detach", "floor detach", most=2.5),
    Verb("publish one port", "publish"),
    Verb("unpublish one port", "unpublish"),
    Verb("network create", "network create", "floor network create", most=2.5),
    Verb("network delete", "network delete", "floor network delete"),
    Verb("sandbox create", "sandbox create", "floor sandbox create"),
    Verb("sandbox delete", "sandbox delete"),
    Verb("1,000 ports of one endpoint, both families", "publish 1,000", "floor publish 1,000", most=50),
    Verb("1,000 ports unpublished", "unpublish 1,000", "floor unpublish 1,000"),
    Verb(f"{PARALLEL} attaches at once, in all", "64 attaches", "floor 64 attaches", most=300),
    Verb(f"{PARALLEL} detaches at once, in all", "64 detaches", "floor 64 detaches"),
    Verb("attach at 1,000 endpoints", "attach at 1,000", "floor attach at 1,000", most_p99=15, most_floors=3),
    Verb("detach at 1,000 endpoints", "detach at 1,000", "floor detach at 1,000", most=2.5),
    Verb("restart with 1,000 endpoints, reconciled", "restart", most=2000),
    Verb("the same after SIGKILL", "restart after SIGKILL", most=2000),
    Verb("attach, processor time of cnmd", "processor attach", "floor processor attach"),
    Verb("detach, processor time of cnmd", "processor detach", "floor processor detach"),
    Verb("doctor at 1,000 endpoints", "doctor"),
    Verb("`cnmctl network ls`, whole process", "cnmctl network ls", "python -c pass", most=80),
)

PEERS = (
    ("Debian's dockerd 20.10, `network connect` (no port)", "dockerd attach", "attach", 8),
    ("netavark 1.4, setup with one port", "netavark attach", "attach", 15),
    ("Debian's dockerd 20.10, `network disconnect`", "dockerd detach", "detach", 0),
    ("netavark 1.4, teardown with one port", "netavark detach", "detach", 0),
    ("Debian's dockerd 20.10, `network create`", "dockerd network create", "network create", 20),
    ("Debian's dockerd 20.10, `network rm`", "dockerd network delete", "network delete", 0),
)
"""What a peer does, its name, our verb's, and how many times as long it should take at the least (0: nothing asked)."""

MOST_MIB = 80
MOST_IDLE_PERCENT = 0.1

_HEAD = """\
# Results

Written by `make bench`{quick}. Times are milliseconds, seen by a client on the Unix socket: one kept connection,
requests built beforehand. The *floor* is the least that the kernel can be asked for the same thing, hand-packed
netlink messages and nothing else (`bench/floor.py`). It runs between the others in the same rounds, and *× floor* is
the median of the ratios round by round. The peers run in some of these rounds. The kernel has one routing lock for the
whole machine: whatever else makes or deletes links shows here, most of all in the 99th percentile.

{machine}
"""


def markdown(samples: Samples, footprint: Footprint, missing: Sequence[str], loads: str, quick: bool) -> str:
    head = _HEAD.format(quick=" with `--quick`" if quick else "", machine=machine(loads))
    verbs = table(
        ("", "n", "median", "p99", "min", "floor", "× floor", "target", "met"),
        (_verb_row(verb, samples) for verb in VERBS if samples.of(verb.name)),
    )
    peers = table(
        ("peer", "n", "median", "min", "× ours", "target", "met"),
        (row for peer in PEERS if (row := _peer_row(*peer, samples))),
    )
    absent = "".join(f"\nNot measured: {reason}.\n" for reason in missing)
    return f"{head}\n{verbs}\n{peers}{absent}\n{_footprint_table(footprint)}"


def machine(loads: str) -> str:
    with open("/proc/meminfo", encoding="ascii") as file:
        gibibytes = int(file.readline().split()[1]) / (1 << 20)
    return (
        f"Linux {platform.release()}, {platform.machine()}, {os.cpu_count()} cores, {gibibytes:.0f} GiB, "
        f"Python {platform.python_version()}; load average {loads}."
    )


def _verb_row(verb: Verb, samples: Samples) -> tuple[str, ...]:
    values, floor = samples.of(verb.name), samples.of(verb.floor)
    middle, late = median(values), percentile(values, 0.99)
    times = ratio(values, floor) if floor else 0.0
    return (
        verb.words,
        str(len(values)),
        f"{middle:.2f}",
        f"{late:.1f}",
        f"{min(values):.2f}",
        f"{median(floor):.2f}" if floor else "",
        f"{times:.1f}" if floor else "",
        *_judged(_demands(verb, middle, late, times)),
    )


def _demands(verb: Verb, middle: float, late: float, times: float) -> Iterable[tuple[str, bool]]:
    """(target in words, whether it is met)."""
    if verb.most_floors:
        yield f"≤ {verb.most_floors:g} × floor", times <= verb.most_floors
    if verb.most:
        yield f"≤ {verb.most:g}", middle <= verb.most
    if verb.most_p99:
        yield f"p99 ≤ {verb.most_p99:g}", late <= verb.most_p99


def _judged(demands: Iterable[tuple[str, bool]]) -> tuple[str, str]:
    """Target and verdict; where only some are met, which are not."""
    found = list(demands)
    missed = [words for words, met in found if not met]
    verdict = "" if not found else "yes" if not missed else "**no**" if len(missed) == len(found) else ""
    return ", ".join(words for words, _ in found), verdict or (
        f"**not** {', '.join(missed)}" if missed else ""
    )


def _peer_row(words: str, peer: str, ours: str, least: float, samples: Samples) -> tuple[str, ...] | None:
    values = samples.of(peer)
    if not values:
        return None
    times = median(values) / median(samples.of(ours))
    judged = _judged([(f"≥ {least:g} ×", times >= least)] if least else [])
    return (
        words,
        str(len(values)),
        f"{median(values):.1f}",
        f"{min(values):.1f}",
        f"{times:.1f}",
        *judged,
    )


def _footprint_table(footprint: Footprint) -> str:
    idle = f"{footprint.idle:.3f} %"
    return table(
        ("cnmd", "", "target", "met"),
        (
            ("resident without endpoints", f"{footprint.empty:.0f} MiB", "", ""),
            (
                "resident with 1,000",
                f"{footprint.full:.0f} MiB",
                *_judged([(f"≤ {MOST_MIB} MiB", footprint.full <= MOST_MIB)]),
            ),
            (
                "resident after a restart with 1,000",
                f"{footprint.restarted:.0f} MiB",
                *_judged([(f"≤ {MOST_MIB} MiB", footprint.restarted <= MOST_MIB)]),
            ),
            (
                "one core, idle with 1,000",
                idle,
                *_judged([(f"≤ {MOST_IDLE_PERCENT} %", footprint.idle <= MOST_IDLE_PERCENT)]),
            ),
        ),
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Of Markdown, with two columns of text at the end of more than two others."""
    lines = [heads, (["---"] + ["---:"] * (len(heads) - 3) + ["---"] * 2)[: len(heads)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
