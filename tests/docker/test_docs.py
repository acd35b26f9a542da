"""What the page about Docker shows is what its commands print, run in its order on a fresh host."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, DockerLab, eventually
from tests.support.pages import constant, transcripts
from tests.support.unpacked import environment, program

pytestmark = NEEDS_DOCKERD

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs/docker.md").read_text()


@pytest.fixture
def user(lab: DockerLab, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody at the host's prompt."""
    assert lab.dockerd is not None
    os.symlink(Path(sys.prefix) / "bin/cnmctl", tmp_path / "cnmctl")
    os.symlink(program("busybox"), tmp_path / "wget")
    known = environment()
    return known | {
        "PATH": f"{tmp_path}:{known['PATH']}",
        "DOCKER_HOST": f"unix://{lab.dockerd.socket}",
        "CNM_HOST": f"unix://{lab.cnmd.socket}",
    }


def test_every_command_prints_what_the_page_shows(lab: DockerLab, user: dict[str, str]) -> None:
    run, _, over_tls = _PAGE.partition("\n## Over TLS\n")
    assert over_tls
    for command, shown in transcripts(run):
        if command.startswith("cnmctl"):
            eventually(lambda: not _unnamed(lab))
        printed = str(lab.host.run(["sh", "-c", f"{{ {command}; }} 2>&1"], env=user, check=False).stdout)

        assert (command, constant(printed)) == (command, constant(shown))


def _unnamed(lab: DockerLab) -> bool:
    """Whether cnmd has not asked dockerd for names yet."""
    known = [*lab.cnmd.ask("GET", "/networks"), *lab.cnmd.ask("GET", "/cnm/v1/sandboxes")]
    return any(thing["Name"].startswith("docker-") for thing in known)


def test_what_the_readme_shows_of_docker_is_from_the_page() -> None:
    section = (_ROOT / "README.md").read_text().partition("\n## With Docker\n")[2].partition("\n## ")[0]

    assert set(transcripts(section)) <= set(transcripts(_PAGE))
    assert len(transcripts(section)) > 3
