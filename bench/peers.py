"""Other programs that do the same, where they are to be had: Debian's dockerd over its socket, netavark as a process.

Each plays in a network namespace of its own, so that its rules and links meet nobody else's.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.client import Client, request
from bench.floor import THREAD_NAMESPACE, inside, new_namespace
from bench.samples import Samples
from tests.support import dockerd, unpacked


class Dockerd:
    """`docker network connect` of a running container; its endpoints have no port, since connect cannot give one."""

    def __init__(self, client: Client | None, missing: str = "") -> None:
        self._client = client
        self.missing = missing

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Dockerd]:
        if lacking := unpacked.lacking(*dockerd.PROGRAMS):
            yield cls(None, f"dockerd: {lacking}")
            return
        with tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory, contextlib.ExitStack() as stack:
            try:
                with _own_namespace():
                    daemon = stack.enter_context(dockerd.start_dockerd(Path(directory)))
                image = dockerd.make_image(daemon)
                for name in ("home", "peer"):
                    daemon.docker("network", "create", name)
                box = ("--name", "box", "--network", "home", image, "sleep", "100000")
                daemon.docker("run", "--detach", *box)
            except RuntimeError as error:
                yield cls(None, f"dockerd: {str(error).splitlines()[0]}")
                return
            yield cls(Client(str(daemon.socket)))
            daemon.docker("rm", "--force", "box")

    def measure(self, samples: Samples) -> None:
        if self._client is None:
            return
        network = request("POST", "/networks/create", {"Name": "again"})
        for name, message in (
            ("network create", network),
            ("network delete", request("DELETE", "/networks/again")),
            ("attach", request("POST", "/networks/peer/connect", {"Container": "box"})),
            ("detach", request("POST", "/networks/peer/disconnect", {"Container": "box"})),
        ):
            samples.time(f"dockerd {name}", self._client.send, message)


class Netavark:
    """One container with one port; a second one stays, so that the bridge does."""

    def __init__(self, directory: str, missing: str = "") -> None:
        self._directory = directory
        self.missing = missing

    @classmethod
    @contextlib.contextmanager
    def ready(cls) -> Iterator[Netavark]:
        if lacking := unpacked.lacking("netavark", "iptables"):
            yield cls("", f"netavark: {lacking}")
            return
        with tempfile.TemporaryDirectory(prefix="cnm-bench-") as directory:
            netavark = cls(directory)
            with _own_namespace():
                host = os.open(THREAD_NAMESPACE, os.O_RDONLY)
            netavark._host = host
            netavark._call("setup", 1, new_namespace())
            yield netavark
            os.close(host)

    _host: int

    def measure(self, samples: Samples) -> None:
        if self.missing:
            return
        namespace = new_namespace()
        samples.time("netavark attach", self._call, "setup", 2, namespace)
        samples.time("netavark detach", self._call, "teardown", 2, namespace)
        os.close(namespace)

    def _call(self, verb: str, number: int, namespace: int) -> None:
        """The whole process. RuntimeError with what it says."""
        path = f"/proc/{os.getpid()}/fd/{namespace}"
        home = os.open(THREAD_NAMESPACE, os.O_RDONLY)
        with inside(self._host, home):
            process = subprocess.Popen(
                [unpacked.program("netavark"), "--config", self._directory, verb, path],
                env=unpacked.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        os.close(home)
        output, _ = process.communicate(json.dumps(_container(number)).encode())
        if process.returncode != 0:
            raise RuntimeError(f"netavark {verb}: {output.decode()}")


@contextlib.contextmanager
def _own_namespace() -> Iterator[None]:
    """A new network namespace; what the block starts stays in it."""
    home = os.open(THREAD_NAMESPACE, os.O_RDONLY)
    namespace = new_namespace()
    with inside(namespace, home):
        yield
    os.close(namespace)
    os.close(home)


def _container(number: int) -> object:
    subnet = {"subnet": "10.89.0.0/24", "gateway": "10.89.0.1"}
    network = {
        "name": "net",
        "id": "d" * 64,
        "driver": "bridge",
        "network_interface": "podman1",
        "subnets": [subnet],
        "ipv6_enabled": False,
        "internal": False,
        "dns_enabled": False,
        "ipam_options": {"driver": "host-local"},
    }
    port = {"host_ip": "", "container_port": 80, "host_port": 8080 + number, "range": 1, "protocol": "tcp"}
    return {
        "container_id": f"{number:064x}",
        "container_name": f"box{number}",
        "networks": {"net": {"interface_name": "eth0", "static_ips": [f"10.89.0.{9 + number}"]}},
        "network_info": {"net": network},
        "port_mappings": [port],
    }
