"""A daemon that is forked by the fork server is what one is that is started, and its end is heard of like one's."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Topology
from tests.support import daemon_starts, forked
from tests.support.cnmd import Cnmd
from tests.support.daemon_starts import from_nothing, start_daemon
from tests.support.forked import Forked, ForkServer, can_be_forked, run

_PROBE = (sys.executable, "-m", "tests.support.fork_probe")
_VERSION = (sys.executable, "-m", "cnm.daemon", "--version")
_SECONDS = 30.0
_ONE: dict[str, Any] = {"hosts": {"one": {}}}

Started = Callable[..., Any]


def said(start: Started, *words: str | bytes, given: str = "", **options: Any) -> tuple[int, str, str]:
    """(exit code, output, errors) of the probe, all by way of files as both ways have them."""
    with Files(given) as files:
        process = start(
            [*_PROBE, *words], stdin=files.stdin, stdout=files.stdout, stderr=files.stderr, **options
        )
        return process.wait(_SECONDS), *files.written()


class Files:
    """What a program reads from and writes to."""

    def __init__(self, given: str = "") -> None:
        self.stdin, self.stdout, self.stderr = (
            os.fdopen(os.memfd_create(name), "w+") for name in ("stdin", "stdout", "stderr")
        )
        self.stdin.write(given)
        self.stdin.seek(0)

    def written(self) -> tuple[str, str]:
        self.stdout.seek(0)
        self.stderr.seek(0)
        return self.stdout.read(), self.stderr.read()

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            file.close()


@pytest.fixture
def waiting() -> Iterator[Forked]:
    """A fork that does nothing until it is ended."""
    process = started_waiting()
    yield process
    process.kill()
    process.wait()


def started_waiting(**options: Any) -> Forked:
    reader, writer = os.pipe()
    with os.fdopen(reader) as file:
        process = Forked([*_PROBE, "wait"], stdin=subprocess.DEVNULL, stdout=writer, **options)
        os.close(writer)
        assert file.readline() == "ready\n"
    return process


def ended(pid: int) -> bool:
    """Whether the process ends within the time."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    with os.fdopen(descriptor):
        return bool(select.select([descriptor], [], [], _SECONDS)[0])


# What it begins with


@pytest.mark.parametrize("leads", [False, True], ids=["", "in a session of its own"])
def test_a_fork_finds_in_itself_what_a_started_program_finds(
    leads: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TZ": "UTC+3",
        "LC_ALL": "C.UTF-8",
        "ONLY": "\udcff",
    }
    words = ("describe", "a word", b"\xff")
    codes, found = [], []
    for start in (Forked, subprocess.Popen):
        code, output, errors = said(start, *words, given="a text", env=env, start_new_session=leads)
        codes.append((code, errors))
        found.append(json.loads(output))

    assert codes == [(0, ""), (0, "")]
    assert found[0] == found[1]
    assert found[0]["given"] == "a text"


def test_a_fork_is_in_the_namespaces_of_the_thread_that_asks() -> None:
    with Topology(_ONE) as topology, topology.one.enter():
        here = os.readlink("/proc/thread-self/ns/net")
        _, output, _ = said(Forked, "describe")

    assert json.loads(output)["namespaces"]["net"] == here


def test_threads_that_ask_at_the_same_time_get_each_its_own() -> None:
    hosts = [f"h{number}" for number in range(6)]
    with Topology({"hosts": {name: {} for name in hosts}}) as topology:

        def ask(name: str) -> bool:
            with topology.hosts[name].enter():
                code, output, _ = said(Forked, "describe", name)
                found = json.loads(output)
                network = os.readlink("/proc/thread-self/ns/net")
            return code == 0 and (found["namespaces"]["net"], found["argv"][-1]) == (network, name)

        with ThreadPoolExecutor(len(hosts)) as pool:
            assert all(pool.map(ask, hosts * 3))


def test_a_fork_can_have_the_mounts_of_another_process() -> None:
    script = "mount -t tmpfs tmpfs /mnt && echo ready && exec sleep infinity"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "ready\n"
            theirs = os.readlink(f"/proc/{holder.pid}/ns/mnt")
            _, output, _ = said(Forked, "describe", mounts=f"/proc/{holder.pid}/ns/mnt")
        finally:
            holder.kill()

    found = json.loads(output)
    assert (found["namespaces"]["mnt"], found["directory"]) == (theirs, "/")


def test_forks_do_not_draw_the_same_random_numbers() -> None:
    assert said(Forked, "random")[1] != said(Forked, "random")[1]


# How it ends


@pytest.mark.parametrize(
    "words",
    [
        *(("exit", code) for code in ("null", "0", "3", "300", "-1", "true", '"a reason"', "[1]")),
        ("end slowly",),
        ("interrupt",),
    ],
    ids=" ".join,
)
def test_a_fork_ends_as_a_started_program_does(words: Sequence[str]) -> None:
    code, output, errors = said(Forked, *words)
    expected = said(subprocess.Popen, *words)

    assert (code, output) == expected[:2]
    assert errors.splitlines()[-1:] == expected[2].splitlines()[-1:]


def test_an_exception_that_nobody_catches_is_shown() -> None:
    code, _, errors = said(Forked, "fail")

    assert code == 1
    assert errors.startswith("Traceback (most recent call last):\n")
    assert errors.endswith("LookupError: as it was told\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGHUP])
def test_a_signal_that_ends_a_fork_is_its_exit_code(waiting: Forked, number: signal.Signals) -> None:
    assert waiting.poll() is None
    waiting.send_signal(number)

    assert waiting.wait(_SECONDS) == -number
    assert waiting.poll() == waiting.returncode == -number
    waiting.send_signal(number)  # as Popen's, says nothing of one that has ended


def test_one_that_runs_on_is_waited_for_no_longer_than_asked(waiting: Forked) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.01)


def test_one_that_was_killed_is_no_zombie_though_nobody_waits(waiting: Forked) -> None:
    descriptor = os.pidfd_open(waiting.pid)
    waiting.kill()

    with os.fdopen(descriptor):
        assert select.select([descriptor], [], [], _SECONDS)[0]
    assert waiting.wait(_SECONDS) == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(waiting.pid, 0)


def test_one_that_cannot_begin_says_why() -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        Forked([*_PROBE, "wait"], mounts="/proc/self/ns/nosuch")
    with pytest.raises(OSError, match="setns: Invalid argument"):
        Forked([*_PROBE, "wait"], mounts=os.devnull)


# The server


def test_a_server_ends_with_the_process_that_has_it_and_its_children_do_not() -> None:
    script = (
        "import sys, time; from tests.kernel.test_fork_server import *;"
        "waiting = started_waiting(); print(waiting.pid, forked.fork_server().process.pid, flush=True);"
        "sys.stdin.read()"
    )
    command = [sys.executable, "-c", script]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, text=True, cwd=Path(__file__).parents[2]
    ) as owner:
        assert owner.stdout is not None
        child, server = map(int, owner.stdout.readline().split())
        owner.kill()

    try:
        assert ended(server)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
    assert ended(child)


def test_a_server_that_is_closed_leaves_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ForkServer()
    monkeypatch.setattr(forked, "_server", server)
    process = started_waiting()

    server.close()

    assert server.process.returncode == 0
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process.pid)


def test_of_the_children_of_a_server_that_died_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    server = ForkServer()
    monkeypatch.setattr(forked, "_server", server)
    process = started_waiting()
    server.process.kill()
    server.process.wait()

    try:
        with pytest.raises(RuntimeError, match="the fork server ended"):
            process.wait(_SECONDS)
        with pytest.raises(BrokenPipeError):
            run([*_PROBE, "random"])
    finally:
        os.kill(process.pid, signal.SIGKILL)
    assert ended(process.pid)
    server.close()


# Which starts are forks


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_starts, "SAMPLED", True)


@pytest.mark.usefixtures("sampled")
def test_a_host_ends_the_forks_that_were_started_in_it() -> None:
    with Topology(_ONE) as topology:
        process = start_daemon(topology.one.popen, [*_VERSION[:-1], "--root", "/dev/null/none"])
        assert isinstance(process, Forked)

    assert process.returncode is not None


@pytest.mark.usefixtures("sampled")
def test_a_start_that_is_special_is_none_of_a_fork(tmp_path: Path) -> None:
    quiet = {"stdout": subprocess.DEVNULL}
    preloaded = {**os.environ, "LD_PRELOAD": ""}
    processes = [
        start_daemon(from_nothing(), _VERSION, **quiet),
        start_daemon(subprocess.Popen, _VERSION, env=preloaded, **quiet),
    ]

    assert [type(process) for process in processes] == [subprocess.Popen] * 2
    assert [process.wait(_SECONDS) for process in processes] == [0, 0]
    assert not can_be_forked([sys.executable, "-m", "cnm.relay"], None)


def test_all_starts_are_real_unless_tests_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_starts, "SAMPLED", False)
    process = start_daemon(subprocess.Popen, _VERSION, stdout=subprocess.DEVNULL)

    assert isinstance(process, subprocess.Popen)
    assert process.wait(_SECONDS) == 0


@pytest.mark.usefixtures("sampled")
def test_a_forked_cnmd_serves_and_stops(tmp_path: Path) -> None:
    with Topology(_ONE) as topology:
        daemon = Cnmd(tmp_path, topology.one.popen)
        daemon.start()

        assert isinstance(daemon.process, Forked)
        assert daemon.cnmctl("network", "ls", "-q").returncode == 0
        assert daemon.stop() == 0
