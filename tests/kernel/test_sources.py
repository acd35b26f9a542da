"""From which address a namespace would send to another, by asking the kernel: nothing is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.errors import NotFound
from tests.support.kernels import everything, linux_machine


def test_a_source_is_read_in_the_namespace_itself(tmp_path: Path) -> None:
    with linux_machine(tmp_path) as machine:
        source = machine.kernel.source_towards
        assert source(machine.box, "10.9.0.1") == ""

        machine.kernel.apply(everything(machine))

        assert source(machine.box, "10.9.0.1") == "10.9.0.2"
        assert source(machine.box, "fd09::1") == "fd09::2"
        machine.run("ip address add 10.88.0.7/24 dev lo", machine.box)
        machine.run("ip route add 10.66.0.1/32 dev eth1 src 10.88.0.7", machine.box)
        assert source(machine.box, "10.66.0.1") == "10.88.0.7"


def test_where_there_is_no_namespace_there_is_no_source(tmp_path: Path) -> None:
    with linux_machine(tmp_path) as machine, pytest.raises(NotFound):
        machine.kernel.source_towards(str(tmp_path / "none"), "10.9.0.1")
