"""Execs in running containers, by a real runc: their streams, codes and records, and what they leave."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cnm.errors import Conflict, NotFound
from cnm.launcher.attach import Ended
from cnm.launcher.execs import Exec, Execs, process
from cnm.wire.containers import ExecCreate
from tests.support.attached import attached
from tests.support.multiplexed import read_all, read_until, split
from tests.support.small_containers import PATIENCE, Bundle, Containers, eventually


@pytest.fixture(scope="module")
def target(made: Containers) -> Bundle:
    """A container to run things in."""
    return made.run("sleep", "100000")


class Stage:
    """Execs of one container, and those that were told to have ended."""

    def __init__(self, made: Containers, target: Bundle, folder: Path) -> None:
        self.ended: list[Exec] = []
        self.execs = Execs(made.exits, str(folder / "execs"), self.ended.append)
        self._made, self._target = made, target

    def exec(self, *command: str, user: dict[str, Any] | None = None, **wanted: Any) -> str:
        asked = {"attach_stdout": True, "attach_stderr": True, **wanted}
        create = ExecCreate(cmd=list(command), **asked)
        made = process(self._made.process(self._target), create, user, ("CAP_SYS_ADMIN",))
        return self.execs.create(self._target.id, create, made, self._made.runtime).id

    def serve(self, name: str, early: bytes = b"") -> Callable[[socket.socket], Ended | None]:
        return lambda client: self.execs.attach(name, client, early)

    def output(self, *command: str, **wanted: Any) -> tuple[bytes, int | None]:
        """What a process says, and its code, where its record is complete by the end of the connection."""
        name = self.exec(*command, **wanted)
        with attached(self.serve(name)) as one:
            said = read_all(one.client)
            return said if wanted.get("tty") else split(said).get(1, b""), self.code(name)

    def code(self, name: str) -> int | None:
        code: int | None = self.execs.inspect(name)["ExitCode"]
        return code


@pytest.fixture
def stage(made: Containers, target: Bundle, tmp_path: Path) -> Iterator[Stage]:
    """Nothing is left of the execs of a test: no process, no descriptor, no file."""
    before = set(os.listdir("/proc/self/fd"))
    processes = made.runtime.pids(target.id)
    yield Stage(made, target, tmp_path)
    eventually(lambda: made.runtime.pids(target.id) == processes)
    eventually(lambda: set(os.listdir("/proc/self/fd")) <= before)
    assert list((tmp_path / "execs").iterdir()) == []


def test_both_streams_come_framed_and_the_code_is_known_when_they_end(stage: Stage) -> None:
    name = stage.exec("sh", "-c", "echo out; echo err >&2; exit 7")

    with attached(stage.serve(name)) as one:
        assert split(read_all(one.client)) == {1: b"out\n", 2: b"err\n"}
        assert stage.code(name) == 7
        assert one.result() is Ended.OUTPUT
    assert [ended.id for ended in stage.ended] == [name]


def test_a_signals_code_is_128_more(stage: Stage) -> None:
    assert stage.output("sh", "-c", "kill -9 $$") == (b"", 137)


def test_input_that_came_with_the_request_and_behind_it_arrives_and_ends(stage: Stage) -> None:
    name = stage.exec("cat", attach_stdin=True)

    with attached(stage.serve(name, early=b"early ")) as one:
        one.client.sendall(b"x" * 1_000_000)
        one.client.shutdown(socket.SHUT_WR)

        assert split(read_all(one.client)) == {1: b"early " + b"x" * 1_000_000}
        assert stage.code(name) == 0


def test_streams_that_were_not_asked_for_are_not_sent(stage: Stage) -> None:
    name = stage.exec("sh", "-c", "echo out; echo err >&2", attach_stdout=False)

    with attached(stage.serve(name)) as one:
        assert split(read_all(one.client)) == {2: b"err\n"}


@pytest.mark.parametrize(
    ("command", "code", "reason"),
    [
        ("foo", 127, "executable file not found in $PATH"),
        ("/bin/none", 127, "stat /bin/none: no such file or directory"),
        ("/tmp/no-program", 126, "permission denied"),
    ],
)
def test_what_cannot_be_run_is_told_in_dockers_words(
    stage: Stage, command: str, code: int, reason: str
) -> None:
    said, found = stage.output(command)

    assert said.decode() == (
        "OCI runtime exec failed: exec failed: unable to start container process: "
        f'exec: "{command}": {reason}: unknown\r\n'
    )
    assert found == code


def test_a_terminal_is_raw_and_has_the_size_that_was_asked_for(stage: Stage) -> None:
    name = stage.exec(
        "sh", "-c", "stty size; read x; stty size", tty=True, attach_stdin=True, console_size=[40, 90]
    )

    with attached(stage.serve(name)) as one:
        read_until(one.client, b"40 90\r\n")
        stage.execs.resize(name, 50, 100)
        one.client.sendall(b"\n")

        assert read_all(one.client) == b"\r\n50 100\r\n"
        assert stage.code(name) == 0
    with pytest.raises(Conflict, match="cannot resize a stopped container: unknown"):
        stage.execs.resize(name, 1, 1)


def test_a_size_that_comes_before_the_terminal_waits_for_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = stage.exec(
        "sh", "-c", "while ! stty size 2>/dev/null | busybox grep '12 34'; do :; done", tty=True
    )
    resize = threading.Thread(target=stage.execs.resize, args=(name, 12, 34))
    resize.start()

    with attached(stage.serve(name)) as one:
        assert read_all(one.client) == b"12 34\r\n"
    resize.join(PATIENCE)

    monkeypatch.setattr("cnm.launcher.execs._START_SECONDS", 0.01)
    with pytest.raises(Conflict, match="timeout waiting for exec session ready"):
        stage.execs.resize(stage.exec("sh", tty=True), 1, 1)


def test_the_detach_keys_leave_a_process_that_runs_on(stage: Stage) -> None:
    name = stage.exec("sh", tty=True, attach_stdin=True, detach_keys="ctrl-x,y")

    with attached(stage.serve(name)) as one:
        one.client.sendall(b"echo a''b\n")
        read_until(one.client, b"ab\r\n")
        one.client.sendall(b"\x18y")
        read_all(one.client)
        assert one.result() is Ended.DETACHED

    assert stage.execs.inspect(name)["Running"]
    stage.execs.kill(name, signal.SIGKILL)
    assert stage.execs.find(name).ended.wait(PATIENCE)
    assert stage.code(name) == 137


def test_a_client_that_goes_away_leaves_a_process_that_is_not_stopped_by_its_output(stage: Stage) -> None:
    name = stage.exec("sh", "-c", "yes | head -c 3000000; exit 5")

    with attached(stage.serve(name)) as one:
        one.client.recv(10)
        one.client.close()
        assert one.result() is Ended.CLIENT

    assert stage.execs.find(name).ended.wait(PATIENCE)
    assert stage.code(name) == 5


def test_a_process_in_the_background_does_not_keep_the_client(stage: Stage) -> None:
    name = stage.exec("sh", "-c", "sleep 1000 & echo $!; exit 6")

    with attached(stage.serve(name)) as one:
        pid = split(read_all(one.client))[1].decode().strip()
        assert stage.code(name) == 6

    assert stage.output("sh", "-c", f"busybox kill {pid}") == (b"", 0)


def test_a_detached_exec_runs_by_itself(stage: Stage) -> None:
    name = stage.exec("sh", "-c", "exit 8")

    stage.execs.start(name, detach=True)

    assert stage.execs.find(name).ended.wait(PATIENCE)
    assert stage.code(name) == 8


def test_a_detached_terminal_is_one(stage: Stage) -> None:
    name = stage.exec("sh", "-c", "busybox tty && yes | head -c 200000", tty=True)

    stage.execs.start(name, detach=True)

    assert stage.execs.find(name).ended.wait(PATIENCE)
    assert stage.code(name) == 0


def test_a_detached_exec_that_cannot_start_says_so(stage: Stage) -> None:
    name = stage.exec("foo")

    with pytest.raises(Exception, match="executable file not found"):
        stage.execs.start(name, detach=True)

    assert stage.code(name) == 127


def test_fifty_at_once(stage: Stage) -> None:
    with ExitStack() as stack:
        all_of_them = [
            stack.enter_context(attached(stage.serve(stage.exec("sh", "-c", f"echo {n}; exit {n}"))))
            for n in range(50)
        ]
        said = [split(read_all(one.client))[1] for one in all_of_them]

    assert said == [b"%d\n" % n for n in range(50)]
    assert sorted(ended.exit_code or 0 for ended in stage.ended) == list(range(50))


def test_environment_folder_user_and_privileges_are_the_execs(stage: Stage) -> None:
    said, _ = stage.output(
        *("sh", "-c", "echo $A$B; pwd; id -u; busybox grep CapEff /proc/self/status"),
        env=["A=1", "B=2"],
        working_dir="/tmp",
        privileged=True,
    )
    assert said.split() == [b"12", b"/tmp", b"0", b"CapEff:", b"0000000000200000"]

    said, _ = stage.output(
        "sh", "-c", "id; echo said > /dev/stdout", user={"uid": 33, "gid": 44, "additionalGids": [55]}
    )
    assert said == b"uid=33 gid=44 groups=55\nsaid\n"


def test_the_record_is_dockers(stage: Stage, target: Bundle) -> None:
    name = stage.exec("sleep", "1000", user=None)
    record = stage.execs.inspect(name)
    assert record == {
        "ID": name,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {"tty": False, "entrypoint": "sleep", "arguments": ["1000"], "privileged": False},
        "OpenStdin": False,
        "OpenStderr": True,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": target.id,
        "DetachKeys": "",
        "Pid": 0,
    }
    assert [e.id for e in stage.execs.of(target.id)] == [name]

    running = stage.execs.start(name, detach=True)
    assert stage.execs.inspect(name) == record | {"Running": True, "Pid": running.exec.pid}
    with pytest.raises(Conflict, match=f"Error: Exec command {name} is already running"):
        stage.execs.start(name)

    stage.execs.kill(name, signal.SIGTERM)
    assert running.exec.ended.wait(PATIENCE)
    assert stage.execs.inspect(name) == record | {"ExitCode": 143, "Pid": running.exec.pid}
    with pytest.raises(Conflict, match=f"Error: Exec command {name} has already run"):
        stage.execs.start(name)
    assert stage.execs.of(target.id) == []

    stage.execs.forget(target.id)
    with pytest.raises(NotFound, match=f"No such exec instance: {name}"):
        stage.execs.inspect(name)


def test_output_is_collected_up_to_a_limit_and_a_time(stage: Stage) -> None:
    quick = stage.execs.start(stage.exec("sh", "-c", "echo one; echo two >&2"))
    assert sorted((stage.execs.collect(quick, 4096, PATIENCE) or b"").split()) == [b"one", b"two"]

    long = stage.execs.start(stage.exec("sh", "-c", "yes | head -c 100000"))
    assert stage.execs.collect(long, 10, PATIENCE) == b"y\n" * 5

    slow = stage.execs.start(stage.exec("sleep", "1000"))
    assert stage.execs.collect(slow, 10, 0.05) is None
    stage.execs.kill(slow.exec.id, signal.SIGKILL)


def test_the_end_of_the_container_ends_its_execs(made: Containers, tmp_path: Path) -> None:
    bundle = made.run("sleep", "1000")
    stage = Stage(made, bundle, tmp_path)
    name = stage.exec("sleep", "1000")
    started = threading.Event()

    with attached(
        lambda client: stage.execs.attach(name, client, b"", started=lambda _exec: started.set())
    ) as one:
        assert started.wait(PATIENCE)
        made.runtime.kill(bundle.id, signal.SIGKILL)

        assert read_all(one.client) == b""
        assert stage.code(name) == 137
    assert made.await_exit(bundle) == 137
