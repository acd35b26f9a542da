"""What the page about Docker shows of networks over many hosts is what its commands print, run on two fresh hosts."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.cluster.hosts import NEEDS_ETCD, eventually
from tests.docker.docker_lab import NEEDS_DOCKERD
from tests.docker.overlay_lab import NAME_SERVER, DockerClusterHost, docker_cluster
from tests.support.pages import constant, host_transcripts

pytestmark = [NEEDS_DOCKERD, NEEDS_ETCD]

_PAGE = (Path(__file__).parents[2] / "docs/docker.md").read_text()


def steady(printed: str) -> list[str]:
    return constant(re.sub(r"\(10\.0\.0\.\d+\)", "(ADDRESS)", printed))


def printed(host: DockerClusterHost, command: str) -> list[str]:
    return steady(host.shell(f"{{ {command}; }} 2>&1").stdout)


def test_every_command_prints_what_the_page_shows() -> None:
    shown = host_transcripts(_PAGE)
    assert len(shown) > 8
    with docker_cluster(2) as lab:
        for name, command, expected in shown:
            host = lab.h[int(name.removeprefix("h"))]
            if command.startswith(("docker run", "docker network ls")):
                eventually(lambda host=host: host.has_network("web"))  # type: ignore[misc]
            if command.startswith("docker exec"):  # names come a moment later
                eventually(lambda h=host, c=command, e=expected: printed(h, c) == steady(e))  # type: ignore[misc]
            assert (command, printed(host, command)) == (command, steady(expected))


def test_the_settings_that_are_shown_are_those_that_were_tried() -> None:
    assert f'dns-listen = "{NAME_SERVER}"' in _PAGE
    (line,) = re.findall(r"(?m)^    (\{.*\})$", _PAGE)
    assert json.loads(line)["dns"][0] == NAME_SERVER
