"""Hosts of one cluster, each with a real dockerd and a real cnmd beside it, joined by a switch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from netns_fixtures import Topology
from tests.cluster.hosts import ClusterHost, drop_place, eventually, short_place, world
from tests.docker.docker_lab import IMAGE, PLUGINS
from tests.support.cnmd import Cnmd
from tests.support.daemon_starts import PopenWithMounts, with_mounts
from tests.support.dockerd import Dockerd, exec_root, make_image, start_dockerd
from tests.support.unpacked import environment, program

NAME_SERVER = "172.17.0.1"
"""Of the bridge that every dockerd has."""
_CONFIG = f'etcd = "{program("etcd")}"\ndns-listen = "127.0.0.12,{NAME_SERVER}"\n'
_DIRECT = "docker-direct = true\n"


class DockerClusterHost(ClusterHost):
    """`docker(…)` says a command to its dockerd. Both of its daemons have a directory of plugins for themselves."""

    def __init__(self, topology: Topology, place: Path, number: int) -> None:
        config = _CONFIG + (_DIRECT if number == 2 else "")
        super().__init__(topology, place, number, config)
        self._state = place / f"docker{number}"
        self._ended = contextlib.ExitStack()
        self._mounts = f"/proc/{self._own_mounts()}/ns/mnt"
        env = {**os.environ, **environment()}
        self.popen = partial(PopenWithMounts(self.net, self._mounts), env=env)
        self.dockerd: Dockerd | None = None
        self.cnmd = Cnmd(
            place / self.name,
            self.popen,
            config,
            plugin_dir=PLUGINS,
            docker_host=f"unix://{self._state / 'docker.sock'}",
        )

    def _own_mounts(self) -> int:
        """The process that keeps the namespace: dockerd finds plugins at one path only."""
        Path(PLUGINS).mkdir(parents=True, exist_ok=True)
        script = f"mount -t tmpfs tmpfs {PLUGINS} && echo ready && exec sleep infinity"
        command = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "sh", "-c", script]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._ended.callback(holder.wait)
        self._ended.callback(holder.kill)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        holder.stdout.close()
        return holder.pid

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        """A command at this host's prompt, with `cnmctl` and `docker` for its two daemons."""
        known = environment()
        env = {
            **os.environ,
            **known,
            "PATH": f"{Path(sys.prefix) / 'bin'}:{known['PATH']}",
            "DOCKER_HOST": f"unix://{self._state / 'docker.sock'}",
            "CNM_HOST": f"unix://{self.cnmd.socket}",
        }
        return self.net.run(with_mounts(self._mounts, ["sh", "-c", command]), env=env, check=False)

    def start_docker(self) -> None:
        (exec_root(self._state) / "containerd" / "containerd.pid").unlink(missing_ok=True)
        flags = ("--dns", NAME_SERVER)
        self.dockerd = self._ended.enter_context(start_dockerd(self._state, *flags, popen=self.popen))

    def end_docker(self, number: int = signal.SIGTERM) -> None:
        assert self.dockerd is not None
        os.kill(self.dockerd.process.pid, number)
        self.dockerd.process.wait(30)
        self.dockerd = None

    def docker(self, *arguments: str) -> str:
        assert self.dockerd is not None
        return self.dockerd.docker(*arguments)

    def run(self, name: str, *options: str, command: tuple[str, ...] = ("sleep", "100000")) -> str:
        """`docker run` in the background."""
        return self.docker("run", "--detach", "--name", name, *options, IMAGE, *command)

    def address_of(self, container: str, network: str = "web", key: str = "IPAddress") -> str:
        template = f'{{{{(index .NetworkSettings.Networks "{network}").{key}}}}}'
        return self.docker("inspect", "--format", template, container)

    def serve(self, name: str, *options: str) -> None:
        """A container with a web server on port 80 that says its name."""
        script = f"mkdir -p /w; echo {name} >/w/index.html; exec httpd -f -p 80 -h /w"
        self.run(name, *options, command=("sh", "-c", script))
        eventually(lambda: "httpd" in self.docker("exec", name, "ps"))

    def pings(self, container: str, target: str) -> bool:
        try:
            self.docker("exec", container, "ping", "-c", "1", "-W", "1", target)
        except RuntimeError:
            return False
        return True

    def has_network(self, name: str) -> bool:
        return name in self.docker("network", "ls", "--format", "{{.Name}}").split()

    def network_id(self, name: str) -> str:
        """What its dockerd calls it, "" where it has none of this name."""
        return self.docker("network", "ls", "--quiet", "--no-trunc", "--filter", f"name=^{name}$")

    def docker_warnings(self) -> list[str]:
        """What `cnmctl status` says of Docker."""
        return [each for each in self.cnmd.ask("GET", "/cnm/v1/status")["Warnings"] if "ocker" in each]

    def remove_containers(self) -> None:
        if containers := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *containers)

    def close(self) -> None:
        if self.dockerd is None:
            self.start_docker()
        self.remove_containers()
        self.die()
        self._ended.close()


class DockerCluster:
    """`h[1]` is the member, the others are its clients; on `h[2]` links are made inside where that can be."""

    def __init__(self, topology: Topology, place: Path, count: int) -> None:
        self.topology = topology
        self.h = {number: DockerClusterHost(topology, place, number) for number in range(1, count + 1)}

    def create(self, name: str, *flags: str) -> None:
        """A network of the cluster that is in every dockerd."""
        done = self.h[1].cnmd.cnmctl("network", "create", "-d", "overlay", "--docker", *flags, name)
        assert done.returncode == 0, done.stderr
        eventually(lambda: all(host.has_network(name) for host in self.h.values()))

    def remove(self, name: str) -> None:
        """From the cluster, and so from every dockerd; whoever is in it goes, too."""
        for host in self.h.values():
            host.remove_containers()
            for box in host.cnmd.ask("GET", "/cnm/v1/sandboxes"):
                host.cnmd.ask("DELETE", f"/cnm/v1/sandboxes/{box['Id']}?force=1")
        done = self.h[1].cnmd.cnmctl("network", "rm", name)
        assert done.returncode == 0, done.stderr
        eventually(lambda: not any(host.has_network(name) for host in self.h.values()))


@contextlib.contextmanager
def docker_cluster(count: int) -> Iterator[DockerCluster]:
    """A cluster whose dockerds have the image."""
    place = short_place()
    try:
        with Topology(world(count)) as topology:
            lab = DockerCluster(topology, place, count)
            try:
                for host in lab.h.values():
                    host.start()
                    host.start_docker()
                    assert host.dockerd is not None
                    make_image(host.dockerd, IMAGE)
                lab.h[1].init()
                for number in range(2, count + 1):
                    lab.h[number].join(lab.h[1], "--client")
                yield lab
            finally:
                for host in lab.h.values():
                    host.close()
    finally:
        drop_place(place)
