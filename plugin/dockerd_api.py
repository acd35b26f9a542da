"""The few questions that a background worker asks dockerd over its own API; nothing on a request's path does."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
from collections.abc import Iterator
from typing import TypeVar

import msgspec

from cnm.errors import InvalidParameter, NotFound, Unavailable
from cnm.wire.keys import docker_key

_SECONDS = 10.0
_MANAGER = 1
"""systemd, where there is one."""
_LISTENING = 0x00010000
"""__SO_ACCEPTCON, as /proc/net/unix shows it."""


_T = TypeVar("_T")


class _Answer(msgspec.Struct, kw_only=True, rename=docker_key):
    """Unknown keys are ignored."""


class Version(_Answer, kw_only=True):
    version: str = ""


class Info(_Answer, kw_only=True):
    live_restore_enabled: bool = False


class Attached(_Answer, kw_only=True):
    """A container in a network."""

    name: str = ""
    endpoint_id: str = ""


class Subnet(_Answer, kw_only=True):
    subnet: str = ""


class Ipam(_Answer, kw_only=True):
    driver: str = ""
    config: list[Subnet] | None = None


class NetworkRecord(_Answer, kw_only=True):
    """`containers` by their ids; only in the answer about one network."""

    id: str = msgspec.field(name="Id", default="")
    name: str = ""
    driver: str = ""
    ipam: Ipam | None = None
    containers: dict[str, Attached] | None = None


class DockerdApi:
    """dockerd at `host`, as `unix:///run/docker.sock`. Every question raises Unavailable where it is not answered."""

    def __init__(self, host: str) -> None:
        """Raises InvalidParameter for anything but a Unix socket."""
        scheme, separator, path = host.partition("://")
        if scheme != "unix" or not separator or not path.startswith("/"):
            raise InvalidParameter(
                f"docker-host {host} cannot be used: give unix:///run/docker.sock, or nothing"
            )
        self.path = path

    def version(self) -> Version:
        return self._get("/version", Version)

    def info(self) -> Info:
        return self._get("/info", Info)

    def networks(self) -> list[NetworkRecord]:
        return self._get("/networks", list[NetworkRecord])

    def network(self, network_id: str) -> NetworkRecord:
        """Raises NotFound."""
        return self._get(f"/networks/{network_id}", NetworkRecord)

    def is_served_by(self, process: int) -> bool:
        """Whether this process holds the socket that is listened on at the path."""
        with contextlib.suppress(OSError):
            return _holds(process, _listeners(self.path))
        return False

    def _is_asleep(self) -> bool:
        """Whether only the service manager listens: a question would start a dockerd that somebody has stopped."""
        listeners = _listeners(self.path)
        return _holds(_MANAGER, listeners) and not any(_holds(p, listeners) for p in _processes("dockerd"))

    def _get(self, path: str, record: type[_T]) -> _T:
        try:
            asleep = self._is_asleep()
        except OSError as error:
            raise Unavailable(f"whether a dockerd runs behind {self.path} cannot be seen: {error}") from None
        if asleep:
            raise Unavailable(f"no dockerd runs behind {self.path}")
        connection = _UnixConnection(self.path)
        try:
            connection.request("GET", path, headers={"Host": "docker"})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"dockerd at {self.path} does not answer: {error}") from None
        finally:
            connection.close()
        if answer.status == 404 and path.startswith("/networks/"):
            raise NotFound(f"dockerd at {self.path} has no network {path.rpartition('/')[2]}")
        if answer.status != 200:
            raise Unavailable(f"dockerd at {self.path} answers {path} with status {answer.status}")
        try:
            return msgspec.json.decode(body, type=record)
        except msgspec.DecodeError as error:
            raise Unavailable(
                f"dockerd at {self.path} answers {path} with what nobody expects: {error}"
            ) from None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def _holds(process: int, sockets: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(entry.path) in sockets:
                    return True
    return False


def _processes(name: str) -> Iterator[int]:
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError), open(f"{entry.path}/comm", encoding="utf-8") as file:
                if file.read().strip() == name:
                    yield int(entry.name)


def _listeners(path: str) -> set[str]:
    """Listening sockets at a path, as they stand in a process's list of descriptors.

    A link on the way (/var/run) may make the same path another text.
    """
    wanted = os.path.realpath(path)
    found = set()
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as file:
        next(file)
        for line in file:
            fields = line.split(maxsplit=7)
            if (
                len(fields) == 8
                and int(fields[3], 16) & _LISTENING
                and os.path.realpath(fields[7].strip()) == wanted
            ):
                found.add(f"socket:[{fields[6]}]")
    return found
