"""The watch over the machine that ends every test run finds what a test left, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.machine import Machine, processes_left


@contextmanager
def _bridge(name: str) -> Iterator[None]:
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


@pytest.mark.parametrize("name", ["cnm-0123456789a", "cv0123456789ab", "vx4097", "cw0"])
def test_a_link_of_ours_that_stays_is_found(name: str) -> None:
    machine = Machine()

    with _bridge(name):
        assert machine.changes() == [f"left: link {name}"]


def test_a_link_that_bears_our_alias_is_found() -> None:
    machine = Machine()

    with _bridge("mybridge"):
        subprocess.run(["ip", "link", "set", "mybridge", "alias", "cnm:network:0123"], check=True)

        assert machine.changes() == ["left: link mybridge alias cnm:network:0123"]


def test_a_link_of_another_program_is_not_ours() -> None:
    machine = Machine()

    with _bridge("br-0123456789ab"):
        assert machine.changes() == []


def test_a_link_of_the_machine_that_goes_is_found() -> None:
    with _bridge("office0"):
        machine = Machine()

    assert machine.changes() == ["gone: link office0"]


def test_a_table_of_ours_that_stays_is_found() -> None:
    # A cnmd that another test of this process stopped leaves its tables, as it should.
    subprocess.run(["nft", "delete", "table", "inet", "cnm"], capture_output=True)
    machine = Machine()
    subprocess.run(["nft", "add", "table", "inet", "cnm"], check=True)

    try:
        assert machine.changes() == ["left: table inet cnm"]
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "cnm"], check=True)


def test_a_process_that_stays_is_found() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        left = processes_left(seconds=0)
        process.kill()

    assert process.pid in [int(text.split()[0]) for text in left]
