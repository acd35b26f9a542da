"""cnmctl drives containers through the Engine API of a real dockerd: streams, terminals, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import pytest

from netns_fixtures import Topology
from tests.docker.docker_lab import NEEDS_DOCKERD, eventually
from tests.docker.shown_stage import Daemon
from tests.support.dockerd import Dockerd, make_image, start_dockerd
from tests.support.terminal import Terminal, on_a_terminal

pytestmark = NEEDS_DOCKERD
CHECKOUT = Path(__file__).parents[2]
WORLD: dict[str, Any] = {"hosts": {"host": {}}, "links": []}
PATIENCE = 60


class Cli:
    """cnmctl as a process of its own, which talks to this daemon."""

    def __init__(self, dockerd: Daemon, socket: object = None) -> None:
        """`socket` in place of the daemon's own: a cnmd's, beside which it is found."""
        self.dockerd = dockerd
        self.command = (sys.executable, "-m", "cnm.cli", "-H", f"unix://{socket or dockerd.socket}")

    def __call__(self, *words: str, typed: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        """Runs to its end; `typed` is its stdin, which is /dev/null otherwise."""
        return subprocess.run(
            [*self.command, *words],
            cwd=CHECKOUT,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
            **({"stdin": subprocess.DEVNULL} if typed is None else {"input": typed}),
        )

    def said(self, *words: str, typed: bytes | None = None) -> tuple[int, str, str]:
        """Exit code, stdout and stderr."""
        done = self(*words, typed=typed)
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    def open(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self.command, *words],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def terminal(self, *words: str) -> AbstractContextManager[Terminal]:
        return on_a_terminal([*self.command, *words], directory=CHECKOUT)

    def inspect(self, container: str) -> Any:
        return json.loads(self.dockerd.docker("inspect", container))[0]


def pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    """Of a process that has them all."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr


@pytest.fixture(scope="module")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    with (
        Topology(WORLD) as topology,
        start_dockerd(
            tmp_path_factory.mktemp("cli") / "docker", popen=topology.hosts["host"].popen
        ) as daemon,
    ):
        make_image(daemon)
        yield daemon


@pytest.fixture
def cli(dockerd: Daemon) -> Iterator[Cli]:
    yield Cli(dockerd)
    eventually(partial(_remove_all, dockerd))


def _remove_all(dockerd: Daemon) -> bool:
    """Whether none is left; one that is removing itself cannot be removed."""
    with suppress(RuntimeError):
        dockerd.docker("rm", "--force", "--volumes", *dockerd.docker("ps", "--all", "--quiet").split())
    return not dockerd.docker("ps", "--all", "--quiet")


class TestRun:
    def test_output_and_exit_code_are_the_containers(self, cli: Cli) -> None:
        done = cli.said("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")

        assert done == (7, "out\n", "err\n")
        assert cli.dockerd.docker("ps", "--all", "--quiet") == ""

    def test_piped_stdin_ends_what_reads_it(self, cli: Cli) -> None:
        content = os.urandom(5_000_000)

        done = cli("run", "--rm", "-i", "busybox", "cat", typed=content)

        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == content

    def test_without_i_stdin_is_not_read(self, cli: Cli) -> None:
        assert cli.said("run", "--rm", "busybox", "cat", typed=b"secret") == (0, "", "")

    def test_output_that_nobody_reads_yet_does_not_keep_input_back(self, cli: Cli) -> None:
        """Both pipes are full for a while: only a client that never blocks on one side gets on."""
        script = "head -c 900000 /dev/zero & cat >/dev/null; wait; echo >&2 done"
        with cli.open("run", "--rm", "-i", "busybox", "sh", "-c", script) as process:
            stdin, stdout, stderr = pipes(process)
            stdin.write(b"x" * 3_000_000)
            stdin.close()
            assert len(stdout.read()) == 900_000
            assert stderr.read() == b"done\n"

    def test_detached_prints_the_id(self, cli: Cli) -> None:
        code, out, err = cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")

        shown = cli.inspect("web")
        assert (code, out, err) == (0, f"{shown['Id']}\n", "")
        assert shown["State"]["Running"]
        assert shown["Config"]["AttachStdout"] is False

    @pytest.mark.parametrize(
        ("words", "code", "reason"),
        [
            (["busybox", "nope"], 127, "executable file not found in $PATH"),
            (["busybox", "/etc"], 126, "permission denied"),
            (["-d", "busybox", "nope"], 127, "executable file not found in $PATH"),
            (["--network", "nope", "busybox", "true"], 125, "network nope not found"),
            (["-w", "relative", "busybox", "true"], 125, "the working directory 'relative' is invalid"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else None,
    )
    def test_failed_start_has_dockers_exit_code_and_leaves_nothing(
        self, cli: Cli, words: list[str], code: int, reason: str
    ) -> None:
        failed = cli.said("run", "--rm", *words)

        assert failed[0] == code
        assert failed[2].startswith("Error response from daemon: ")
        assert reason in failed[2]
        assert cli.dockerd.docker("ps", "--all", "--quiet") == ""

    def test_name_in_use_is_125_and_says_where_help_is(self, cli: Cli) -> None:
        cli.said("create", "--name", "web", "busybox", "true")

        code, _, err = cli.said("run", "--name", "web", "busybox", "true")

        refusal, hint = err.splitlines()
        assert code == 125
        assert refusal.startswith(
            'Error response from daemon: Conflict. The container name "/web" is already'
        )
        assert hint == "See 'cnmctl run --help'."

    def test_missing_image_is_looked_for_and_125(self, cli: Cli) -> None:
        code, _, err = cli.said("run", "nowhere/nope")

        assert code == 125
        assert err.startswith(
            "Unable to find image 'nowhere/nope:latest' locally\nError response from daemon: "
        )

    def test_missing_image_that_shall_not_be_pulled_is_125(self, cli: Cli) -> None:
        code, _, err = cli.said("run", "--pull", "never", "nope")

        assert code == 125
        assert err.startswith("Error response from daemon: No such image: nope:latest\n")

    def test_terminal_for_a_pipe_is_refused_before_anything_is_made(self, cli: Cli) -> None:
        code, _, err = cli.said("run", "-it", "busybox", "sh")

        assert (code, err) == (
            1,
            "cnmctl: the input device is not a TTY: leave out -t, or run it from a terminal\n",
        )
        assert cli.dockerd.docker("ps", "--all", "--quiet") == ""

    def test_id_file_is_written_and_never_overwritten(self, cli: Cli, tmp_path: Path) -> None:
        path = tmp_path / "id"

        created = cli.said("create", "--cidfile", str(path), "busybox", "true")
        again = cli.said("run", "--cidfile", str(path), "busybox", "true")

        assert path.read_text() == created[1].strip()
        assert again[0] == 125
        assert "container ID file found, make sure the other container isn't running or delete" in again[2]

    def test_id_file_of_a_container_that_was_not_made_is_gone(self, cli: Cli, tmp_path: Path) -> None:
        cli.said(
            "create", "--cidfile", str(tmp_path / "id"), "--network", "a", "--name", "!", "busybox", "true"
        )

        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
    def test_signal_goes_to_the_process(self, cli: Cli, number: signal.Signals) -> None:
        if signal.getsignal(number) is signal.SIG_IGN:
            pytest.skip("the tests run under nohup, whose children do not hear of it")
        trap = f"trap 'echo caught; exit 5' {number.name.removeprefix('SIG')}"
        script = f"{trap}; echo ready; while :; do sleep 0.05; done"
        with cli.open("run", "--rm", "busybox", "sh", "-c", script) as process:
            _, stdout, _ = pipes(process)
            assert stdout.readline() == b"ready\n"
            process.send_signal(number)

            assert stdout.readline() == b"caught\n"
            assert process.wait(PATIENCE) == 5

    def test_signal_death_is_128_and_the_signal(self, cli: Cli) -> None:
        with cli.open(
            "run", "--rm", "--init", "--name", "web", "busybox", "sh", "-c", "echo r; sleep 9"
        ) as process:
            assert pipes(process)[1].readline() == b"r\n"
            cli.dockerd.docker("kill", "web")

            assert process.wait(PATIENCE) == 137

    def test_signals_that_are_not_passed_on_end_the_client_only(self, cli: Cli) -> None:
        words = ("run", "--sig-proxy=false", "--name", "web", "busybox", "sh", "-c", "echo r; sleep 1000")
        with cli.open(*words) as process:
            assert pipes(process)[1].readline() == b"r\n"
            process.send_signal(signal.SIGINT)

            assert process.wait(PATIENCE) == 130
        assert cli.inspect("web")["State"]["Running"]

    def test_reader_that_goes_away_is_no_traceback(self, cli: Cli) -> None:
        with cli.open("run", "--rm", "busybox", "sh", "-c", "yes | head -n 1000000") as process:
            _, stdout, stderr = pipes(process)
            stdout.close()

            assert stderr.read() == b""
            assert process.wait(PATIENCE) == 141

    def test_closed_streams_are_not_the_connections(self, cli: Cli) -> None:
        program = " ".join(cli.command)
        script = f"{program} run --rm -i --name web busybox sh -c 'cat; echo x >&2; exit 3' <&- >&-"

        done = subprocess.run(
            ["sh", "-c", script], cwd=CHECKOUT, capture_output=True, timeout=PATIENCE, check=False
        )

        assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"x\n")

    def test_only_stdin_attached_waits_for_the_end_in_silence(self, cli: Cli) -> None:
        words = ("-i", "-a", "stdin", "--name", "web", "busybox", "sh", "-c", "cat; exit 5")

        assert cli.said("run", *words, typed=b"hello\n") == (5, "", "")
        assert cli.dockerd.docker("logs", "web") == "hello"

    def test_only_stdin_attached_is_passed_on_whole_to_a_process_that_reads_late(self, cli: Cli) -> None:
        words = ("-i", "-a", "stdin", "--name", "web", "busybox", "sh", "-c", "sleep 1; wc -c")

        assert cli.said("run", *words, typed=b"x" * 200_000) == (0, "", "")
        assert cli.dockerd.docker("logs", "web") == "200000"

    def test_terminal_without_stdin_shows_what_is_written(self, cli: Cli) -> None:
        assert cli.said("run", "--rm", "-t", "busybox", "echo", "hello") == (0, "hello\r\n", "")


class TestTerminal:
    def test_shell_in_a_terminal(self, cli: Cli) -> None:
        with cli.terminal("run", "--rm", "-it", "busybox", "sh") as session:
            session.expect("# ")
            assert session.is_raw()
            session.type("echo a''b; tty\r")
            session.expect("ab\r\n/dev/pts/0\r\n")
            session.type("exit 3\r")

            assert session.exit_code() == 3
            assert not session.is_raw()

    def test_size_is_the_windows_from_the_start_and_follows_it(self, cli: Cli) -> None:
        with cli.terminal("run", "--rm", "-it", "busybox", "sh") as session:
            session.expect("# ")
            session.type("stty size\r")
            session.expect("30 100\r\n")
            session.resize(41, 132)
            session.type("until stty size | grep '41 132'; do sleep 0.05; done; echo fol''lowed\r")
            session.expect("followed")

    def test_keys_are_not_signals_here_but_there(self, cli: Cli) -> None:
        with cli.terminal("run", "--rm", "-it", "busybox", "sh") as session:
            session.expect("# ")
            session.type("sh -c 'echo r''eady; sleep 1000'\r")
            session.expect("ready\r\n")
            session.type("\x03")
            session.expect("# ")
            session.type("echo $?\r")
            session.expect("130\r\n")

    def test_ctrl_p_ctrl_q_leaves_it_running_and_attach_comes_back(self, cli: Cli) -> None:
        with cli.terminal("run", "--name", "web", "-it", "busybox", "sh") as session:
            session.expect("# ")
            session.type("KEPT=yes\r")
            session.expect("# ")
            session.type("\x10\x11")
            assert session.exit_code() == 0
            assert not session.is_raw()
        assert cli.inspect("web")["State"]["Running"]

        with cli.terminal("attach", "web") as session:
            session.type("\recho kept=$KEPT; exit 4\r")
            session.expect("kept=yes\r\n")
            assert session.exit_code() == 4

    def test_other_detach_keys_and_ctrl_p_is_a_key_again(self, cli: Cli) -> None:
        with cli.terminal(
            "run", "--detach-keys", "ctrl-x,x", "--name", "web", "-it", "busybox", "sh"
        ) as session:
            session.expect("# ")
            session.type("echo a''b\r")
            session.expect("ab\r\n")
            session.type("\x10\r")  # the line before comes back
            session.expect("ab\r\n")
            session.type("\x18x")
            assert session.exit_code() == 0
        assert cli.inspect("web")["State"]["Running"]

    def test_detaching_from_attach_and_exec_says_so(self, cli: Cli) -> None:
        cli.said("run", "-dit", "--name", "web", "busybox", "sh")
        for words in (["attach", "web"], ["exec", "-it", "web", "sh"]):
            with cli.terminal(*words) as session:
                session.expect("# ")
                session.type("\x10\x11")
                assert session.exit_code() == 1
                assert session.shown.endswith("cnmctl: read escape sequence\r\n")

    def test_exec_in_a_terminal(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        with cli.terminal("exec", "-it", "web", "sh") as session:
            session.expect("# ")
            session.type("until stty size | grep '30 100'; do sleep 0.05; done\r")
            session.expect("30 100\r\n")
            session.resize(20, 70)
            session.type("until stty size | grep '20 70'; do sleep 0.05; done; exit 6\r")
            session.expect("20 70\r\n")

            assert session.exit_code() == 6

    def test_failed_start_leaves_the_terminal_as_it_was(self, cli: Cli) -> None:
        with cli.terminal("run", "--rm", "-it", "busybox", "nope") as session:
            session.expect("Error response from daemon: ")
            assert session.exit_code() == 127
            assert not session.is_raw()
            assert session.shown.endswith("unknown\r\n")

    def test_terminating_the_client_leaves_the_terminal_as_it_was(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        with cli.terminal("exec", "-it", "web", "sh") as session:
            session.expect("# ")
            assert session.is_raw()
            session.process.terminate()

            assert session.exit_code() == -signal.SIGTERM
            assert not session.is_raw()

    def test_start_attached(self, cli: Cli) -> None:
        cli.said("create", "-it", "--name", "web", "busybox", "sh")
        with cli.terminal("start", "-ai", "web") as session:
            session.expect("# ")
            session.type("stty size; exit 2\r")
            session.expect("30 100\r\n")

            assert session.exit_code() == 2


class TestExec:
    def test_output_exit_code_and_options(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")

        done = cli.said(
            *("exec", "-e", "A=1", "-w", "/tmp", "-u", "nobody", "web"),
            *("sh", "-c", 'echo "$A $(pwd) $(id -un)"; echo err >&2; exit 9'),
        )

        assert done == (9, "1 /tmp nobody\n", "err\n")

    def test_piped_stdin(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        content = os.urandom(1_000_000)

        assert cli("exec", "-i", "web", "cat", typed=content).stdout == content

    def test_detached(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")

        assert cli.said("exec", "-d", "web", "touch", "/tmp/made") == (0, "", "")
        eventually(lambda: cli("exec", "web", "test", "-e", "/tmp/made").returncode == 0)

    def test_dashes_belong_to_the_command(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")

        assert cli.said("exec", "web", "echo", "--help", "-i") == (0, "--help -i\n", "")

    @pytest.mark.parametrize("words", [["nope", "true"], ["-it", "nope", "true"]], ids=" ".join)
    def test_unknown_container(self, cli: Cli, words: list[str]) -> None:
        assert cli.said("exec", *words) == (
            1,
            "",
            "Error response from daemon: No such container: nope\n",
        )

    def test_command_that_is_not_there(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")

        code, out, err = cli.said("exec", "web", "nope")

        assert code in (126, 127)  # as the daemon says; dockerd's own changed between releases
        assert "executable file not found" in out + err


class TestAttach:
    def test_output_until_the_end_and_its_exit_code(self, cli: Cli) -> None:
        script = "while ! test -e /go; do echo tick; sleep 0.05; done; echo late; exit 8"
        cli.said("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
        with cli.open("attach", "web") as process:
            stdin, stdout, _ = pipes(process)
            stdin.close()
            assert stdout.readline() == b"tick\n"
            cli.said("exec", "web", "touch", "/go")

            assert stdout.read().endswith(b"tick\nlate\n")
            assert process.wait(PATIENCE) == 8

    def test_stopped_container_is_refused(self, cli: Cli) -> None:
        cli.said("create", "--name", "web", "busybox", "true")

        assert cli.said("attach", "web") == (
            1,
            "",
            "cnmctl: cannot attach to a stopped container, start it first\n",
        )

    def test_signals_are_passed_on(self, cli: Cli) -> None:
        script = "trap 'echo caught; exit 5' TERM; while :; do echo tick; sleep 0.05; done"
        cli.said("run", "-d", "--name", "web", "busybox", "sh", "-c", script)
        with cli.open("attach", "--no-stdin", "web") as process:
            _, stdout, _ = pipes(process)
            stdout.readline()
            process.send_signal(signal.SIGTERM)

            assert stdout.read().splitlines()[-1] == b"caught"
            assert process.wait(PATIENCE) == 5


class TestLifecycle:
    def test_start_stop_restart_kill_wait_rename_rm(self, cli: Cli) -> None:
        cli.said("create", "--name", "web", "busybox", "sleep", "1000")

        assert cli.said("start", "web") == (0, "web\n", "")
        assert cli.said("stop", "-t", "0", "web") == (0, "web\n", "")
        assert cli.said("restart", "--time", "0", "web") == (0, "web\n", "")
        assert cli.said("pause", "web") == (0, "web\n", "")
        assert cli.inspect("web")["State"]["Paused"]
        assert cli.said("unpause", "web") == (0, "web\n", "")
        assert cli.said("kill", "-s", "KILL", "web") == (0, "web\n", "")
        assert cli.said("wait", "web") == (0, "137\n", "")
        assert cli.said("rename", "web", "other") == (0, "", "")
        assert cli.said("rm", "other") == (0, "other\n", "")

    def test_several_at_once_go_on_past_one_that_fails(self, cli: Cli) -> None:
        for name in ("one", "two"):
            cli.said("run", "-d", "--name", name, "busybox", "sleep", "1000")

        stopped = cli.said("stop", "-t", "0", "one", "nope", "two")
        removed = cli.said("rm", "-f", "-v", "one", "two")

        assert stopped == (1, "one\ntwo\n", "Error response from daemon: No such container: nope\n")
        assert removed == (0, "one\ntwo\n", "")

    def test_missing_container_is_no_failure_for_rm_with_force(self, cli: Cli) -> None:
        complaint = "Error response from daemon: No such container: nope\n"

        assert cli.said("rm", "-f", "nope") == (0, "", complaint)
        assert cli.said("rm", "nope") == (1, "", complaint)

    def test_running_container_is_not_removed_without_force(self, cli: Cli) -> None:
        cli.said("run", "-d", "--name", "web", "busybox", "sleep", "1000")

        code, out, err = cli.said("rm", "web")

        assert (code, out) == (1, "")
        assert "running" in err
        assert cli.inspect("web")["State"]["Running"]

    def test_start_attached_with_piped_stdin(self, cli: Cli) -> None:
        cli.said("create", "-i", "--name", "web", "busybox", "sh", "-c", "cat; exit 4")

        assert cli.said("start", "-ai", "web", typed=b"hello\n") == (4, "hello\n", "")

    def test_update_changes_limits(self, cli: Cli) -> None:
        cli.said("create", "--name", "web", "busybox", "true")

        done = cli.said("update", "-m", "20m", "--memory-swap", "30m", "--restart", "on-failure:3", "web")

        shown = cli.inspect("web")["HostConfig"]
        assert done[:2] == (0, "web\n")
        assert (shown["Memory"], shown["MemorySwap"]) == (20 << 20, 30 << 20)
        assert shown["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_ports_are_listed_as_docker_lists_them(cli: Cli) -> None:
    ports = ("-p", "127.0.0.1:8081:80", "-p", "8082-8083:90-91", "--expose", "7")
    cli.said("run", "-d", "--name", "web", *ports, "busybox", "sleep", "1000")

    assert cli.said("port", "web")[1].splitlines() == [
        "80/tcp -> 127.0.0.1:8081",
        "90/tcp -> 0.0.0.0:8082",
        "90/tcp -> [::]:8082",
        "91/tcp -> 0.0.0.0:8083",
        "91/tcp -> [::]:8083",
    ]
    assert cli.said("port", "web", "80") == (0, "127.0.0.1:8081\n", "")
    assert cli.said("port", "web", "7") == (1, "", "cnmctl: no public port '7/tcp' published for web\n")


def test_what_was_asked_for_is_what_the_daemon_keeps(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("FROM_FILE=1\n")
    flags = (
        *("--hostname", "h", "-e", "A=1", "--env-file", str(tmp_path / "env"), "-l", "tier=back"),
        *("-p", "127.0.0.1:8080:80", "--expose", "90", "-v", f"{tmp_path}:/data:ro", "--tmpfs", "/t:size=1m"),
        *("--mount", f"type=bind,src={tmp_path},dst=/other,readonly", "--cap-drop", "ALL", "--init"),
        *("--ulimit", "nofile=100:200", "-m", "64m", "--cpus", "0.5", "--pids-limit", "50"),
        *("--health-cmd", "true", "--health-interval", "30s", "--restart", "on-failure:2"),
        *(
            "--stop-signal",
            "USR1",
            "--stop-timeout",
            "3",
            "--dns",
            "192.0.2.53",
            "--add-host",
            "db=192.0.2.9",
        ),
    )

    created = cli.said("run", "-d", "--name", "web", *flags, "busybox", "sleep", "1000")

    shown = cli.inspect("web")
    config, host = shown["Config"], shown["HostConfig"]
    assert created[0] == 0, created[2]
    assert {"A=1", "FROM_FILE=1"} <= set(config["Env"])
    assert (config["Hostname"], config["Labels"], config["StopSignal"]) == ("h", {"tier": "back"}, "USR1")
    assert config["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 30 * 10**9}
    assert set(config["ExposedPorts"]) == {"80/tcp", "90/tcp"}
    assert shown["NetworkSettings"]["Ports"]["80/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "8080"}]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (64 << 20, 5 * 10**8, 50)
    assert {mount["Destination"]: mount["RW"] for mount in shown["Mounts"]} == {
        "/data": False,
        "/other": False,
    }
    assert cli.said("exec", "web", "grep", "db", "/etc/hosts")[1].split() == ["192.0.2.9", "db"]
