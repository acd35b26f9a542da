"""The host's own servers: what its resolv.conf says, and what it says now."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cnm.resolver.host_servers import HostServers, is_address
from tests.support.clocks import FakeClock

Get = Callable[..., list[str]]

LOOK_SECONDS = 0.25
"""After which the file is looked at again."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "resolv.conf"


@pytest.fixture
def get(clock: FakeClock, path: Path) -> Get:
    """The addresses that the file has when it is looked at; those in `without` are ourselves."""
    servers = HostServers(clock.now)

    def found(*without: str) -> list[str]:
        return [server.address for server in servers.get(str(path), without)]

    return found


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("", []),
        ("nameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver 192.0.2.2\nnameserver 192.0.2.1\n", ["192.0.2.2", "192.0.2.1"]),
        ("nameserver 192.0.2.1", ["192.0.2.1"]),
        ("nameserver\t192.0.2.1 \r\nnameserver  2001:db8::1\r\n", ["192.0.2.1", "2001:db8::1"]),
        ("nameserver 192.0.2.1 # the old one\n", ["192.0.2.1"]),
        ("nameserver fe80::1%eth0\n", ["fe80::1%eth0"]),
        ("nameserver 192.0.2.1\nnameserver 192.0.2.1\n", ["192.0.2.1", "192.0.2.1"]),
    ],
    ids=["empty", "one", "order", "no newline", "CRLF", "comment behind", "zone", "twice"],
)
def test_servers_are_read(path: Path, get: Get, text: str, servers: list[str]) -> None:
    path.write_bytes(text.encode())

    assert get() == servers


@pytest.mark.parametrize(
    "line",
    [
        b"# nameserver 192.0.2.9",
        b"#nameserver 192.0.2.9",
        b"; nameserver 192.0.2.9",
        b"domain example.com",
        b"search example.com 192.0.2.9",
        b"options ndots:1 timeout:2",
        b"sortlist 192.0.2.0/255.255.255.0",
        b"nameserver",
        b"nameserver ",
        b"nameserver dns.example.com",
        b"nameserver 192.0.2",
        b"nameserver 192.0.2.9.9",
        b"nameserver 192.0.2.9:53",
        b"nameserver [2001:db8::9]",
        b"nameserver 2001:db8::9::",
        b"nameserver %eth0",
        b"nameservers 192.0.2.9",
        b"nameserver \xff\xfe",
        b"\x00\x01\x02",
    ],
    ids=repr,
)
def test_everything_else_is_passed_over(path: Path, get: Get, line: bytes) -> None:
    path.write_bytes(b"nameserver 192.0.2.1\n" + line + b"\nnameserver 192.0.2.2\n")

    assert get() == ["192.0.2.1", "192.0.2.2"]


def test_the_first_three_are_used(path: Path, get: Get) -> None:
    path.write_text("".join(f"nameserver 192.0.2.{number}\n" for number in range(1, 6)))

    assert get() == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_a_fourth_one_is_used_in_place_of_ourselves(path: Path, get: Get) -> None:
    path.write_text("".join(f"nameserver 192.0.2.{number}\n" for number in range(1, 6)))

    assert get("192.0.2.1") == ["192.0.2.2", "192.0.2.3", "192.0.2.4"]


def test_they_are_asked_from_the_host(clock: FakeClock, path: Path) -> None:
    path.write_text("nameserver 192.0.2.1\n")

    assert [server.inside for server in HostServers(clock.now).get(str(path), ())] == [False]


@pytest.mark.parametrize("address", ["192.0.2.1", "127.0.0.53", "2001:db8::1", "::", "::ffff:192.0.2.1"])
def test_addresses_are_told_from_other_text(address: str) -> None:
    assert is_address(address)
    assert not is_address(f"{address}/24")


# Changes


def write(path: Path, *servers: str) -> None:
    path.write_text("".join(f"nameserver {server}\n" for server in servers))


def test_a_change_is_seen_when_the_file_is_looked_at_again(clock: FakeClock, path: Path, get: Get) -> None:
    write(path, "192.0.2.1")
    assert get() == ["192.0.2.1"]
    write(path, "192.0.2.2", "192.0.2.3")

    clock.time += LOOK_SECONDS / 2
    assert get() == ["192.0.2.1"]
    clock.time += LOOK_SECONDS / 2

    assert get() == ["192.0.2.2", "192.0.2.3"]


def test_a_file_in_place_of_the_other_is_seen_though_time_and_size_are_equal(
    clock: FakeClock, path: Path, get: Get
) -> None:
    write(path, "192.0.2.1")
    get()
    successor = path.with_name("successor")
    write(successor, "192.0.2.2")
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    os.utime(successor, ns=times)
    successor.rename(path)
    clock.time += LOOK_SECONDS

    assert get() == ["192.0.2.2"]


def test_a_link_to_another_file_is_followed(clock: FakeClock, path: Path, get: Get) -> None:
    for name, server in (("stub", "127.0.0.53"), ("real", "192.0.2.1")):
        write(path.with_name(name), server)
    path.symlink_to("stub")
    assert get() == ["127.0.0.53"]

    path.unlink()
    path.symlink_to("real")
    clock.time += LOOK_SECONDS

    assert get() == ["192.0.2.1"]


def test_another_path_is_read_at_once(clock: FakeClock, path: Path) -> None:
    other = path.with_name("other")
    write(path, "192.0.2.1")
    write(other, "192.0.2.2")
    servers = HostServers(clock.now)

    found = [servers.get(str(each), ())[0].address for each in (path, other, path)]

    assert found == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]


def test_a_file_that_is_not_there_has_no_servers_until_it_is(clock: FakeClock, path: Path, get: Get) -> None:
    assert get() == []
    write(path, "192.0.2.1")
    clock.time += LOOK_SECONDS

    assert get() == ["192.0.2.1"]


def test_a_file_that_goes_takes_its_servers_along_and_brings_them_back(
    clock: FakeClock, path: Path, get: Get
) -> None:
    write(path, "192.0.2.1")
    get()
    aside = path.rename(path.with_name("aside"))
    clock.time += LOOK_SECONDS
    assert get() == []

    aside.rename(path)
    clock.time += LOOK_SECONDS

    assert get() == ["192.0.2.1"]


def test_a_directory_in_its_place_has_no_servers(path: Path, get: Get) -> None:
    path.mkdir()

    assert get() == []


def test_a_file_that_cannot_be_read_is_complained_about_once(
    clock: FakeClock, path: Path, get: Get, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cnm.resolver"):
        for _ in range(3):
            get()
            clock.time += LOOK_SECONDS

    assert [record.getMessage() for record in caplog.records] == [
        f"{path} cannot be read: no such file or directory"
    ]


def test_a_file_that_goes_again_is_complained_about_again(
    clock: FakeClock, path: Path, get: Get, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cnm.resolver"):
        get()
        write(path, "192.0.2.1")
        clock.time += LOOK_SECONDS
        get()
        path.unlink()
        clock.time += LOOK_SECONDS
        get()

    assert len(caplog.records) == 2


def test_ipv4_has_no_zone() -> None:
    assert not is_address("192.0.2.1%eth0")


def test_ourselves_are_left_out_however_we_are_spelt(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 0:0:0:0:0:0:0:1\nnameserver 192.0.2.1\n")
    servers = HostServers(FakeClock().now).get(str(path), ("::1",))
    assert [server.address for server in servers] == ["192.0.2.1"]


@pytest.mark.parametrize("text", [" nameserver 192.0.2.1\n", "search \x0bnameserver 192.0.2.1\n"])
def test_a_server_is_only_where_a_line_begins(tmp_path: Path, text: str) -> None:
    path = tmp_path / "resolv.conf"
    path.write_text(text)
    assert HostServers(FakeClock().now).get(str(path), ()) == ()
