"""A host with a real dockerd and a real cnmd as its plugin, and a machine outside."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host, Topology
from tests.support.cnmd import Cnmd
from tests.support.dockerd import PROGRAMS, Dockerd, exec_root, make_image, start_dockerd
from tests.support.unpacked import environment, lacking

NEEDS_DOCKERD = pytest.mark.skipif(lacking(*PROGRAMS) != "", reason=lacking(*PROGRAMS))

HOST = {4: "192.0.2.1", 6: "2001:db8:1::1"}
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8:1::2"}
PLUGINS = "/run/docker/plugins"
"""Private to the test process, which has a /run of its own."""
IMAGE = "busybox"
PATIENCE = 15.0


def world() -> dict[str, Any]:
    return {
        "hosts": {"host": {"uplink": "outside"}, "outside": {}},
        "links": [
            {
                "ends": [
                    _end("host", "up0", HOST),
                    _end("outside", "eth0", OUTSIDE),
                ]
            }
        ],
    }


def _end(host: str, interface: str, addresses: dict[int, str]) -> dict[str, Any]:
    return {
        "host": host,
        "interface": interface,
        "addresses": [f"{addresses[4]}/24", f"{addresses[6]}/64"],
    }


class DockerLab:
    """`docker(…)` says a command to dockerd and returns what it prints. Both daemons can end and start again."""

    def __init__(
        self,
        topology: Topology,
        place: Path,
        *,
        config: str = "",
        flags: tuple[str, ...] = (),
        plugins: str = PLUGINS,
        docker_host: str | None = None,
    ) -> None:
        self._topology = topology
        self.host: Host = topology.hosts["host"]
        self.outside: Host = topology.hosts["outside"]
        self._place = place
        self._flags = flags
        self._ended = contextlib.ExitStack()
        self.dockerd: Dockerd | None = None
        self.cnmd = Cnmd(
            place / "cnmd",
            partial(
                self.host.popen, env={**os.environ, **environment()}
            ),  # for the iptables that is unpacked
            config,
            plugin_dir=plugins,
            docker_host=f"unix://{place / 'docker' / 'docker.sock'}" if docker_host is None else docker_host,
        )

    # The daemons

    def start_docker(self) -> None:
        (exec_root(self._place / "docker") / "containerd" / "containerd.pid").unlink(missing_ok=True)
        self.dockerd = self._ended.enter_context(
            start_dockerd(self._place / "docker", *self._flags, popen=self.host.popen)
        )

    def end_docker(self, number: int = signal.SIGTERM) -> None:
        """What it leaves in the cgroups is removed when the lab ends: containers may live on."""
        assert self.dockerd is not None
        os.kill(self.dockerd.process.pid, number)
        self.dockerd.process.wait(30)
        self.dockerd = None

    def close(self) -> None:
        """Containers first: those of a dockerd that is gone are ended by the next one."""
        if self.dockerd is None:
            self.start_docker()
        self.remove_everything()
        self._ended.close()
        self.cnmd.kill()
        shutil.rmtree(PLUGINS, ignore_errors=True)

    def remove_everything(self) -> None:
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)
        for name in self.docker("network", "ls", "--filter", "type=custom", "--format", "{{.Name}}").split():
            self.docker("network", "rm", name)

    # What a user does

    def docker(self, *arguments: str) -> str:
        """Raises RuntimeError with what docker says where it fails."""
        assert self.dockerd is not None
        return self.dockerd.docker(*arguments)

    def refused(self, *arguments: str) -> str:
        """What docker says to a command that must fail."""
        with pytest.raises(RuntimeError) as refusal:
            self.docker(*arguments)
        return str(refusal.value)

    def run(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "100000")) -> str:
        """`docker run` in the background; the id."""
        return self.docker("run", "--detach", "--name", name, *options, IMAGE, *command)

    def serve(self, name: str, *options: str) -> str:
        """A container with a web server on port 80, that answers its own name."""
        script = f"mkdir -p /w; echo {name} >/w/index.html; exec httpd -f -p 80 -h /w"
        ident = self.run(name, *options, command=("sh", "-c", script))
        eventually(lambda: "httpd" in self.docker("exec", name, "ps"))
        return ident

    def inside(self, name: str, *command: str) -> str:
        return self.docker("exec", name, *command)

    def fetches(self, port: int = 8080) -> bool:
        """Whether the web server behind a published port answers on the host."""
        request = b"GET / HTTP/1.0\r\n\r\n"
        return self.host.connect_tcp(HOST[4], port, send=request, timeout=2.0).answered

    def adopted(self, container: str) -> Host:
        """The container's network namespace as a host of the topology, for servers and probes in it."""
        key = self.docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", container)
        name = os.path.basename(key)
        self._topology.adopt(name, key)
        return self._topology.hosts[name]

    def address(self, container: str, network: str, key: str = "IPAddress") -> str:
        template = f'{{{{(index .NetworkSettings.Networks "{network}").{key}}}}}'
        return self.docker("inspect", "--format", template, container)

    # What is left

    def findings(self) -> list[Any]:
        return self.cnmd.findings()

    def links(self) -> set[str]:
        """Names of the host's links that are of no dockerd, and not on their way out."""
        found = json.loads(self.host.run(["ip", "-j", "link"]).stdout)
        return {
            name
            for name in (link["ifname"] for link in found)
            if name.startswith(("cnm-", "cv", "cp", "cs", "dm-"))
        }

    def assert_nothing_is_left(self) -> None:
        """No network or endpoint of dockerd's, no link, no finding."""
        eventually(lambda: not self.links())
        assert self.cnmd.ask("GET", "/cnm/v1/endpoints") == []
        assert self.cnmd.ask("GET", "/cnm/v1/sandboxes") == []
        names = {network["Name"] for network in self.cnmd.ask("GET", "/networks")}
        assert names == {"bridge", "host", "none"}
        assert self.findings() == []


@contextlib.contextmanager
def running_lab(
    place: Path,
    *,
    config: str = "",
    flags: tuple[str, ...] = (),
    plugins: str = PLUGINS,
    docker_host: str | None = None,
) -> Iterator[DockerLab]:
    """`config` are cnmd's settings, `flags` dockerd's; `plugins` is where cnmd serves, `docker_host` whom it asks."""
    with Topology(world()) as topology:
        lab = DockerLab(topology, place, config=config, flags=flags, plugins=plugins, docker_host=docker_host)
        lab.cnmd.start()
        lab.start_docker()
        assert lab.dockerd is not None
        make_image(lab.dockerd, IMAGE)
        try:
            yield lab
        finally:
            lab.close()


def eventually(condition: Any, seconds: float = PATIENCE) -> None:
    """Wait until it holds; what is asynchronous in dockerd or the kernel has no other sign."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.05)
