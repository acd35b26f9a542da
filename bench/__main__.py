"""`python -m bench [--quick]`: measures everything and writes bench/RESULTS.md, as root, in namespaces of its own."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from bench import processor, report, scale, verbs
from bench.samples import Samples
from bench.stage import stage
from netns_fixtures import IsolationError, isolate

_RESULTS = Path(__file__).with_name("RESULTS.md")


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute instead of five")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    options = parser.parse_args()
    try:
        isolate()
    except IsolationError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = _measured(options.quick)
    options.output.write_text(text)
    print(text)
    return 0


def _measured(quick: bool) -> str:
    samples, load = Samples(), os.getloadavg()[0]
    with stage() as one:
        _say("verbs, beside the floor and other programs")
        missing = verbs.measure(one, samples, rounds=60 if quick else 400, peer_rounds=5 if quick else 40)
        _say("many ports, many at once, the command line")
        verbs.measure_many_ports(one, samples, rounds=10 if quick else 40)
        verbs.measure_parallel(one, samples, rounds=5 if quick else 20)
        processor.measure(one, samples, blocks=5 if quick else 40)
        scale.measure_command_line(one, samples, rounds=10 if quick else 60)
    with stage() as other:
        _say("a thousand endpoints")
        restarts, idle_seconds = (1, 5.0) if quick else (5, 60.0)
        footprint = scale.measure(other, samples, restarts=restarts, idle_seconds=idle_seconds)
    loads = f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end"
    return report.markdown(samples, footprint, missing, loads, quick)


def _say(words: str) -> None:
    print(f"bench: {words}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
