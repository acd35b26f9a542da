"""What a process that isolates itself sees, and what the machine sees of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Script = Callable[[str], subprocess.CompletedProcess[str]]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, since it makes namespaces")


def test_an_isolated_process_has_a_loopback_and_nothing_of_the_machine(fresh_process: Script) -> None:
    done = fresh_process(
        "import os, socket, netns_fixtures\n"
        "assert not netns_fixtures.is_isolated()\n"
        "netns_fixtures.isolate()\n"
        "assert netns_fixtures.is_isolated()\n"
        "netns_fixtures.isolate()\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "socket.create_connection(server.getsockname(), 2)\n"
        "print(socket.if_nameindex(), os.listdir('/sys/class/net'), os.listdir('/run'))\n"
    )

    assert (done.stdout, done.stderr) == ("[(1, 'lo')] ['lo'] []\n", "")


@pytest.mark.skipif(not os.path.ismount("/sys/fs/cgroup"), reason="needs a mounted /sys/fs/cgroup")
def test_control_groups_stay_mounted(fresh_process: Script) -> None:
    done = fresh_process(
        "import os, netns_fixtures\n"
        "before = os.listdir('/sys/fs/cgroup')\n"
        "netns_fixtures.isolate()\n"
        "print(before == os.listdir('/sys/fs/cgroup') != [])\n"
    )

    assert done.stdout == "True\n"


def test_a_topology_needs_isolation_and_says_how_to_get_it(fresh_process: Script) -> None:
    done = fresh_process("import netns_fixtures; netns_fixtures.Topology({'hosts': {'a': {}}})")

    assert (
        "IsolationError: this process still shares the machine's network: set `netns_isolate" in done.stderr
    )


def test_isolation_without_root_says_why_not(fresh_process: Script) -> None:
    done = fresh_process("import os, netns_fixtures; os.seteuid(65534); netns_fixtures.isolate()")

    assert "IsolationError: needs root, since it makes network namespaces" in done.stderr


@needs_root
def test_isolation_without_the_capability_says_what_is_missing() -> None:
    code = "import netns_fixtures; netns_fixtures.isolate()"
    drop = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", sys.executable, "-c", code]

    done = subprocess.run(drop, capture_output=True, text=True, check=False)

    assert "IsolationError: cannot make namespaces" in done.stderr
    assert "CAP_SYS_ADMIN is needed" in done.stderr


@needs_root
def test_outside_nothing_is_seen_of_a_topology_neither_before_nor_after_a_crash() -> None:
    code = (
        "import netns_fixtures, sys\n"
        "netns_fixtures.isolate()\n"
        "topology = netns_fixtures.Topology({'hosts': {'a': {}, 'b': {}}, 'links': [{'ends': ["
        "{'host': 'a', 'interface': 'eth0'}, {'host': 'b', 'interface': 'eth0'}]}]})\n"
        "print(topology.a.path, flush=True)\n"
        "sys.stdin.read()\n"
    )

    def outside() -> tuple[str, set[str], list[str]]:
        mounts = Path("/proc/thread-self/mountinfo").read_text()
        return mounts, set(os.listdir("/run")), os.listdir("/sys/class/net")

    before = outside()
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdout is not None
        path = child.stdout.readline().strip()
        assert Path(f"/proc/{child.pid}/root{path}").exists()
        during = outside()
        child.send_signal(signal.SIGKILL)
        child.wait()

    assert during == before
    assert outside() == before
    assert not Path(path).exists()
