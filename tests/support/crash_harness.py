"""Kills at every mutating system call of a verb and judges what start-up makes of it: before or after, nothing else.

`python -m tests.support.crash_harness [NAME…]` plays them outside pytest and prints the table.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.crash_scenarios import SCENARIOS, Scenario
from tests.support.thorough import THOROUGH

_CHECKOUT = Path(__file__).parents[2]
_STAGES = 2 * (os.cpu_count() or 1)
"""Played at the same time: half of a stage's time is spent waiting for the kernel to free things."""
_MOST_DIFFERENCES = 12
_TWICE = 3
"""After each third point, or all, there is another start-up, which must change nothing: a third of a crash' cost."""

Result = dict[str, Any]


@dataclass
class Report:
    """What became of one scenario."""

    name: str
    points: int = 0
    before: int = 0
    between: int = 0
    after: int = 0
    strays: int = 0
    """Runs that took another course than the first: the kernel frees a namespace's links in its own time."""
    problems: list[str] = field(default_factory=list)

    def row(self) -> str:
        return f"{self.name:42} {self.points:6} {self.before:6} {self.between:7} {self.after:5}"


HEADING = f"{'killed':42} points before between after"


class Harness:
    """Plays crashes, several at a time."""

    def __init__(self) -> None:
        self._idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
        self._servers = [_server() for _ in range(_STAGES)]
        for server in self._servers:
            self._idle.put(server)
        self._pool = ThreadPoolExecutor(_STAGES)

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for server in self._servers:
            server.communicate()

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def play(self, scenario: Scenario, **job: int | None) -> Result:
        """One crash; see `crash_server.play`. Raises RuntimeError with the traceback of the stage."""
        server = self._idle.get()
        assert server.stdin is not None
        assert server.stdout is not None
        try:
            print(json.dumps({"name": scenario.name, **job}), file=server.stdin, flush=True)
            result: Result = json.loads(server.stdout.readline())
        finally:
            self._idle.put(server)
        if "error" in result:
            raise RuntimeError(f"{scenario.name} {job}: {result['error']}")
        return result

    def kill_everywhere(self, scenario: Scenario, power_cut: bool = False, few: int | None = None) -> Report:
        """At every call, and when the last one is done; with `power_cut` the machine goes with the process.

        `few`: at about so many calls, evenly spread, unless the tests are to be thorough.
        """
        report = Report(f"{scenario.name}{', power cut' if power_cut else ''}")
        cut = self._cut(scenario)
        references = self._references(scenario, cut, power_cut)
        after = references["after"]
        report.problems += _judge_reference(scenario, after)
        count = len(after["calls"])
        thorough = THOROUGH or few is None
        every = 1 if thorough else max(1, round(count / (few or count)))
        numbers = range(every, count + 1, every)
        report.points = len(numbers) + 1
        report.after = 1
        jobs = [
            {
                "kill_at": number,
                "verb_kill_at": cut,
                "power_cut": power_cut,
                "twice": thorough or place % _TWICE == 0,
            }
            for place, number in enumerate(numbers)
        ]
        killed = self._pool.map(lambda job: self.play(scenario, **job), jobs)
        for number, result in zip(numbers, killed, strict=True):
            where = f"{report.name}, killed at {number}, {after['calls'][number - 1]}"
            report.strays += result["calls"] != after["calls"][:number] or not result["killed"]
            found = [name for name, reference in references.items() if _is_like(result, reference)]
            kind = found[0].split()[0] if found else ""
            if kind:
                setattr(report, kind, getattr(report, kind) + 1)
            else:
                report.problems += [f"{where}: {line}" for line in _nearest(result, references)]
        return report

    def _cut(self, scenario: Scenario) -> int:
        """The call that the verb before a start-up is killed at, 0 for none."""
        if scenario.cut == 1.0:
            return 0
        verb = next(s for s in SCENARIOS.values() if s.verb is scenario.verb and not s.start_up)
        return max(1, int(scenario.cut * len(self.play(verb)["calls"])))

    def _references(self, scenario: Scenario, cut: int, power_cut: bool) -> dict[str, Result]:
        """The states that are whole, by name; each has gone through start-up itself."""
        jobs: dict[str, dict[str, int]] = {"after": {"verb_kill_at": cut}}
        if not scenario.start_up:
            jobs["before"] = {"instead": -1}
            jobs |= {f"between {n}": {"instead": n} for n in range(len(scenario.between))}
        results = self._pool.map(lambda job: self.play(scenario, **job, power_cut=power_cut), jobs.values())
        return dict(zip(jobs, results, strict=True))


def _server() -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.crash_server"]
    return subprocess.Popen(command, cwd=_CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _judge_reference(scenario: Scenario, result: Result) -> Iterator[str]:
    """A start-up finds what the verb left and changes nothing; neither does a second one; doctor agrees."""
    where = f"{scenario.name}, to its end"
    live = result.get("live")
    if live:
        for line in _limited(differences(live, {key: result["first"][key] for key in live})):
            yield f"{where}: after start-up {line}"
    for line in _limited(differences(result["first"], result["second"])):
        yield f"{where}: after a second start-up {line}"
    for look in _LOOKS:
        yield from (f"{where}: doctor, {look}: {finding}" for finding in result[look]["findings"])


_LOOKS = ("first", "second", "cleared")


def _is_like(result: Result, reference: Result) -> bool:
    return all(result[look] == reference[look] for look in _LOOKS if look in result)


def _nearest(result: Result, references: dict[str, Result]) -> Sequence[str]:
    """What differs from the reference that has the same nouns, else from the one that differs least."""
    candidates = []
    for name, reference in references.items():
        lines = [
            f"{look}: differs from {name}: {line}"
            for look in _LOOKS
            if look in result
            for line in differences(reference[look], result[look])
        ]
        candidates.append((result["first"]["nouns"] != reference["first"]["nouns"], len(lines), lines))
    return list(_limited(min(candidates)[2]))


def _limited(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == _MOST_DIFFERENCES:
            yield "and so on"
            return
        yield line


def differences(expected: Any, found: Any, path: str = "") -> Iterator[str]:
    """One line for each place where two JSON values differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() | found.keys()):
            yield from differences(expected.get(key), found.get(key), f"{path}/{key}")
    elif isinstance(expected, list) and isinstance(found, list):
        yield from (f"{path} lacks {item}" for item in expected if item not in found)
        yield from (f"{path} has {item}" for item in found if item not in expected)
    elif expected != found:
        yield f"{path} is {found}, not {expected}"


def play_all(names: Sequence[str], show: Callable[[str], None]) -> list[Report]:
    """Play the scenarios of these names, all where none is given, and show the table."""
    show(HEADING)
    reports = []
    with Harness() as harness:
        for scenario in SCENARIOS.values():
            if not names or scenario.name in names:
                reports.append(harness.kill_everywhere(scenario))
                show(reports[-1].row())
    total = Report(
        "all", *(sum(getattr(r, key) for r in reports) for key in ("points", "before", "between", "after"))
    )
    show(total.row())
    return reports


if __name__ == "__main__":
    problems = [problem for report in play_all(sys.argv[1:], print) for problem in report.problems]
    print("\n".join(problems))
    sys.exit(bool(problems))
