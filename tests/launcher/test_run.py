"""`docker run` of the unmodified CLI: what a container prints, ends with, and is told when it cannot run."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.cnmd import PYTHON
from tests.support.launcher import Launcher
from tests.support.launcher_left import left


def test_output_and_exit_code_are_the_containers(docker: Launcher) -> None:
    done = docker.run("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")

    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert docker.docker("ps", "-aq") == ""


def test_standard_input_reaches_it_and_ends(docker: Launcher) -> None:
    assert docker.docker("run", "--rm", "-i", "busybox", "wc", "-c", given="x" * 100_000) == "100000"


def test_a_signal_is_128_and_its_number(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "busybox", "sleep", "100")

    docker.docker("kill", "one")

    assert docker.docker("wait", "one") == "137"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (("nosuch",), 127, 'exec: "nosuch": executable file not found in $PATH'),
        (("/nosuch",), 127, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        (("/etc",), 126, 'exec: "/etc": permission denied'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_a_command_that_cannot_run_is_told_as_docker_tells_it(
    docker: Launcher, command: tuple[str, ...], code: int, words: str
) -> None:
    found, error = docker.fails("run", "--rm", "busybox", *command)

    assert found == code
    assert (
        f"OCI runtime create failed: runc create failed: unable to start container process: {words}" in error
    )
    assert docker.docker("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nosuch",), "Unable to find image 'nosuch:latest' locally"),
        (("--network", "nosuch", "busybox"), "network nosuch not found"),
        (("--network", "container:nosuch", "busybox"), "No such container: nosuch"),
        (
            ("--mount", "type=bind,source=/nosuch,target=/x", "busybox"),
            'invalid mount config for type "bind": bind source path does not exist: /nosuch.',
        ),
        (
            ("--name", "a/b", "busybox"),
            "Invalid container name (a/b), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (("--memory", "1m", "busybox"), "Minimum memory limit allowed is 6MB"),
        (("--cap-add", "NOSUCH", "busybox"), 'unknown capability: "CAP_NOSUCH"'),
        (("--runtime", "nosuch", "busybox"), "unknown or invalid runtime name: nosuch"),
        (("--restart", "always", "--rm", "busybox"), "Conflicting options: --restart and --rm"),
        (("--user", "nosuch", "busybox"), "unable to find user nosuch: no matching entries in passwd file"),
    ],
)
def test_what_the_daemon_refuses_is_125_and_leaves_nothing(
    docker: Launcher, arguments: tuple[str, ...], words: str
) -> None:
    code, error = docker.fails("run", "--rm", *arguments)

    assert code == 125
    assert words in error
    assert docker.docker("ps", "-aq") == ""


def test_a_name_that_is_in_use_is_refused_with_who_has_it(docker: Launcher) -> None:
    ident = docker.docker("create", "--name", "one", "busybox")

    code, error = docker.fails("run", "--name", "one", "busybox")

    assert code == 125
    assert f'The container name "/one" is already in use by container "{ident}"' in error


_HOLD = """\
import socket, sys
with socket.socket(type=socket.SocketKind[sys.argv[1]]) as held:
    held.bind(("0.0.0.0", 8080))
    if held.type is socket.SOCK_STREAM:
        held.listen()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        ("SOCK_STREAM", "8080:80"),
        ("SOCK_STREAM", "127.0.0.1:8080:80"),
        ("SOCK_DGRAM", "8080:80/udp"),
        ("SOCK_STREAM", "8079-8081:79-81"),
    ],
)
def test_a_port_of_another_program_is_refused_and_nothing_is_left(
    docker: Launcher, kind: str, published: str
) -> None:
    command = [PYTHON, "-c", _HOLD, kind]
    with docker.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline().strip() == "held"
        code, error = docker.fails("run", "-d", "--name", "one", "-p", published, "busybox", "sleep", "100")

    assert code == 125
    assert ":8080 failed: port is already allocated" in error
    shown = json.loads(docker.docker("inspect", "one"))[0]
    assert (shown["State"]["Status"], shown["State"]["ExitCode"]) == ("created", 128)
    assert left(docker) == [f"file {shown['Id']}"]
    docker.docker("start", "one")
    assert docker.docker("port", "one")


def test_a_port_that_is_in_use_is_refused_and_the_next_try_works(docker: Launcher) -> None:
    docker.docker("run", "-d", "--name", "one", "-p", "8080:80", "busybox", "sleep", "100")

    code, error = docker.fails("run", "--name", "two", "-p", "8080:80", "busybox", "true")

    assert code == 125
    assert "Bind for 0.0.0.0:8080 failed: port is already allocated" in error
    assert json.loads(docker.docker("inspect", "two"))[0]["State"]["Status"] == "created"
    docker.docker("rm", "-f", "one")
    assert docker.docker("start", "-a", "two") == ""


def test_a_detached_container_prints_its_id_and_keeps_what_it_said(docker: Launcher) -> None:
    ident = docker.docker("run", "-d", "busybox", "echo", "hello")

    assert len(ident) == 64
    assert docker.docker("wait", ident) == "0"
    assert docker.docker("logs", ident) == "hello"


def test_what_was_asked_of_the_process_is_so(docker: Launcher) -> None:
    shown = docker.docker(
        *("run", "--rm", "--hostname", "box.example", "-e", "COLOUR=red", "-w", "/data", "-u", "app"),
        *(
            "--add-host",
            "there:192.0.2.9",
            "busybox",
            "sh",
            "-c",
            "hostname; echo $COLOUR; pwd; id -un; grep there /etc/hosts",
        ),
    )

    assert shown.splitlines() == ["box.example", "red", "/data", "app", "192.0.2.9\tthere"]


def test_the_image_says_what_runs_unless_the_client_does(docker: Launcher) -> None:
    assert docker.docker("run", "--rm", "-i", "busybox", given="echo by the shell") == "by the shell"
    assert docker.docker("run", "--rm", "--entrypoint", "echo", "busybox", "again") == "again"


def test_an_out_of_memory_kill_is_told(docker: Launcher) -> None:
    eater = ("sh", "-c", "dd if=/dev/zero of=/dev/null bs=100M")

    code = docker.run(
        "run", "--name", "eater", "-m", "20m", "--memory-swap", "20m", "busybox", *eater
    ).returncode

    state = json.loads(docker.docker("inspect", "eater"))[0]["State"]
    assert (code, state["ExitCode"], state["OOMKilled"]) == (137, 137, True)
