"""The docker command line and docker-py, on connections that they had upgraded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import docker
import pytest

from tests.support.small_containers import Bundle, Containers, eventually
from tests.support.small_engine import SmallEngine, served
from tests.support.terminal import Terminal, on_a_terminal
from tests.support.unpacked import environment, lacking, program

PATIENCE = 30


@pytest.fixture(scope="module")
def bundle(made: Containers) -> Bundle:
    return made.bundle("cat")


@pytest.fixture(scope="module")
def path(made: Containers, bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if reason := lacking("docker"):
        pytest.skip(reason)
    created = made.create(bundle, stdin=True, stdin_once=True)
    made.runtime.start(bundle.id)
    engine = SmallEngine(made, bundle, created.pid, tty=False, stdin=True)
    with served(engine, tmp_path_factory.mktemp("e")) as path:
        yield path


def _docker(path: str, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [str(program("docker")), "-H", f"unix://{path}", *arguments]
    return subprocess.run(
        command, input=given, capture_output=True, env=environment(), timeout=PATIENCE, check=False
    )


def _terminal(path: str, *arguments: str) -> AbstractContextManager[Terminal]:
    """The docker command line in a terminal of its own."""
    command = [str(program("docker")), "-H", f"unix://{path}", *arguments]
    return on_a_terminal(command, env=environment(), rows=31, columns=91)


def test_exec_gives_both_streams_and_the_code(path: str) -> None:
    done = _docker(path, "exec", "c", "sh", "-c", "echo out; echo err >&2; exit 9")

    assert (done.returncode, done.stdout, done.stderr) == (9, b"out\n", b"err\n")


def test_exec_passes_input_to_its_end(path: str) -> None:
    content = os.urandom(3_000_000)

    done = _docker(path, "exec", "-i", "c", "cat", given=content)

    assert (done.returncode, done.stdout, done.stderr) == (0, content, b"")


def test_exec_of_what_is_not_there_says_so(path: str) -> None:
    done = _docker(path, "exec", "c", "foo")

    assert done.returncode == 127
    assert done.stdout == (
        b"OCI runtime exec failed: exec failed: unable to start container process: "
        b'exec: "foo": executable file not found in $PATH: unknown\r\n'
    )
    detached = _docker(path, "exec", "-d", "c", "foo")
    assert detached.returncode != 0
    assert b"executable file not found" in detached.stderr


def test_exec_in_a_terminal(path: str) -> None:
    with _terminal(path, "exec", "-it", "c", "sh") as terminal:
        terminal.type("while ! stty size | busybox grep '31 91'; do :; done\n")
        terminal.expect("31 91\r\n")
        terminal.type("while ! stty size | busybox grep '32 92'; do :; done\n")
        terminal.resize_until(32, 92, "32 92\r\n")

        terminal.type("exit 6\n")

        assert terminal.exit_code() == 6


def test_twenty_clients_at_once(path: str) -> None:
    with ThreadPoolExecutor(20) as pool:
        done = list(
            pool.map(lambda n: _docker(path, "exec", "c", "sh", "-c", f"echo {n}; exit {n}"), range(20))
        )

    assert [(d.returncode, d.stdout) for d in done] == [(n, b"%d\n" % n) for n in range(20)]


def test_docker_py_execs(path: str) -> None:
    client = docker.APIClient(f"unix://{path}", version="1.41", timeout=PATIENCE)
    try:
        name = client.exec_create("c", ["sh", "-c", "echo out; echo err >&2; exit 3"])["Id"]

        assert client.exec_start(name, demux=True) == (b"out\n", b"err\n")
        assert client.exec_inspect(name)["ExitCode"] == 3
    finally:
        client.close()


def test_a_client_that_is_killed_leaves_the_exec_running(path: str, made: Containers, bundle: Bundle) -> None:
    command = [str(program("docker")), "-H", f"unix://{path}", "exec", "c", "sh", "-c", "echo up; sleep 1000"]
    client = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment())
    assert client.stdout
    assert client.stdout.readline() == b"up\n"
    with client.stdout:
        client.kill()
        client.wait()

    assert len(made.runtime.pids(bundle.id)) >= 2
    assert _docker(path, "exec", "c", "busybox", "killall", "sleep").returncode == 0
    eventually(lambda: len(made.runtime.pids(bundle.id)) == 1)


def test_attach_passes_input_and_ends_with_the_container(path: str) -> None:
    content = os.urandom(1_000_000)

    done = _docker(path, "attach", "c", given=content)

    assert (done.returncode, done.stdout, done.stderr) == (0, content, b"")


def test_attach_to_a_terminal_is_left_by_its_keys(made: Containers, tmp_path: Path) -> None:
    if reason := lacking("docker"):
        pytest.skip(reason)
    bundle = made.bundle("sh", tty=True)
    created = made.create(bundle, tty=True, stdin=True, stdin_once=True)
    made.runtime.start(bundle.id)
    engine = SmallEngine(made, bundle, created.pid, tty=True, stdin=True)
    with served(engine, tmp_path) as path:
        with _terminal(path, "attach", "c") as terminal:
            terminal.type("echo a''b\n")
            terminal.expect("ab\r\n")
            terminal.type("\x10\x11")
            terminal.expect("read escape sequence")
            assert terminal.exit_code() == 1

        with _terminal(path, "attach", "c") as again:
            again.type("exit 4\n")
            again.expect("exit 4")
            assert again.exit_code() == 4
