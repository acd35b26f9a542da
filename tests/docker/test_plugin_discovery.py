"""dockerd finds the plugin where its socket is not in dockerd's own directory: by NAME.json over TLS, by NAME.spec."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, PLUGINS, DockerLab, running_lab
from tests.support.certificates import Authority
from tests.support.private_etc import make_private
from tests.support.unpacked import program

pytestmark = [
    NEEDS_DOCKERD,
    pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed"),
]

SPECS = "/etc/docker/plugins"
_PORT = 2471


def _over_tls(place: Path) -> str:
    ca = Authority(place)
    server, client = ca.certify("server"), ca.certify("client")
    return f"""
[plugin-tcp]
listen = {{ cnm = "127.0.0.1:{_PORT}" }}
ca = "{ca.cert}"
cert = "{server.cert}"
key = "{server.key}"
client-cert = "{client.cert}"
client-key = "{client.key}"
"""


@pytest.fixture(scope="module", params=["json", "spec"])
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerLab]:
    make_private()
    place = tmp_path_factory.mktemp(request.param)
    config = f'plugin-spec-dir = "{SPECS}"\n' + (_over_tls(place) if request.param == "json" else "")
    with running_lab(place / "lab", config=config, plugins=str(place / "elsewhere")) as running:
        yield running
    shutil.rmtree(SPECS)


def test_a_network_is_made_used_and_removed(lab: DockerLab) -> None:
    assert not os.path.exists(f"{PLUGINS}/cnm.sock")

    lab.docker("network", "create", "--driver", "cnm", "--ipam-driver", "cnm", "web")
    lab.serve("front", "--network", "web", "--publish", "8080:80")

    assert _fetched(lab, "http://127.0.0.1:8080/") == "front\n"
    assert lab.docker("network", "inspect", "web", "--format", "{{.Driver}}") == "cnm"
    lab.docker("rm", "--force", "front")
    lab.docker("network", "rm", "web")
    lab.assert_nothing_is_left()


def _fetched(lab: DockerLab, url: str) -> str:
    """By the host itself."""
    return str(lab.host.run([str(program("busybox")), "wget", "-qO-", url]).stdout)


def test_dockerd_asks_over_tls_where_it_was_told_to(lab: DockerLab) -> None:
    described = Path(SPECS, "cnm.json")
    if not described.exists():
        assert Path(SPECS, "cnm.spec").read_text().startswith("unix:///")
        return
    assert json.loads(described.read_text())["Addr"] == f"https://127.0.0.1:{_PORT}"

    connections = lab.host.run(["ss", "-Htn", "state", "established", f"sport = :{_PORT}"]).stdout

    assert f"127.0.0.1:{_PORT}" in str(connections)
