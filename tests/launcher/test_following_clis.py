"""Docker's own command lines where they go on: on terminals, and following logs, events and statistics."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.docker.shown_stage import clients
from tests.support.launcher import Launcher
from tests.support.terminal import Terminal, on_a_terminal
from tests.support.unpacked import environment

_INTERRUPTED = (-signal.SIGINT, 130)
"""Older ones die of it, newer ones say so by their exit code."""


class Cli(NamedTuple):
    path: str
    docker: Launcher

    def command(self, *words: str) -> list[str]:
        return [self.path, "-H", f"unix://{self.docker.socket}", *words]

    @contextmanager
    def terminal(self, *words: str, rows: int = 30, columns: int = 100) -> Iterator[Terminal]:
        env = {**environment(), "TERM": "xterm"}
        with on_a_terminal(self.command(*words), env=env, rows=rows, columns=columns) as terminal:
            yield terminal

    @contextmanager
    def follows(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """It is killed at the end of the block, where it still goes on."""
        with subprocess.Popen(
            self.command(*words), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(
    params=[
        pytest.param(
            client.path, id=f"docker {client.version}", marks=[pytest.mark.skip(reason=lack)] if lack else []
        )
        for client, lack in clients()
    ]
)
def cli(request: pytest.FixtureRequest, docker: Launcher) -> Cli:
    """Debian's 20.10, and one of 28 or newer where there is one."""
    return Cli(request.param, docker)


def test_a_shell_is_typed_at_resized_interrupted_and_ends_with_its_code(cli: Cli) -> None:
    with cli.terminal("run", "-it", "--rm", "--name", "one", "busybox", "sh", rows=31, columns=97) as shell:
        shell.expect("/ # ")
        assert shell.is_raw()
        shell.type("until stty size | grep '^31 97$'; do sleep 0.1; done\r")
        shell.expect("\n31 97")
        shell.type("until stty size | grep '^40 120$'; do sleep 0.1; done\r")
        shell.resize_until(40, 120, "\n40 120")
        shell.type("sh -c 'echo r''eady; sleep 1000'\r")
        shell.expect("ready\r\n")
        shell.type("\x03")
        shell.expect("/ # ")
        shell.type("exit 5\r")
        assert shell.exit_code() == 5
        assert not shell.is_raw()
    assert cli.docker.docker("ps", "-aq") == ""


def test_a_container_that_was_left_by_its_keys_is_attached_again(cli: Cli) -> None:
    with cli.terminal("run", "-it", "--name", "one", "busybox", "sh") as shell:
        shell.expect("/ # ")
        shell.type("\x10\x11")
        assert shell.exit_code() == 0
    with cli.terminal("attach", "one") as shell:
        shell.type("echo $((6*7)); exit 3\r")
        shell.expect("\n42\r\n")
        assert shell.exit_code() == 3


def test_an_exec_has_a_terminal_of_its_own(cli: Cli) -> None:
    cli.docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    with cli.terminal("exec", "-it", "-u", "app", "-w", "/data", "one", "sh") as shell:
        shell.expect("$ ")
        shell.type("echo $(pwd) $(id -un) $(tty)\r")
        shell.expect("\n/data app /dev/pts/")
        shell.resize(20, 70)
        shell.type("until stty size | grep '^20 70$'; do sleep 0.1; done; exit 6\r")
        shell.expect("\n20 70")
        assert shell.exit_code() == 6


def test_logs_are_followed_to_the_end(cli: Cli) -> None:
    script = "echo first; while [ ! -e /go ]; do sleep 0.05; done; echo later >&2; echo last"
    cli.docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", script)

    with cli.follows("logs", "-f", "one") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        cli.docker.docker("exec", "one", "touch", "/go")
        rest = process.communicate(timeout=30)

    assert (rest, process.returncode) == (("last\n", "later\n"), 0)


def test_logs_are_followed_across_a_restart(cli: Cli) -> None:
    cli.docker.docker("run", "-d", "--name", "one", "busybox", "sh", "-c", "echo up; exec sleep 1000")

    with cli.follows("logs", "-f", "one") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        cli.docker.docker("restart", "-t", "0", "one")
        assert process.wait(30) == 0  # as with Docker, they end with the process whose they are
    assert cli.docker.docker("logs", "one") == "up\nup"


def test_events_are_told_as_they_happen_until_interrupted(cli: Cli) -> None:
    form = ("--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}", "--filter", "type=container")

    with cli.follows("events", "--since", f"{time.time():.6f}", *form) as process:
        assert process.stdout is not None
        told = []
        for words in (
            ("create", "--name", "one", "busybox", "true"),
            ("rename", "one", "two"),
            ("start", "two"),
        ):
            cli.docker.docker(*words)
            told.append(process.stdout.readline().strip())
        told.append(process.stdout.readline().strip())
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert told == [
        "container create one",
        "container rename two",
        "container start two",
        "container die two",
    ]
    assert process.returncode in _INTERRUPTED


def test_statistics_are_drawn_as_containers_come_and_go_until_interrupted(cli: Cli) -> None:
    cli.docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    with cli.terminal("stats", columns=200) as terminal:
        first = terminal.picture(lambda drawn: re.search(r"one .*iB /", drawn))
        cli.docker.docker("run", "-d", "--name", "comes", "busybox", "sleep", "1000")
        terminal.picture(lambda drawn: re.search(r"comes .*iB /", drawn))
        cli.docker.docker("rm", "-f", "comes")
        last = terminal.picture(lambda drawn: "comes" not in drawn)
        terminal.type("\x03")
        code = terminal.exit_code()

    assert re.search(
        r"one +\d+\.\d\d% +[\d.]+[KM]iB / [\d.]+GiB +\d+\.\d\d% +[\d.]+k?B / .* 1 *$", first, re.MULTILINE
    )
    assert "one" in last
    assert code in _INTERRUPTED


def test_statistics_of_one_that_is_gone_are_dashes(cli: Cli) -> None:
    cli.docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "1000")

    with cli.terminal("stats", "one", columns=200) as terminal:
        terminal.picture(lambda drawn: re.search(r"one .*iB /", drawn))
        cli.docker.docker("rm", "-f", "one")

        assert terminal.picture(lambda drawn: re.search(r"one +--  +-- / -- ", drawn))
