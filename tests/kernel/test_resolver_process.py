"""The resolver as processes: they may do little, outlive cnmd, and are back at once where they died."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from tests.support.names_lab import SERVER, NamesLab, eventually, running_names_lab

ASKING_SECONDS = 1.0
"""For a query that may meet a resolver which is just being started; then it is asked again."""


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[NamesLab]:
    with running_names_lab(tmp_path) as made:
        made.cnmd.create_network("web")
        for name in ("front", "back"):
            made.sandbox(name, "web")
        eventually(lambda: made.resolvers())
        assert made.addresses("front", "back") == [made.address("back", "web")]
        yield made


@contextmanager
def asking(lab: NamesLab, name: str = "back") -> Iterator[list[str]]:
    """Queries without a pause meanwhile; what went wrong with them: each may be asked once more."""
    wrong: list[str] = []
    stopping = threading.Event()
    wanted = lab.addresses("front", name)

    def ask() -> None:
        while not stopping.is_set():
            for attempt in range(4):
                try:
                    if lab.addresses("front", name, seconds=ASKING_SECONDS) != wanted:
                        wrong.append("another answer")
                    break
                except dns.exception.Timeout:
                    if attempt:
                        wrong.append(f"no answer at attempt {attempt + 1}")
            time.sleep(0.005)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield wrong
    finally:
        stopping.set()
        thread.join()


def test_it_is_nobody_and_may_do_nothing(lab: NamesLab) -> None:
    for process in lab.resolvers():
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{process}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
        assert {int(status[key], 16) for key in ("CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"


def test_there_is_a_worker_for_each_processor(lab: NamesLab) -> None:
    assert len(lab.resolvers()) == 1 + min(len(os.sched_getaffinity(0)), 4)


def test_names_are_answered_while_cnmd_is_down(lab: NamesLab) -> None:
    processes = lab.resolvers()

    with asking(lab) as wrong:
        lab.cnmd.kill()
        time.sleep(0.5)
        assert lab.resolvers() == processes
        lab.cnmd.start()
        time.sleep(0.5)
    assert wrong == []
    assert lab.resolvers() == processes


def test_a_cnmd_that_comes_back_tells_what_changes(lab: NamesLab) -> None:
    lab.cnmd.kill()
    lab.cnmd.start()

    lab.sandbox("late", "web")

    assert lab.addresses("front", "late") == [lab.address("late", "web")]
    assert lab.addresses("late", "front") == [lab.address("front", "web")]
    lab.remove("late")
    assert lab.addresses("front", "back") == [lab.address("back", "web")]


def test_sockets_are_the_same_after_a_restart_of_cnmd(lab: NamesLab) -> None:
    before = _table(lab, "front")

    lab.cnmd.restart()

    assert _table(lab, "front") == before
    assert lab.addresses("front", "back") == [lab.address("back", "web")]


def _table(lab: NamesLab, name: str) -> str:
    return lab._boxes[name].run(["nft", "list", "ruleset"]).stdout


def test_a_connection_outlives_a_restart_of_cnmd(lab: NamesLab) -> None:
    query = dns.message.make_query("back", "A")
    with lab._boxes["front"].socket() as client:
        client.settimeout(5)
        client.connect((SERVER, 53))
        assert dns.query.tcp(query, SERVER, sock=client).answer
        lab.cnmd.restart()
        lab.sandbox("later", "web")  # and the resolver was told everything before that
        assert dns.query.tcp(query, SERVER, sock=client).answer
    lab.remove("later")


def test_a_killed_resolver_is_back_with_the_same_sockets(lab: NamesLab) -> None:
    table = _table(lab, "front")

    with asking(lab) as wrong:
        for _ in range(2):
            _kill_and_await_another(lab)
            time.sleep(0.3)
    assert wrong == []
    assert _table(lab, "front") == table


def _kill_and_await_another(lab: NamesLab) -> None:
    first = lab.resolvers()[0]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: lab.resolvers()[:1] not in ([], [first]))


def test_a_killed_worker_is_replaced_and_nobody_notices_more_than_a_retry(lab: NamesLab) -> None:
    processes = lab.resolvers()

    with asking(lab) as wrong:
        for worker in processes[1:]:
            os.kill(worker, signal.SIGKILL)
            time.sleep(0.5)
    assert wrong == []
    assert lab.resolvers()[0] == processes[0]
    assert len(lab.resolvers()) == len(processes)
    assert not set(processes[1:]) & set(lab.resolvers())


def test_a_new_worker_knows_what_changed_since(lab: NamesLab) -> None:
    lab.sandbox("late", "web")
    workers = lab.resolvers()[1:]
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    eventually(lambda: len(lab.resolvers()) == 1 + len(workers) and not set(workers) & set(lab.resolvers()))

    for _ in range(8):
        assert lab.addresses("front", "late") == [lab.address("late", "web")]


def test_both_may_die(lab: NamesLab) -> None:
    os.kill(lab.resolvers()[0], signal.SIGKILL)
    lab.cnmd.kill()
    time.sleep(0.1)

    lab.cnmd.start()

    eventually(lambda: lab.resolvers())
    assert lab.addresses("front", "back") == [lab.address("back", "web")]


def test_a_resolver_of_another_version_is_replaced(lab: NamesLab, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab.resolvers()[0]
    lab.cnmd.kill()
    os.kill(first, signal.SIGSTOP)  # as one that never answers would be

    lab.cnmd.start()

    os.kill(first, signal.SIGCONT)
    eventually(lambda: lab.resolvers())
    assert lab.addresses("front", "back") == [lab.address("back", "web")]


def test_a_namespace_dies_with_its_sandbox(lab: NamesLab) -> None:
    """A link into it vanishes with the namespace, and only then."""
    box = lab.sandbox("brief", "web", Dns=["192.0.2.53"])
    lab.host.run(["ip", "link", "add", "witness", "type", "veth", "peer", "name", "inside"])
    lab.host.run(["ip", "link", "set", "inside", "netns", str(box.path)])

    lab.remove("brief")

    eventually(lambda: "witness" not in lab.host.run(["ip", "-o", "link"]).stdout)


def test_a_given_namespace_is_left_as_it_was_found(lab: NamesLab, tmp_path: Path) -> None:
    process = subprocess.Popen(["unshare", "--net", "sleep", "60"])
    try:
        path = f"/proc/{process.pid}/ns/net"
        eventually(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino)
        box = lab.sandbox("given", "web", NetnsPath=path)
        box.run(["ip", "link", "set", "lo", "up"])
        eventually(lambda: lab.addresses("given", "front") == [lab.address("front", "web")])
        lab.cnmd.ask("POST", "/networks/web/disconnect", {"Container": "given"})
        assert box.run(["nft", "list", "ruleset"]).stdout == ""
        lab.remove("given")
    finally:
        process.kill()
        process.wait()


def test_it_ends_when_nothing_is_served_and_cnmd_is_gone(lab: NamesLab) -> None:
    (first, *_) = lab.resolvers()
    for name in ("front", "back"):
        lab.remove(name)
    lab.cnmd.stop()

    eventually(lambda: not Path(f"/proc/{first}").exists())
    lab.cnmd.start()


def test_doctor_finds_and_mends_what_is_damaged_in_a_sandbox(lab: NamesLab) -> None:
    hosts = Path(lab.inspect("front")["HostsPath"])
    before = hosts.read_text()
    lab._boxes["front"].run(["nft", "flush", "ruleset"])
    hosts.unlink()

    found = lab.cnmd.cnmctl("doctor")
    repaired = lab.cnmd.cnmctl("doctor", "--repair")

    lines = [line.split() for line in found.stdout.splitlines()[1:]]
    assert found.returncode == 1
    assert {(line[0], line[1], line[2]) for line in lines} == {
        ("changed", "dns", SERVER),
        ("missing", "file", str(hosts)),
    }
    assert repaired.returncode == 0
    assert lab.cnmd.cnmctl("doctor").returncode == 0
    assert lab.addresses("front", "back") == [lab.address("back", "web")]
    assert hosts.read_text() == before


def test_damage_in_a_sandbox_is_mended_by_a_restart(lab: NamesLab) -> None:
    lab._boxes["front"].run(["nft", "flush", "ruleset"])

    lab.cnmd.restart()

    eventually(lambda: lab.cnmd.cnmctl("doctor").returncode == 0)
    assert lab.addresses("front", "back") == [lab.address("back", "web")]
