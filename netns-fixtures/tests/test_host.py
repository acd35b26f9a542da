"""Commands, threads, sockets and settings inside one host."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from netns_fixtures import CommandFailed, Host, KernelRefused, NetnsError, Topology, probe_all


def current_namespace() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def test_entering_moves_the_calling_thread_only_and_brings_it_back(pair: Topology) -> None:
    home, elsewhere = current_namespace(), []

    with pair.left.enter():
        inside = current_namespace()
        with pair.right.enter():
            nested = current_namespace()
        assert current_namespace() == inside
        assert os.readlink("/proc/self/ns/net") == inside
        thread = threading.Thread(target=lambda: elsewhere.append(current_namespace()))
    thread.start()
    thread.join()

    assert len({home, inside, nested}) == 3
    assert current_namespace() == home
    assert elsewhere == [home]


def test_an_error_inside_the_block_brings_the_thread_back_too(pair: Topology) -> None:
    home = current_namespace()

    with pytest.raises(ZeroDivisionError), pair.left.enter():
        _ = 1 / 0

    assert current_namespace() == home


def test_many_threads_enter_hosts_at_once_without_mixing(pair: Topology) -> None:
    def namespace_of(host: Host) -> str:
        with host.enter():
            return current_namespace()

    left, right = namespace_of(pair.left), namespace_of(pair.right)
    probes = [lambda host=host: namespace_of(host) for host in (pair.left, pair.right) * 50]

    assert probe_all(probes, workers=16) == [left, right] * 50


def test_a_command_runs_in_the_host_and_its_output_comes_back(pair: Topology) -> None:
    done = pair.right.run(["cat", "/proc/self/net/dev", "-"], input="the end")

    assert "eth0:" in done.stdout
    assert done.stdout.endswith("the end")


def test_a_failed_command_shows_what_it_printed(pair: Topology) -> None:
    with pytest.raises(CommandFailed) as failure:
        pair.left.run(["sh", "-c", "echo tried; echo why >&2; exit 3"])

    assert str(failure.value) == (
        "host \"left\": `sh -c 'echo tried; echo why >&2; exit 3'` ended with exit code 3\ntried\nwhy"
    )
    assert failure.value.returncode == 3


def test_a_failed_command_is_returned_where_the_test_checks_itself(pair: Topology) -> None:
    assert pair.left.run(["false"], check=False).returncode == 1


def test_a_command_that_does_not_end_is_ended(pair: Topology) -> None:
    with pytest.raises(CommandFailed, match=r"`sleep 60` did not end within 0.1 s") as failure:
        pair.left.run(["sleep", "60"], timeout=0.1)

    assert failure.value.returncode is None


def test_closing_ends_a_child_together_with_its_children(pair: Topology) -> None:
    child = pair.left.popen(["sh", "-c", "sleep 60 & echo $!; wait"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    grandchild = os.pidfd_open(int(child.stdout.readline()))

    pair.left.close()

    assert child.returncode is not None
    assert select.select([grandchild], [], [], 5)[0], "the grandchild goes on"
    os.close(grandchild)


def test_a_stubborn_child_is_killed(pair: Topology, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netns_fixtures.process._GRACE_SECONDS", 0.1)
    child = pair.left.popen(["sh", "-c", "trap '' TERM; echo ready; sleep 60"], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()

    child.close()

    assert child.returncode == -9


def test_sys_shows_the_host_to_a_command_that_asks_for_it(pair: Topology) -> None:
    seen = pair.left.run(["cat", "/sys/class/net/eth0/address"], sysfs=True).stdout

    assert seen == "02:00:00:00:00:01\n"
    assert not Path("/sys/class/net/eth0").exists()


def test_a_socket_of_a_host_works_in_a_thread_that_never_entered_it(pair: Topology) -> None:
    kind = (socket.AF_INET, socket.SOCK_DGRAM)
    with pair.left.socket(*kind) as one, pair.right.socket(*kind) as other:
        other.bind(("192.0.2.2", 7000))
        thread = threading.Thread(target=lambda: one.sendto(b"hello", ("192.0.2.2", 7000)))
        thread.start()
        other.settimeout(2)
        data, sender = other.recvfrom(100)
        thread.join()

    assert (data, sender[0]) == (b"hello", "192.0.2.1")


def test_the_path_of_a_host_serves_other_programs(pair: Topology) -> None:
    shown = subprocess.run(
        ["nsenter", f"--net={pair.right.path}", "ip", "address"], capture_output=True, text=True, check=True
    ).stdout

    assert "192.0.2.2/24" in shown


def test_a_netlink_block_changes_the_host(pair: Topology) -> None:
    with pair.left.netlink() as netlink:
        netlink.link("set", index=netlink.link_lookup(ifname="eth0")[0], state="down")

    assert not pair.right.ping("192.0.2.1", timeout=0.2)


def test_a_sysctl_is_set_and_read_in_one_host_alone(pair: Topology) -> None:
    assert pair.left.sysctl("net.ipv4.ip_default_ttl", 9) == "9"
    assert pair.right.sysctl("net.ipv4.ip_default_ttl") == "64"


def test_a_sysctl_that_does_not_exist_is_named(pair: Topology) -> None:
    with pytest.raises(KernelRefused, match=r'host "left": sysctl "net\.ipv4\.nothing": No such file'):
        pair.left.sysctl("net.ipv4.nothing")


@pytest.mark.parametrize("key", ["kernel.hostname", "net/../kernel/hostname", "vm.swappiness"])
def test_a_sysctl_of_the_machine_is_out_of_reach(pair: Topology, key: str) -> None:
    with pytest.raises(ValueError, match='is not under "net"'):
        pair.left.sysctl(key)


def test_the_address_of_an_interface_is_the_first_that_is_not_link_local(pair: Topology) -> None:
    assert pair.left.address("eth0") == "192.0.2.1"
    assert pair.left.address("eth0", version=6) == "2001:db8::1"


@pytest.mark.parametrize("question", ["mac", "addresses", "address"])
def test_an_unknown_interface_is_named(pair: Topology, question: str) -> None:
    with pytest.raises(NetnsError, match='host "left": no interface "eth9"'):
        getattr(pair.left, question)("eth9")


def test_an_interface_without_an_address_of_the_family_is_named(pair: Topology) -> None:
    pair.left.run(["ip", "address", "flush", "dev", "eth0"])

    with pytest.raises(NetnsError, match='host "left": interface "eth0" has no IPv4 address'):
        pair.left.address("eth0")
