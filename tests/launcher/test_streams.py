"""Terminals, attach, exec and logs with the unmodified docker CLI."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.launcher import Launcher
from tests.support.small_containers import eventually
from tests.support.terminal import Terminal, on_a_terminal
from tests.support.unpacked import environment


@contextmanager
def typed(docker: Launcher, *arguments: str, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    """The docker CLI on a terminal."""
    env = {**environment(), "TERM": "xterm"}
    with on_a_terminal(docker.command(*arguments), env=env, rows=rows, columns=columns) as terminal:
        yield terminal


# Terminals


def test_a_shell_on_a_terminal_is_typed_at_and_ends_with_its_code(docker: Launcher) -> None:
    with typed(docker, "run", "-it", "--rm", "busybox", "sh") as shell:
        shell.expect("/ #")
        shell.type("tty; echo $TERM\n")
        shell.expect("/dev/pts/0")
        shell.expect("xterm")
        shell.type("exit 5\n")
        assert shell.exit_code() == 5


def test_a_terminal_has_the_size_of_the_clients_and_follows_it(docker: Launcher) -> None:
    with typed(docker, "run", "-it", "--rm", "busybox", "sh", rows=31, columns=97) as shell:
        shell.expect("/ #")
        shell.type("until stty size | grep '^31 97$'; do sleep 0.1; done\n")
        shell.expect("\n31 97")
        shell.type("until stty size | grep '^40 120$'; do sleep 0.1; done\n")
        shell.resize_until(40, 120, "\n40 120")


def test_the_keys_leave_a_container_running_and_it_is_attached_again(docker: Launcher) -> None:
    with typed(docker, "run", "-it", "--name", "one", "busybox", "sh") as shell:
        shell.expect("/ #")
        shell.type("\x10\x11")
        assert shell.exit_code() == 0
    assert docker.docker("inspect", "-f", "{{.State.Status}}", "one") == "running"

    with typed(docker, "attach", "one") as shell:
        shell.type("echo $((6*7))\n")
        shell.expect("\n42")
        shell.type("exit 3\n")
        assert shell.exit_code() == 3


def test_an_exec_on_a_terminal(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    with typed(docker, "exec", "-it", "-e", "A=b", "-w", "/data", "-u", "app", "one", "sh") as shell:
        shell.expect("$")
        shell.type("echo $A $(pwd) $(id -un); exit 9\n")
        shell.expect("b /data app")
        assert shell.exit_code() == 9


# Attach


def test_whoever_attaches_before_the_start_hears_the_first_word(docker: Launcher) -> None:
    for _ in range(5):
        assert docker.docker("run", "--rm", "busybox", "echo", "first") == "first"


def test_output_reaches_everybody_who_is_attached(docker: Launcher) -> None:
    ident = docker.docker("run", "-di", "--name", "one", "busybox", "cat")
    listeners = [_started(docker, "attach", "--no-stdin", "one") for _ in range(2)]
    eventually(lambda: _attached(docker, ident) == 2)

    speaker = _started(docker, "attach", "one", stdin=subprocess.PIPE)
    assert speaker.stdin is not None
    assert speaker.stdout is not None
    speaker.stdin.write("word\n")
    speaker.stdin.flush()

    assert speaker.stdout.readline() == "word\n"
    docker.docker("kill", "one")
    assert [listener.communicate(timeout=20)[0] for listener in listeners] == ["word\n", "word\n"]
    speaker.communicate(timeout=20)


def _attached(docker: Launcher, ident: str) -> int:
    """How many clients are."""
    filters = ("--filter", "event=attach", "--filter", f"container={ident}")
    return len(docker.docker("events", "--since", "5m", "--until", "0s", *filters).splitlines())


def _started(docker: Launcher, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
    return subprocess.Popen(
        docker.command(*arguments),
        env=environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_signal_to_the_client_reaches_the_container(docker: Launcher) -> None:
    script = "trap 'echo told; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    client = _started(docker, "run", "--rm", "busybox", "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n"

    client.terminate()

    assert client.communicate(timeout=20)[0] == "told\n"
    assert client.returncode == 4


# Exec


def test_an_exec_has_its_own_output_input_and_code(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    done = docker.run("exec", "-i", "one", "sh", "-c", "cat; echo err >&2; exit 6", given="in\n")

    assert (done.returncode, done.stdout, done.stderr) == (6, "in\n", "err\n")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
        ("/etc", 126, 'exec: "/etc": permission denied'),
    ],
)
def test_an_exec_that_cannot_run_is_told(docker: Launcher, command: str, code: int, words: str) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    done = docker.run("exec", "one", command)

    assert done.returncode == code
    assert words in done.stdout + done.stderr


def test_an_exec_needs_a_container_that_runs(docker: Launcher) -> None:
    ident = docker.docker("create", "--name", "one", "busybox")

    code, error = docker.fails("exec", "one", "true")

    assert code == 1
    assert f"Container {ident} is not running" in error


def test_a_detached_exec_goes_on_by_itself(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    docker.docker("exec", "-d", "one", "touch", "/made")

    eventually(lambda: docker.run("exec", "one", "test", "-e", "/made").returncode == 0)


# Logs


def test_logs_are_shown_followed_and_cut(docker: Launcher) -> None:
    docker.docker(
        "run", "-d", "--name", "one", "busybox", "sh", "-c", "seq 1 5; echo err >&2; sleep 0.5; echo end"
    )

    followed = docker.run("logs", "-f", "one")

    assert (followed.stdout, followed.stderr) == ("1\n2\n3\n4\n5\nend\n", "err\n")
    assert docker.docker("logs", "--tail", "1", "one") == "end"
    stamped = docker.docker("logs", "-t", "--tail", "1", "one").split()
    assert docker.docker("logs", "--since", stamped[0], "one") == "end"
    assert docker.run("logs", "--until", stamped[0], "one").stdout.endswith("5\nend\n")


def test_fifty_who_follow_stop_nobody(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", "echo word; sleep 1000")
    followers = [_started(docker, "logs", "-f", "one") for _ in range(50)]
    try:
        for follower in followers:
            assert follower.stdout is not None
            assert follower.stdout.readline() == "word\n"

        assert docker.docker("exec", "one", "echo", "here") == "here"
        docker.docker("kill", "one")

        assert {follower.wait(20) for follower in followers} == {0}
    finally:
        for follower in followers:
            follower.kill()
            follower.communicate()
