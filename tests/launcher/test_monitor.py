"""Containers under a real conmon: how they are created, what attachers see and say, how the end is learnt."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from cnm.errors import Conflict
from cnm.launcher import monitor
from cnm.launcher.attach import Ended, Wish
from cnm.launcher.attachments import Attachments
from cnm.launcher.runtime import RuntimeFailed
from cnm.launcher.streams import ContainerStreams
from tests.support.attached import attached
from tests.support.multiplexed import read_all, read_until, split
from tests.support.small_containers import Bundle, Containers, eventually

BOTH = Wish(tty=False)
TALK = Wish(tty=False, stdin=True)
TERMINAL = Wish(tty=True, stdin=True)


@pytest.fixture
def attachments() -> Iterator[Attachments]:
    """Whoever was attached leaves no descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    yield Attachments()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def _serve(
    attachments: Attachments, bundle: Bundle, pid: int, wish: Wish
) -> Callable[[socket.socket], Ended]:
    """Connected to the container's streams already."""
    streams = ContainerStreams(bundle.path, pid)
    return lambda client: attachments.serve(bundle.id, client, b"", streams, wish)


def test_an_attacher_before_the_start_gets_every_byte_of_both_streams(
    made: Containers, attachments: Attachments
) -> None:
    bundle = made.bundle("sh", "-c", "echo out; echo err >&2; exit 3")
    created = made.create(bundle)

    with attached(_serve(attachments, bundle, created.pid, BOTH)) as one:
        made.runtime.start(bundle.id)

        assert split(read_all(one.client)) == {1: b"out\n", 2: b"err\n"}
        assert one.result() is Ended.OUTPUT
    assert made.await_exit(bundle) == 3


def test_a_megabyte_arrives_whole_and_in_the_log(made: Containers, attachments: Attachments) -> None:
    bundle = made.bundle("sh", "-c", "yes 0123456789abcde | head -c 4000000")
    created = made.create(bundle)

    with attached(_serve(attachments, bundle, created.pid, BOTH)) as one:
        made.runtime.start(bundle.id)

        assert split(read_all(one.client)) == {1: b"0123456789abcde\n" * 250_000}
    assert made.await_exit(bundle) == 0
    assert Path(bundle.log).read_bytes().count(b"0123456789abcde") == 250_000


def test_several_attachers_hear_the_same(made: Containers, attachments: Attachments) -> None:
    bundle = made.bundle("sh", "-c", "seq 1000")
    created = made.create(bundle)

    with ExitStack() as stack:
        all_of_them = [
            stack.enter_context(attached(_serve(attachments, bundle, created.pid, BOTH))) for _ in range(5)
        ]
        made.runtime.start(bundle.id)
        heard = [split(read_all(one.client))[1] for one in all_of_them]

    assert heard == ["".join(f"{n}\n" for n in range(1, 1001)).encode()] * 5
    made.await_exit(bundle)


def test_the_end_of_the_first_attachers_input_is_the_containers(
    made: Containers, attachments: Attachments
) -> None:
    bundle = made.bundle("cat")
    created = made.create(bundle, stdin=True, stdin_once=True)

    with attached(_serve(attachments, bundle, created.pid, TALK)) as one:
        made.runtime.start(bundle.id)
        one.client.sendall(b"x" * 300_000)
        one.client.shutdown(socket.SHUT_WR)

        assert split(read_all(one.client)) == {1: b"x" * 300_000}
    assert made.await_exit(bundle) == 0


def test_the_input_ends_with_who_gave_it_amid_output(made: Containers, attachments: Attachments) -> None:
    for _ in range(5):  # the monitor may come to the end before the output
        bundle = made.bundle("sh", "-c", "while :; do echo x; done & cat >/dev/null; kill $!")
        created = made.create(bundle, stdin=True, stdin_once=True)

        with attached(_serve(attachments, bundle, created.pid, TALK._replace(stdout=False))) as one:
            made.runtime.start(bundle.id)
            one.client.sendall(b"word")
            one.client.close()

            assert one.result() is Ended.CLIENT
        assert made.await_exit(bundle) == 0


def test_an_input_that_stays_open_takes_the_next_attacher(made: Containers, attachments: Attachments) -> None:
    wish = TALK._replace(closes_stdin=False)
    bundle = made.bundle("cat")
    created = made.create(bundle, stdin=True)
    made.runtime.start(bundle.id)

    for word in (b"one", b"two"):
        with attached(_serve(attachments, bundle, created.pid, wish)) as one:
            one.client.sendall(word)
            assert read_until(one.client, word)[8:] == word
            one.client.shutdown(socket.SHUT_WR)

            assert read_all(one.client) == b""
            assert one.result() is Ended.INPUT

    assert made.runtime.state(bundle.id) == ("running", created.pid)
    made.runtime.kill(bundle.id, signal.SIGKILL)
    made.await_exit(bundle)


def test_a_listener_that_leaves_does_not_end_the_input(made: Containers, attachments: Attachments) -> None:
    bundle = made.bundle("cat")
    created = made.create(bundle, stdin=True, stdin_once=True)
    with attached(_serve(attachments, bundle, created.pid, TALK)) as talker:
        with attached(_serve(attachments, bundle, created.pid, BOTH)) as listener:
            made.runtime.start(bundle.id)
            listener.client.close()
            assert listener.result() is Ended.CLIENT

        talker.client.sendall(b"still here")
        talker.client.shutdown(socket.SHUT_WR)

        assert split(read_all(talker.client)) == {1: b"still here"}
    attachments.forget(bundle.id)
    assert made.await_exit(bundle) == 0


def test_a_client_without_input_that_ends_its_own_still_hears(
    made: Containers, attachments: Attachments
) -> None:
    """The docker CLI does so as soon as it is attached."""
    bundle = made.bundle("sh", "-c", "echo later")
    created = made.create(bundle)

    with attached(_serve(attachments, bundle, created.pid, BOTH)) as one:
        one.client.shutdown(socket.SHUT_WR)
        made.runtime.start(bundle.id)

        assert split(read_all(one.client)) == {1: b"later\n"}


def test_a_terminal_is_raw_resizable_and_left_by_its_keys(made: Containers, attachments: Attachments) -> None:
    bundle = made.bundle("sh", tty=True)
    created = made.create(bundle, tty=True, stdin=True, stdin_once=True)
    made.runtime.start(bundle.id)

    with attached(_serve(attachments, bundle, created.pid, TERMINAL)) as one:
        monitor.resize(bundle.path, 33, 77)
        one.client.sendall(
            b"while ! stty size | grep '33 77'; do :; done\n".replace(b"grep", b"busybox grep")
        )
        read_until(one.client, b"33 77\r\n")
        one.client.sendall(b"\x10\x11")

        read_all(one.client)
        assert one.result() is Ended.DETACHED

    with attached(_serve(attachments, bundle, created.pid, TERMINAL)) as again:
        again.client.sendall(b"exit 9\n")
        read_all(again.client)
    assert made.await_exit(bundle) == 9


def test_a_client_that_takes_nothing_does_not_hide_the_end(
    made: Containers, attachments: Attachments
) -> None:
    bundle = made.bundle("yes")
    created = made.create(bundle)
    with attached(_serve(attachments, bundle, created.pid, BOTH)) as deaf:
        made.runtime.start(bundle.id)
        eventually(lambda: _has_stalled(bundle))
        made.runtime.kill(bundle.id, signal.SIGKILL)

        assert made.await_exit(bundle) == 137
        assert len(split(read_all(deaf.client))[1]) > 1_000_000
        assert deaf.result() is Ended.OUTPUT


def test_a_client_that_takes_nothing_is_cut_off_for_another(
    made: Containers, attachments: Attachments, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnm.launcher.attach._STALLED_SECONDS", 0.2)
    bundle = made.bundle("sh", "-c", f"yes {'x' * 999} | head -c 20000000")
    created = made.create(bundle)
    with (
        attached(_serve(attachments, bundle, created.pid, BOTH)) as deaf,
        attached(_serve(attachments, bundle, created.pid, BOTH)) as other,
    ):
        made.runtime.start(bundle.id)

        assert len(split(read_all(other.client))[1]) == 20_000_000
        assert deaf.result() is Ended.STALLED
    attachments.forget(bundle.id)
    made.await_exit(bundle)


def test_input_that_nobody_reads_costs_no_processor_and_ends_with_the_container(
    made: Containers, attachments: Attachments
) -> None:
    bundle = made.bundle("sleep", "1000")
    created = made.create(bundle, stdin=True, stdin_once=True)
    with attached(_serve(attachments, bundle, created.pid, TALK)) as one:
        made.runtime.start(bundle.id)
        one.client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            one.client.sendall(b"x" * 50_000_000)
        used = os.times().user + os.times().system
        with pytest.raises(TimeoutError):
            one.client.recv(1)

        assert os.times().user + os.times().system - used < 0.15
        made.runtime.kill(bundle.id, signal.SIGKILL)
        one.client.settimeout(10)
        assert read_all(one.client) == b""
    assert made.await_exit(bundle) == 137


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/tmp/no-program", 126)])
def test_what_cannot_be_run_fails_in_the_runtimes_words_and_leaves_nothing(
    made: Containers, command: str, code: int
) -> None:
    known = made.runtime.known()
    bundle = made.bundle(command)

    with pytest.raises(RuntimeFailed) as failed:
        made.monitor.create(bundle.id, bundle.path, tty=False, stdin=False, log=bundle.log)

    assert str(failed.value).startswith(
        "OCI runtime create failed: runc create failed: unable to start container process: "
        f'exec: "{command}": '
    )
    assert str(failed.value).endswith(": unknown")
    assert failed.value.process_exit_code == code
    assert made.runtime.known() == known
    assert _monitors(bundle) == []


def test_a_bundle_without_a_configuration_is_refused(made: Containers) -> None:
    bundle = made.bundle("true")
    os.unlink(Path(bundle.path, "config.json"))

    with pytest.raises(RuntimeFailed, match=r"config\.json not found"):
        made.create(bundle)

    assert _monitors(bundle) == []


def test_what_a_killed_runtime_was_writing_is_in_nobodys_way(made: Containers) -> None:
    bundle = made.bundle("true")
    Path(bundle.path, ".pid").touch()

    made.create(bundle)
    made.runtime.start(bundle.id)

    assert made.await_exit(bundle) == 0


@pytest.mark.parametrize("stage", ["at once", "with its folder", "with its cgroup"])
def test_a_monitor_that_dies_while_it_creates_leaves_nothing(made: Containers, stage: str) -> None:
    known = made.runtime.known()
    bundle = made.bundle("true")
    folder, cgroup = Path(made.runtime.root, bundle.id), Path("/sys/fs/cgroup/pids", made.cgroup, bundle.id)
    killers: list[threading.Thread] = []

    def kill_in_time(pid: int) -> None:
        if stage == "at once":
            os.kill(pid, signal.SIGKILL)
            return
        killers.append(
            threading.Thread(target=_kill_when, args=(bundle, folder if "folder" in stage else cgroup))
        )
        killers[0].start()

    try:
        made.monitor.create(
            bundle.id, bundle.path, tty=False, stdin=False, log=bundle.log, placed=kill_in_time
        )
    except RuntimeFailed:
        assert made.runtime.known() == known
        assert not folder.exists()
        assert not list(Path("/sys/fs/cgroup").glob(f"*/{made.cgroup}/{bundle.id}"))
    else:  # the creation was faster: then it is whole
        assert stage != "at once"
        made.runtime.delete(bundle.id, force=True)
    finally:
        for killer in killers:
            killer.join()
    eventually(lambda: _monitors(bundle) == [])
    made.create(bundle)
    made.runtime.start(bundle.id)
    assert made.await_exit(bundle) == 0


def test_a_container_outlives_the_process_that_created_it(made: Containers) -> None:
    bundle = made.bundle("sh", "-c", "sleep 0.5; echo alone; exit 4")
    child = subprocess.run(
        [sys.executable, "-c", _CREATE_AND_DIE, bundle.id, bundle.path, str(made.folder)],
        env={**os.environ, **made.programs.environment, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr

    eventually(lambda: made.monitor.exit_code(bundle.id) is not None)

    assert made.monitor.exit_code(bundle.id) == 4
    assert Path(bundle.log).read_text().endswith("stdout F alone\n")
    made.runtime.delete(bundle.id)


def test_a_monitor_that_was_killed_leaves_the_container_and_no_exit_code(made: Containers) -> None:
    bundle = made.bundle("sleep", "1000")
    created = made.create(bundle)
    made.runtime.start(bundle.id)

    os.kill(created.monitor_pid, signal.SIGKILL)

    made.await_end(bundle)
    assert made.monitor.exit_code(bundle.id) is None
    assert made.runtime.state(bundle.id) == ("running", created.pid)
    with pytest.raises(Conflict, match="streams cannot be reached: connection refused"):
        ContainerStreams(bundle.path, created.pid)
    with pytest.raises(Conflict, match="cannot be resized"):
        monitor.resize(bundle.path, 1, 1)
    made.runtime.delete(bundle.id, force=True)
    assert made.runtime.state(bundle.id) is None


def test_pausing_updating_and_listing(made: Containers) -> None:
    bundle = made.run("sh", "-c", "sleep 1000 & wait")
    eventually(lambda: len(made.runtime.pids(bundle.id)) == 2)

    made.runtime.pause(bundle.id)
    paused = made.runtime.state(bundle.id)
    made.runtime.resume(bundle.id)
    made.runtime.update(bundle.id, {"pids": {"limit": 77}})

    assert paused
    assert paused.status == "paused"
    assert Path(f"/sys/fs/cgroup/pids/{made.cgroup}/{bundle.id}/pids.max").read_text() == "77\n"
    made.runtime.kill(bundle.id, signal.SIGKILL)
    assert made.await_exit(bundle) == 137


def test_want_of_memory_is_known_afterwards(made: Containers) -> None:
    bundle = made.bundle("sh", "-c", "busybox tail /dev/zero")
    created = made.create(bundle)
    made.runtime.update(bundle.id, {"memory": {"limit": 8 << 20}})
    made.runtime.start(bundle.id)

    made.await_exit(bundle)

    assert created.pid > 0
    assert monitor.was_out_of_memory(bundle.path)


def test_a_bundle_serves_for_the_next_start(made: Containers) -> None:
    bundle = made.bundle("sh", "-c", "echo again; exit 5")
    for _ in range(2):
        made.create(bundle)
        assert made.monitor.exit_code(bundle.id) is None
        made.runtime.start(bundle.id)
        assert made.await_exit(bundle) == 5
        made.runtime.delete(bundle.id)

    assert Path(bundle.log).read_text().count("again") == 2


def _has_stalled(bundle: Bundle) -> bool:
    """Whether the log has stopped growing: its writer waits for an attacher."""
    before = os.path.getsize(bundle.log)
    time.sleep(0.2)
    return before > 1_000_000 and os.path.getsize(bundle.log) == before


def _kill_when(bundle: Bundle, path: Path) -> None:
    eventually(path.exists)
    for pid in _monitors(bundle):
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def _monitors(bundle: Bundle) -> list[str]:
    return [
        entry
        for entry in os.listdir("/proc")
        if entry.isdecimal() and bundle.id.encode() in _command_line(entry)
    ]


def _command_line(pid: str) -> bytes:
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


_CREATE_AND_DIE = """
import os, sys
from cnm.launcher.monitor import Monitor
from cnm.launcher.programs import Programs
from cnm.launcher.runtime import Runtime
name, bundle, folder = sys.argv[1:]
runtime = Runtime(Programs(), folder + "/runc")
Monitor(runtime, folder + "/exits").create(name, bundle, tty=False, stdin=False, log=bundle + "/log")
runtime.start(name)
os.kill(os.getpid(), 9)
"""
