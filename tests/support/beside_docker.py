"""A host on which a cnmd and a real dockerd live side by side, with either backend of iptables.

Debian's dockerd 20.10 makes no chain DOCKER-USER for IPv6, although it drops there too if it is told to care for it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import Host, Topology
from tests.packet.lab import Lab, running_lab, world
from tests.support.dockerd import PROGRAMS, Dockerd, make_image, start_dockerd
from tests.support.unpacked import environment, lacking, program

LACKING = lacking(*PROGRAMS, "xtables-legacy-multi", "xtables-nft-multi")
"""The reason of a skip, "" where all is there."""
BACKENDS = ["nft", "legacy"]
IPV6_TOO = ("--experimental", "--ip6tables", "--ipv6", "--fixed-cidr-v6", "fd00:d0c:0::/64")
_PROXY = "--userland-proxy=false"
USER_NETWORKS = {"user": ("10.70.1.0/24", "fd00:d0c:1::/64"), "named": ("10.70.2.0/24", "fd00:d0c:2::/64")}
DOCKER_PORT, _SERVED = 9000, 82
"""Of the host, and of the container on docker0 that Docker leads it to."""

_IDLE = ("--stop-signal", "KILL", "busybox", "sleep", "1000")
_OURS = "--src-group 0x636e6d01"
_NOT_TO_OURS = f"-m devgroup {_OURS} ! --dst-group 0x636e6d01 -m comment --comment cnm"


def rules(*names: str) -> list[str]:
    """What is to stand in DOCKER-USER; `names` are bridges of Docker with names of their own."""
    return [
        *(f"-A DOCKER-USER -o {name} {_NOT_TO_OURS} -j RETURN" for name in ("docker0", "br-+", *names)),
        f"-A DOCKER-USER -m devgroup {_OURS} -m comment --comment cnm -j ACCEPT",
        "-A DOCKER-USER -m devgroup --dst-group 0x636e6d01 -m comment --comment cnm -j ACCEPT",
    ]


SECONDS = {"nft": 5.0, "legacy": 12.0}
"""For our rules to be there again, on a loaded machine; about one and five seconds are usual."""


@dataclass
class Side:
    """A host with a cnmd, and a dockerd that uses one of the two backends of iptables."""

    backend: str
    lab: Lab
    place: Path
    containers: dict[str, Host] = field(default_factory=dict)
    addresses: dict[str, dict[int, str]] = field(default_factory=dict)

    @contextmanager
    def docker_runs(self, *arguments: str) -> Iterator[Dockerd]:
        env = environment()
        env["PATH"] = f"{self._programs()}:{env['PATH']}"
        state = self.place / f"docker-{self.backend}"
        with start_dockerd(state, _PROXY, *arguments, popen=self.lab.host.popen, env=env) as dockerd:
            yield dockerd

    def _programs(self) -> Path:
        """Where dockerd finds `iptables` first: what update-alternatives would choose."""
        folder = self.place / "programs"
        folder.mkdir(exist_ok=True)
        for name in ("iptables", "ip6tables"):
            with contextlib.suppress(FileExistsError):
                (folder / name).symlink_to(program(f"xtables-{self.backend}-multi"))
        return folder

    def iptables(self, *arguments: str, version: int = 4) -> list[str]:
        name = f"{'iptables' if version == 4 else 'ip6tables'}-{self.backend}"
        return self.lab.host.run([name, "-w", *arguments], env=environment()).stdout.splitlines()

    def chain(self, version: int = 4) -> list[str]:
        """The rules of DOCKER-USER; none where there is no such chain."""
        lines = self.iptables("-S", version=version)
        return [line for line in lines if line.startswith("-A DOCKER-USER ")]

    def comes_true(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + SECONDS[self.backend]
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def opens(self, *names: str, version: int = 4) -> bool:
        """Whether our rules come to stand first."""
        wanted = rules(*names)
        return self.comes_true(lambda: self.chain(version)[: len(wanted)] == wanted)

    def run_containers(self, dockerd: Dockerd) -> None:
        """One on docker0, one on a network of the user, one on a bridge with a name of its own; all with servers."""
        make_image(dockerd)
        for name, (ipv4, ipv6) in USER_NETWORKS.items():
            option = ["-o", f"com.docker.network.bridge.name={name}"] if name == "named" else []
            dockerd.docker("network", "create", "--ipv6", "--subnet", ipv4, "--subnet", ipv6, *option, name)
        for network in ("bridge", *USER_NETWORKS):
            published = ["-p", f"{DOCKER_PORT}:{_SERVED}"] if network == "bridge" else []
            dockerd.docker("run", "-d", "--name", network, "--network", network, *published, *_IDLE)
            self._adopt(dockerd, network)

    def _adopt(self, dockerd: Dockerd, name: str) -> None:
        pid = dockerd.docker("inspect", "-f", "{{.State.Pid}}", name)
        self.containers[name] = self.lab.topology.adopt(f"docker-{name}", f"/proc/{pid}/ns/net")
        self.lab.serve(self.containers[name])
        self.containers[name].serve_tcp(_SERVED)
        each = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}"
        ipv4, ipv6 = dockerd.docker("inspect", "-f", each, name).split()
        self.addresses[name] = {4: ipv4, 6: ipv6}

    def neighbours(self) -> list[dict[str, Any]]:
        return list(self.lab.daemon.ask("GET", "/cnm/v1/status")["Neighbours"])

    def state(self) -> str:
        """Of the neighbour docker, "" where none is known."""
        return "".join(each["State"] for each in self.neighbours() if each["Name"] == "docker")


@contextmanager
def side(
    place: Path,
    backend: str,
    config: str = "",
    networks: tuple[str, ...] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Side]:
    """cnmd runs, with the networks of the packet lab; dockerd does not yet. `env`: what it finds iptables by."""
    with (
        pytest.MonkeyPatch.context() as patch,
        Topology(world()) as topology,
    ):
        for name, value in (env or environment()).items():
            patch.setenv(name, value)
        with running_lab(
            topology, place / "cnm", br_netfilter=False, networks=networks, config=config
        ) as lab:
            yield Side(backend, lab, place)
