"""A real cnmd as a process of its own, in the namespace of a host of the test, and the ways to talk to it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.daemon_life import DaemonLife
from tests.support.daemon_starts import Popen, Process, run_program, start_daemon

PYTHON = sys.executable
START_SECONDS = 20.0


class UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Cnmd(DaemonLife):
    """One daemon over one directory; it can be killed and started again.

    `popen` starts a program in the namespace that plays the host, by default that of the calling thread; a
    netns_fixtures host's `popen` fits. Whether that is a start from nothing is for `daemon_starts` to say.
    """

    place: Path
    popen: Popen = subprocess.Popen
    config: str = ""
    plugin_dir: str = ""
    """Where its plugin sockets are; "": in its own place, where no dockerd looks."""
    docker_host: str = ""
    """The dockerd that it may ask, as a URL; "": none."""
    process: Process | None = field(default=None, init=False)

    @property
    def socket(self) -> str:
        return str(self.place / "run" / "cnm.sock")

    @property
    def etc(self) -> Path:
        """Where it finds the host's resolv.conf and hosts; a test may put them there."""
        return self.place / "etc"

    @property
    def log(self) -> str:
        return (self.place / "log").read_text()

    def start(self) -> None:
        """Returns when it answers. Raises RuntimeError with its log if it ends instead."""
        self.place.mkdir(parents=True, exist_ok=True)
        config = self.place / "config.toml"
        config.write_text(f'etc = "{self.etc}"\n{self.config}')
        command = [PYTHON, "-m", "cnm.daemon", "--config", str(config), "--root", str(self.place / "root")]
        plugins = self.plugin_dir or str(self.place / "plugins")
        command += [
            "--run",
            str(self.place / "run"),
            "--plugin-dir",
            plugins,
            "--docker-host",
            self.docker_host,
        ]
        with (self.place / "log").open("ab") as log:
            self.process = start_daemon(self.popen, command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS
        self.await_answer("cnmd", deadline)

    def answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.request("GET", "/_ping")[0] == 200
        return False

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """(status, decoded body or text). `body` is sent as JSON, bytes as they are."""
        connection = UnixConnection(self.socket)
        try:
            data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"} if data is not None else {}
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        with contextlib.suppress(ValueError):
            return answer.status, json.loads(text)
        return answer.status, text

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The body of an answer that must be a success."""
        status, answer = self.request(method, path, body)
        assert status < 400, f"{method} {path}: {status} {answer}"
        return answer

    def create_network(self, name: str, **options: Any) -> str:
        """The id. `options` are Docker's keys: Internal=True, EnableIPv6=True, Options={…}, IPAM={…}."""
        body = {"Name": name, "Driver": "bridge", **options}
        return str(self.ask("POST", "/networks/create", body)["Id"])

    def create_sandbox(self, name: str, **options: Any) -> Any:
        return self.ask("POST", "/cnm/v1/sandboxes", {"Name": name, **options})

    def connect(self, network: str, sandbox: str, **config: Any) -> Any:
        """The endpoint. `config` is Docker's EndpointConfig and ours: Ports=[{…}], IfName=…"""
        body = {"Container": sandbox, "EndpointConfig": config}
        self.ask("POST", f"/networks/{quote(network, safe='')}/connect", body)
        (endpoint,) = self.ask("GET", f"/cnm/v1/endpoints?network={quote(network)}&sandbox={quote(sandbox)}")
        return endpoint

    def findings(self) -> list[Any]:
        """What doctor says."""
        return list(self.ask("GET", "/cnm/v1/doctor")["Findings"])

    def cnmctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line against this daemon."""
        return run_program([PYTHON, "-m", "cnm.cli", "-H", f"unix://{self.socket}", *arguments])


@contextlib.contextmanager
def running(place: Path, popen: Popen = subprocess.Popen, config: str = "") -> Iterator[Cnmd]:
    """A daemon for the block; at its end everything that it made is taken away, its namespaces too."""
    daemon = Cnmd(place, popen, config)
    daemon.start()
    try:
        yield daemon
        clear(daemon)
    except BaseException:
        with contextlib.suppress(OSError, AssertionError):
            clear(daemon)  # ends the relay, which outlives the daemon
        raise
    finally:
        daemon.kill()
        for path in (place / "run" / "netns").glob("*"):
            subprocess.run(["umount", "--lazy", str(path)], capture_output=True)


def clear(daemon: Cnmd) -> None:
    """Remove all sandboxes, endpoints and networks through the daemon."""
    for sandbox in daemon.ask("GET", "/cnm/v1/sandboxes"):
        daemon.ask("DELETE", f"/cnm/v1/sandboxes/{sandbox['Id']}?force=1")
    for endpoint in daemon.ask("GET", "/cnm/v1/endpoints"):
        daemon.ask("DELETE", f"/cnm/v1/endpoints/{endpoint['Id']}?force=1")
    daemon.ask("POST", "/networks/prune")
