"""The system calls of a running process, as strace(1) sees them."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)")
_CALL = re.compile(r"[a-z0-9_]+(?=\()")
_RESUMED = re.compile(r"<\.\.\. ([a-z0-9_]+) resumed>")
"""The second half of a call between whose halves another thread wrote."""
_RESTARTED = "= ? ERESTART"


def missing() -> str:
    """Why nothing can be traced here, "" where it can."""
    return "" if shutil.which("strace") else "strace is not installed: run make setup"


@dataclass
class Trace:
    """The lines of strace, (thread, what it did), in order; complete when the block of `traced` has ended."""

    lines: list[tuple[int, str]] = field(default_factory=list)

    def calls(self) -> Counter[str]:
        """Of all threads."""
        return _count([rest for _, rest in self.lines])

    def calls_between(self, first: str, last: str) -> Counter[str]:
        """Of the thread that reads `first`, from there until it sends `last`, this included."""
        begun = next(i for i, (_, rest) in enumerate(self.lines) if first in rest)
        thread = self.lines[begun][0]
        own = [rest for other, rest in self.lines[begun + 1 :] if other == thread]
        ended = next(i for i, rest in enumerate(own) if last in rest)
        return _count(own[: ended + 1])


def _count(lines: list[str]) -> Counter[str]:
    """Without what is logged, and without calls that the kernel breaks off and begins anew.

    It does that with writes to /proc/sys/net again and again for as long as another process holds the routing lock.
    """
    counts: Counter[str] = Counter()
    for rest in lines:
        begun, resumed = _CALL.match(rest), _RESUMED.match(rest)
        if begun and not rest.startswith("write(2,"):
            counts[begun[0]] += 1
        if _RESTARTED in rest and (call := begun[0] if begun else resumed[1] if resumed else ""):
            counts[call] -= 1
    return +counts


@contextmanager
def traced(pid: int, output: Path, calls: frozenset[str]) -> Iterator[Trace]:
    """Watch `calls` of all threads of `pid` while the block runs."""
    watched = "trace=" + ",".join(f"?{call}" for call in sorted(calls))  # "?": not every machine has each
    command = ["strace", "-f", "-e", watched, "-e", "signal=none", "-o", str(output), "-p", str(pid)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    first = process.stderr.readline()
    if "attached" not in first:
        process.wait()
        raise RuntimeError(f"strace cannot attach: {first.strip()}")
    trace = Trace()
    try:
        yield trace
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate()
    for line in output.read_text(errors="replace").splitlines():
        if found := _LINE.match(line):
            trace.lines.append((int(found["thread"]), found["rest"]))
