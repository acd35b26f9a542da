"""podman that hangs, or cannot be run: told as an error, and not waited for without end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cnm.errors import CnmError
from cnm.launcher import podman
from cnm.launcher.podman import Podman
from cnm.launcher.programs import Programs


def _podman(place: Path, script: str) -> Podman:
    program = place / "podman"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    made = Podman(str(place / "root"), str(place / "run"), Programs(podman=str(program)), str(place))
    made.settle()
    return made


def test_one_that_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(podman, "_TAKES_AT_MOST", 0.2)
    hanging = _podman(tmp_path, f"echo $$ >{tmp_path}/pid; exec sleep 1000")

    with pytest.raises(CnmError, match=r"podman tag did not end within 0\.2 s, and was killed"):
        hanging.run("tag", "a", "b")

    assert not os.path.exists(f"/proc/{(tmp_path / 'pid').read_text().strip()}")


def test_one_that_cannot_be_run_says_why(tmp_path: Path) -> None:
    broken = _podman(tmp_path, "")
    (tmp_path / "podman").write_text("#!/no/such/shell\n")

    with pytest.raises(CnmError, match=r"podman tag cannot be run: No such file or directory"):
        broken.run("tag", "a", "b")
