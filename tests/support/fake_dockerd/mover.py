"""What dockerd does in the kernel with what Join answers: moves the link in, configures it, brings it back."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tests.support.fake_dockerd.model import Endpoint, Sandbox
from tests.support.fake_dockerd.versions import Version

Run = Callable[[Sequence[str]], str]
"""Runs a program in the namespace that plays the host and returns what it prints."""


class Mover(Protocol):
    """Sandboxes as the fake dockerd needs them."""

    def make(self, sandbox: Sandbox) -> None:
        """Makes the sandbox's namespace at its key."""

    def enter(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        """Moves and configures what Join answered."""

    def route(self, sandbox: Sandbox, ipv4: Endpoint | None, ipv6: Endpoint | None) -> None:
        """Makes the endpoints' gateways the sandbox's default routes."""

    def leave(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        """A link that its driver has removed by now is no failure: dockerd only logs that it is gone."""
        name = self._names.pop(endpoint.id, "")
        if not name or not Path(sandbox.key).exists() or name not in self._links(sandbox):
            return
        moves = (
            (name, "down"),
            (name, "name", endpoint.link),
            (endpoint.link, "netns", self._host),
        )
        try:
            for move in moves:
                self._inside(sandbox, "ip", "link", "set", "dev", *move)
        except RuntimeError:
            if self._links(sandbox) & {name, endpoint.link}:
                raise

    def remove(self, sandbox: Sandbox) -> None:
        """Removes the namespace."""


class KeyFiles:
    """For tests of the protocol alone: a sandbox is an empty file at its key."""

    def make(self, sandbox: Sandbox) -> None:
        Path(sandbox.key).parent.mkdir(parents=True, exist_ok=True)
        Path(sandbox.key).touch()

    def enter(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        """There are no links."""

    def route(self, sandbox: Sandbox, ipv4: Endpoint | None, ipv6: Endpoint | None) -> None:
        """There are no routes."""

    def leave(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        """There are no links."""

    def remove(self, sandbox: Sandbox) -> None:
        Path(sandbox.key).unlink(missing_ok=True)


def run_here(command: Sequence[str]) -> str:
    """Runs in the namespace of the calling thread. Raises RuntimeError with what the program complains about."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class NamespaceMover:
    """Real namespaces, bound to the sandboxes' keys. `host_namespace` is where links come from and go back to."""

    def __init__(self, version: Version, run: Run = run_here, host_namespace: str | Path = "") -> None:
        self._version, self._run = version, run
        self._host = str(host_namespace) or f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
        self._names: dict[str, str] = {}
        self._numbers: dict[tuple[str, str], int] = {}

    def make(self, sandbox: Sandbox) -> None:
        Path(sandbox.key).parent.mkdir(parents=True, exist_ok=True)
        Path(sandbox.key).touch()
        self._run(["unshare", f"--net={sandbox.key}", "true"])
        self._inside(sandbox, "ip", "link", "set", "lo", "up")

    def enter(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        if not endpoint.link:
            return
        self._run(["ip", "link", "set", "dev", endpoint.link, "netns", sandbox.key])
        name = self._free_name(endpoint, sandbox)
        self._inside(sandbox, "ip", "link", "set", "dev", endpoint.link, "down")
        self._inside(sandbox, "ip", "link", "set", "dev", endpoint.link, "name", name)
        self._names[endpoint.id] = name
        self._configure(endpoint, sandbox, name)

    def _configure(self, endpoint: Endpoint, sandbox: Sandbox, name: str) -> None:
        if endpoint.mac:
            self._inside(sandbox, "ip", "link", "set", "dev", name, "address", endpoint.mac)
        if endpoint.address:
            self._inside(sandbox, "ip", "addr", "add", endpoint.address, "dev", name)
        off = "0" if endpoint.address6 else "1"
        self._inside(sandbox, "sysctl", "-qw", f"net.ipv6.conf.{name}.disable_ipv6={off}")
        if endpoint.address6:
            self._inside(sandbox, "ip", "addr", "add", endpoint.address6, "dev", name, "nodad")
        self._inside(sandbox, "ip", "link", "set", "dev", name, "up")
        for route in endpoint.routes:
            way = ["via", route["NextHop"]] if not route.get("RouteType") else ["dev", name]
            if way != ["via", endpoint.gateway]:
                self._inside(sandbox, "ip", "route", "add", route["Destination"], *way)

    def route(self, sandbox: Sandbox, ipv4: Endpoint | None, ipv6: Endpoint | None) -> None:
        for family, gateway in (("-4", ipv4.gateway if ipv4 else ""), ("-6", ipv6.gateway6 if ipv6 else "")):
            if gateway:
                self._inside(sandbox, "ip", family, "route", "replace", "default", "via", gateway)

    def leave(self, endpoint: Endpoint, sandbox: Sandbox) -> None:
        name = self._names.pop(endpoint.id, "")
        if not name or not Path(sandbox.key).exists() or name not in self._links(sandbox):
            return
        self._inside(sandbox, "ip", "link", "set", "dev", name, "down")
        self._inside(sandbox, "ip", "link", "set", "dev", name, "name", endpoint.link)
        self._inside(sandbox, "ip", "link", "set", "dev", endpoint.link, "netns", self._host)

    def remove(self, sandbox: Sandbox) -> None:
        self._run(["umount", sandbox.key])
        Path(sandbox.key).unlink()

    def _free_name(self, endpoint: Endpoint, sandbox: Sandbox) -> str:
        prefix, number = endpoint.link_prefix, 0
        if self._version.reuses_link_numbers:
            taken = self._links(sandbox)
            while f"{prefix}{number}" in taken:
                number += 1
            return f"{prefix}{number}"
        number = self._numbers.get((sandbox.id, prefix), 0)
        self._numbers[sandbox.id, prefix] = number + 1
        return f"{prefix}{number}"

    def _links(self, sandbox: Sandbox) -> set[str]:
        return {link["ifname"] for link in json.loads(self._inside(sandbox, "ip", "-j", "link"))}

    def _inside(self, sandbox: Sandbox, *command: str) -> str:
        return self._run(["nsenter", f"--net={sandbox.key}", *command])
