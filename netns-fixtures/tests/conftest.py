"""Topologies that several tests use, and a way to run a script in a process that is not isolated yet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from netns_fixtures import Topology
from netns_fixtures.plugin import TopologyFactory

Script = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def pair(make_topology: TopologyFactory) -> Topology:
    """Hosts `left` and `right` on one cable, both interfaces named eth0."""
    ends = [
        {
            "host": name,
            "interface": "eth0",
            "addresses": [f"192.0.2.{number}/24", f"2001:db8::{number}/64"],
            "mac": f"02:00:00:00:00:0{number}",
        }
        for number, name in enumerate(("left", "right"), 1)
    ]
    return make_topology({"hosts": {"left": {}, "right": {}}, "links": [{"ends": ends}]})


@pytest.fixture
def fresh_process() -> Script:
    """Run Python code where process 1 is the code's own parent, so that nothing looks isolated at first."""
    if os.geteuid() != 0:
        pytest.skip("needs root, since it makes process namespaces")
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c"]

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, code], capture_output=True, text=True, timeout=60)

    return run
