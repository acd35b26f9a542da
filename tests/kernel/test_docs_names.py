"""What the page about names shows is what its commands print, run in its order on a fresh host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.support.names_lab import running_names_lab
from tests.support.pages import constant, transcripts

_PAGE = (Path(__file__).parents[2] / "docs/names.md").read_text()
_ON_THE_HOST = "## For the host itself\n"
"""That section needs systemd-resolved; its commands are the same in test_neighbours_resolved.py."""


def test_every_command_prints_what_the_page_shows(tmp_path: Path) -> None:
    shown_here, _, _ = _PAGE.partition(_ON_THE_HOST)
    commands = transcripts(shown_here)
    with running_names_lab(tmp_path) as lab:
        programs = f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}"
        environment = {"PATH": programs, "CNM_HOST": f"unix://{lab.cnmd.socket}"}
        for command, shown in commands:
            printed = lab.host.run(
                ["sh", "-c", f"{{ {command}; }} 2>&1"], env=environment, check=False
            ).stdout
            assert (command, constant(printed)) == (command, constant(shown))
        for name in ("front", "back"):
            lab.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")
    assert len(commands) >= 10
