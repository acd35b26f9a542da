"""What the page about overlay networks shows is what its commands print, run in its order on three fresh hosts."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, new_lab
from tests.support.pages import constant, host_transcripts

pytestmark = [pytest.mark.root, NEEDS_ETCD]

_PAGE = (Path(__file__).parents[2] / "docs/overlay.md").read_text()
_VARIES = (
    (r"CNM1-[a-z0-9]+-[a-z0-9]+", "TOKEN"),
    (r"\d{4}-\d\d-\d\dT[\d:]+Z", "WHEN"),
    (r"\(10\.0\.0\.\d+\)", "(ADDRESS)"),
    (r"[\d.]+/[\d.]+/[\d.]+/[\d.]+ ms", "TIMES"),
    (r"time \d+ms", "time T"),
)


def steady(printed: str) -> list[str]:
    for pattern, stands_for in _VARIES:
        printed = re.sub(pattern, stands_for, printed)
    return constant(printed)


def run(lab: ClusterLab, host: ClusterHost, command: str) -> str:
    environment = {
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
        "CNM_HOST": f"unix://{host.cnmd.socket}",
    }
    for word in ("ANOTHER-TOKEN", "TOKEN"):
        if word in command:
            command = command.replace(word, lab.h[1].token())
    return host.net.run(["sh", "-c", f"{{ {command}; }} 2>&1"], env=environment, check=False).stdout


def test_every_command_prints_what_the_page_shows() -> None:
    shown = host_transcripts(_PAGE)
    with new_lab(3) as lab:
        for name, command, expected in shown:
            host = lab.h[int(name.removeprefix("h"))]
            if "--network web" in command:
                eventually(lambda host=host: host.cnmd.request("GET", "/networks/web")[0] == 200)
            assert (command, steady(run(lab, host, command))) == (command, steady(expected))
    assert len(shown) == 8
