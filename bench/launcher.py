"""`python -m bench.launcher [--quick]`: containers of cnm-launcher beside Docker 20.10's. Writes bench/LAUNCHER.md.

The same docker CLI asks both in turn, round by round: what a user waits for. Two APIs are asked directly too, where
the client would hide the difference.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from bench.client import Client
from bench.report import machine, table
from bench.samples import Samples, median, percentile, ratio
from netns_fixtures import IsolationError, Topology, isolate
from tests.support import dockerd as docker_support
from tests.support import launcher as launcher_support
from tests.support import unpacked

_RESULTS = Path(__file__).with_name("LAUNCHER.md")
_TOGETHER = 20
_MANY, _RUNNING = 200, 50
_SLEEP = ("sleep", "100000")
_INSTALLED = (sys.executable, "-S")
"""As where the project is installed: a checkout's import hook takes 40 ms of every start."""


class Engine(NamedTuple):
    """One of the two; `image` is a busybox there."""

    name: str
    socket: str
    image: str

    def command(self, *arguments: str) -> list[str]:
        return [str(unpacked.program("docker")), "-H", f"unix://{self.socket}", *arguments]

    def docker(self, *arguments: str) -> str:
        """Raises CalledProcessError."""
        done = subprocess.run(
            self.command(*arguments),
            env=unpacked.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


class _Row(NamedTuple):
    words: str
    name: str
    most: float
    """Times Docker's, at the most; 0: nothing asked."""


_ROWS = (
    _Row("`run -d` on a bridge network", "run -d", 0.5),
    _Row("`run -d --network none`", "run -d none", 0),
    _Row("`run --rm`, attached, `true`", "run --rm", 0),
    _Row("`exec true`", "exec", 1),
    _Row("`stop -t 0`", "stop", 0),
    _Row("`rm -f` of one that runs", "rm -f", 1),
    _Row(f"{_TOGETHER} `run -d` at once, until all run", "together", 1),
    _Row(f"{_TOGETHER} `rm -f` in one", "rm together", 0),
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.launcher", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--output", type=Path, default=_RESULTS, metavar="FILE")
    options = parser.parse_args()
    if lacking := unpacked.lacking(*docker_support.PROGRAMS, *launcher_support.PROGRAMS):
        print(f"bench.launcher: {lacking}", file=sys.stderr)
        return 1
    try:
        isolate()
    except IsolationError as error:
        print(f"bench.launcher: {error}", file=sys.stderr)
        return 1
    samples, load = Samples(), os.getloadavg()[0]
    figures = _measure(samples, rounds=8 if options.quick else 25)
    text = markdown(samples, figures, f"{load:.1f} at the beginning, {os.getloadavg()[0]:.1f} at the end")
    options.output.write_text(text)
    print(text)
    return 0


class Figures(NamedTuple):
    """What is no time: kilobytes of a running container's monitor, of both daemons more for each, and without any."""

    monitor: float
    daemons_each: float
    launcher: float
    cnmd: float


def _measure(samples: Samples, *, rounds: int) -> Figures:
    with (
        _docker() as docker,
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        launcher_support.running(Path(folder)) as launcher,
    ):
        ours = Engine("cnm", launcher.socket, launcher_support.IMAGE)
        for number in range(rounds):
            for engine in (docker, ours) if number % 2 else (ours, docker):
                _round(engine, samples, number)
        for number in range(max(rounds // 5, 2)):
            for engine in (docker, ours) if number % 2 else (ours, docker):
                _together(engine, samples, number)
        for number in range(2 * rounds):
            _starts(ours, samples, number)
        return _with_many(ours, samples, launcher)


@contextlib.contextmanager
def _docker() -> Iterator[Engine]:
    with (
        tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory,
        Topology({"hosts": {"host": {}}}) as topology,
    ):
        host = topology.hosts["host"]
        with docker_support.start_dockerd(Path(directory) / "docker", popen=host.popen) as daemon:
            yield Engine("docker", str(daemon.socket), docker_support.make_image(daemon))


def _round(engine: Engine, samples: Samples, number: int) -> None:
    name = f"c{number}"

    def timed(what: str, *arguments: str) -> None:
        samples.time(f"{engine.name} {what}", lambda: engine.docker(*arguments))

    timed("run -d", "run", "-d", "--name", name, engine.image, *_SLEEP)
    timed("exec", "exec", name, "true")
    timed("stop", "stop", "-t", "0", name)
    engine.docker("start", name)
    timed("rm -f", "rm", "-f", name)
    timed("run -d none", "run", "-d", "--network", "none", "--name", name, engine.image, *_SLEEP)
    engine.docker("rm", "-f", name)
    timed("run --rm", "run", "--rm", engine.image, "true")


def _together(engine: Engine, samples: Samples, number: int) -> None:
    names = [f"t{number}-{each}" for each in range(_TOGETHER)]
    with ThreadPoolExecutor(_TOGETHER) as pool:

        def run_all() -> None:
            list(
                pool.map(
                    lambda name: engine.docker("run", "-d", "--name", name, engine.image, *_SLEEP), names
                )
            )

        samples.time(f"{engine.name} together", run_all)
    samples.time(f"{engine.name} rm together", lambda: engine.docker("rm", "-f", *names))


def _starts(ours: Engine, samples: Samples, number: int) -> None:
    """One container on a bridge network, and one on none, started by the API; what the bridge takes more."""
    with Client(ours.socket) as client:
        took = {}
        for network in ("bridge", "none") if number % 2 else ("none", "bridge"):
            wanted = {"Image": ours.image, "Cmd": list(_SLEEP), "HostConfig": {"NetworkMode": network}}
            ident = client.ask("POST", "/containers/create", wanted)["Id"]
            began = time.perf_counter()
            client.ask("POST", f"/containers/{ident}/start")
            took[network] = (time.perf_counter() - began) * 1000
            client.ask("DELETE", f"/containers/{ident}?force=1")
        for network, milliseconds in took.items():
            samples.add(f"start {network}", milliseconds)
        samples.add("network's share", took["bridge"] - took["none"])


def _with_many(ours: Engine, samples: Samples, launcher: launcher_support.Launcher) -> Figures:
    """Many containers that exist, some of which run: what lists take, and what those that run weigh."""
    assert launcher.process is not None
    assert launcher.cnmd.process is not None
    daemons = (launcher.process.pid, launcher.cnmd.process.pid)
    before = [_resident(pid) for pid in daemons]
    for number in range(_RUNNING):
        ours.docker("run", "-d", "--name", f"m{number}", ours.image, *_SLEEP)
    more = sum(_resident(pid) for pid in daemons) - sum(before)
    for number in range(_RUNNING, _MANY):
        ours.docker("create", "--name", f"m{number}", ours.image, *_SLEEP)
    command = [*_INSTALLED, "-m", "cnm.cli", "-H", f"unix://{launcher.cnmd.socket}", "ps", "-a"]
    for _ in range(15):
        samples.time("cnmctl ps", _whole(command))
        samples.time("docker ps", _whole(ours.command("ps", "-a")))
        samples.time("python", _whole([*_INSTALLED, "-c", "pass"]))
    client = Client(ours.socket)
    for _ in range(15):
        samples.time("api ps", client.ask, "GET", "/containers/json?all=1", None)
    client.close()
    monitors = [_resident(pid) for pid in _monitors(launcher.place)]
    return Figures(median(monitors), more / _RUNNING, *before)


def _whole(command: list[str]) -> Callable[[], None]:
    environment = {**unpacked.environment(), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run() -> None:
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)

    return run


def _resident(pid: int) -> float:
    """Kilobytes of its own and shared."""
    with open(f"/proc/{pid}/status") as file:
        return float(next(line.split()[1] for line in file if line.startswith("VmRSS")))


def _monitors(place: Path) -> list[int]:
    return [int(path.read_text()) for path in place.glob("run/launcher/containers/*/conmon.pid")]


_HEAD = """\
# Containers

Written by `python -m bench.launcher`. The docker CLI of Debian's Docker 20.10 asks Docker's own daemon and cnm-launcher
in turn, in the same rounds; milliseconds of the whole command. *× Docker* is the median of the ratios round by round.

{machine}
"""


def markdown(samples: Samples, figures: Figures, loads: str) -> str:
    rows = [_row(row, samples) for row in _ROWS]
    heads = ("", "n", "cnm", "p90", "min", "Docker 20.10", "p90", "min", "× Docker", "target", "met")
    share = table(("`POST /containers/ID/start`", "n", "median", "min", "target", "met"), _shares(samples))
    many = table(
        (f"with {_MANY} containers, {_RUNNING} of which run", "n", "median", "min", "target", "met"),
        _lists(samples),
    )
    weight = table(("weight", "", "target", "met"), _weights(figures))
    return f"{_HEAD.format(machine=machine(loads))}\n{table(heads, rows)}\n{share}\n{many}\n{weight}"


def _row(row: _Row, samples: Samples) -> tuple[str, ...]:
    ours, theirs = samples.of(f"cnm {row.name}"), samples.of(f"docker {row.name}")
    times = ratio(ours, theirs)
    shown = [
        f"{value:.0f}"
        for each in (ours, theirs)
        for value in (median(each), percentile(each, 0.9), min(each))
    ]
    target = f"≤ {row.most:g} ×" if row.most else ""
    met = "" if not row.most else "yes" if times <= row.most else "**no**"
    return (row.words, str(len(ours)), *shown, f"{times:.2f}", target, met)


def _shares(samples: Samples) -> Iterator[tuple[str, ...]]:
    yield _figure("with a bridge network, ms", samples.of("start bridge"))
    yield _figure("with none, ms", samples.of("start none"))
    yield _figure(
        "the network's share: what the bridge takes more, round by round", samples.of("network's share"), 5
    )


def _lists(samples: Samples) -> Iterator[tuple[str, ...]]:
    yield _figure("`cnmctl ps -a`, whole process, ms", samples.of("cnmctl ps"), 100)
    yield _figure("`docker ps -a`, whole process", samples.of("docker ps"))
    yield _figure("`GET /containers/json?all=1`", samples.of("api ps"))
    yield _figure("`python -c pass`: what any Python costs", samples.of("python"))


def _figure(words: str, values: Sequence[float], most: float = 0) -> tuple[str, ...]:
    """A row; `most` 0: nothing asked."""
    met = "" if not most else "yes" if median(values) <= most else "**no**"
    shown = (f"{median(values):.1f}", f"{min(values):.1f}", f"≤ {most:g}" if most else "")
    return (words, str(len(values)), *shown, met)


def _weights(figures: Figures) -> Iterator[tuple[str, ...]]:
    each = (figures.monitor + figures.daemons_each) / 1024
    yield (
        "a running container: its monitor (resident, with what it shares)",
        f"{figures.monitor / 1024:.1f} MiB",
        "",
        "",
    )
    yield "a running container: in cnm-launcher and cnmd", f"{figures.daemons_each / 1024:.2f} MiB", "", ""
    yield "both", f"{each:.1f} MiB", "≤ 3 MB", "yes" if each * 1.048576 <= 3 else "**no**"
    yield "cnm-launcher before", f"{figures.launcher / 1024:.0f} MiB", "", ""
    yield "cnmd before", f"{figures.cnmd / 1024:.0f} MiB", "", ""


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"bench.launcher: {time.monotonic() - started:.0f} s", file=sys.stderr)
    sys.exit(code)
