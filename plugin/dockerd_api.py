"""The few things that background workers ask dockerd over its own API; nothing on a request's path does."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from cnm.errors import CnmError, Forbidden, InvalidParameter, NotFound, Unavailable
from cnm.wire.keys import docker_key

_SECONDS = 10.0
_MANAGER = 1
"""systemd, where there is one."""
_LISTENING = 0x00010000
"""__SO_ACCEPTCON, as /proc/net/unix shows it."""


_T = TypeVar("_T")


class _Answer(msgspec.Struct, kw_only=True, rename=docker_key):
    """Unknown keys are ignored."""


class _Failure(msgspec.Struct):
    message: str = ""


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


class Attachment(_Answer, kw_only=True):
    """What a container is called on a network: `aliases`, and from Docker 26 on `dns_names`."""

    endpoint_id: str = ""
    aliases: list[str] | None = None
    dns_names: list[str] | None = msgspec.field(name="DNSNames", default=None)


class NetworkSettings(_Answer, kw_only=True):
    """By the networks' names."""

    networks: dict[str, Attachment] | None = None


class HostConfig(_Answer, kw_only=True):
    dns: list[str] | None = None
    """The servers that were given with `--dns`."""


class Container(_Answer, kw_only=True):
    name: str = ""
    """With a slash before it."""
    network_settings: NetworkSettings | None = None
    host_config: HostConfig | None = None


class NetworkRecord(_Answer, kw_only=True):
    """`containers` by their ids; only in the answer about one network."""

    id: str = msgspec.field(name="Id", default="")
    name: str = ""
    driver: str = ""
    ipam: Ipam | None = None
    labels: dict[str, str] | None = None
    containers: dict[str, Attached] | None = None


class Events:
    """What dockerd tells of itself, one event a line, until it ends or `interrupt`."""

    def __init__(self, connection: _UnixConnection, answer: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._answer = answer

    def next(self) -> bytes:
        """Waits for it; b"" at the end."""
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            return self._answer.readline()
        return b""

    def interrupt(self) -> None:
        """Whoever waits for an event is told of the end."""
        with contextlib.suppress(OSError):
            self._connection.channel.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """By whoever waits for them."""
        self._connection.close()


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

    def container(self, ident: str) -> Container:
        """Raises NotFound."""
        return self._get(f"/containers/{ident}/json", Container)

    def events(self, filters: Mapping[str, Sequence[str]]) -> Events:
        """Those that happen from now on."""
        wanted = urlencode({"filters": json.dumps(filters)})
        connection, answer = self._sent("GET", f"/events?{wanted}", None)
        if answer.status != 200:
            connection.close()
            raise Unavailable(f"dockerd at {self.path} tells no events: status {answer.status}")
        connection.channel.settimeout(None)
        return Events(connection, answer)

    def create_network(self, description: Mapping[str, Any]) -> None:
        """`description` has the API's keys. Raises CnmError with what dockerd says where it refuses."""
        self._ask("POST", "/networks/create", msgspec.json.encode(description))

    def remove_network(self, network_id: str) -> None:
        """Raises NotFound, Forbidden where containers are in it."""
        self._ask("DELETE", f"/networks/{network_id}")

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
            return msgspec.json.decode(self._ask("GET", path), type=record)
        except msgspec.DecodeError as error:
            raise Unavailable(
                f"dockerd at {self.path} answers {path} with what nobody expects: {error}"
            ) from None

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection, answer = self._sent(method, path, body)
        with contextlib.closing(connection):
            try:
                content = answer.read()
            except (OSError, http.client.HTTPException) as error:
                raise Unavailable(f"dockerd at {self.path} does not answer: {error}") from None
        if answer.status >= 300:
            raise self._refusal(method, path, answer.status, content)
        return content

    def _sent(
        self, method: str, path: str, body: bytes | None
    ) -> tuple[_UnixConnection, http.client.HTTPResponse]:
        """The answer up to its body, and the connection that the rest comes over."""
        try:
            asleep = self._is_asleep()
        except OSError as error:
            raise Unavailable(f"whether a dockerd runs behind {self.path} cannot be seen: {error}") from None
        if asleep:
            raise Unavailable(f"no dockerd runs behind {self.path}")
        headers = {"Host": "docker"} | ({"Content-Type": "application/json"} if body else {})
        connection = _UnixConnection(self.path)
        try:
            connection.request(method, path, body, headers=headers)
            return connection, connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unavailable(f"dockerd at {self.path} does not answer: {error}") from None

    def _refusal(self, method: str, path: str, status: int, content: bytes) -> CnmError:
        if status == 404 and method != "POST" and path.startswith(("/networks/", "/containers/")):
            _, kind, ident = path.split("/")[:3]
            return NotFound(f"dockerd at {self.path} has no {kind[:-1]} {ident}: {_message(content)}")
        if method == "GET":
            return Unavailable(f"dockerd at {self.path} answers {path} with status {status}")
        return Forbidden(_message(content)) if status == 403 else CnmError(_message(content))


def _message(content: bytes) -> str:
    """What dockerd says, on one line."""
    try:
        said = msgspec.json.decode(content, type=_Failure).message
    except msgspec.DecodeError:
        said = content.decode(errors="replace")
    return " ".join(said.split())


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=_SECONDS)
        self._path = path
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def connect(self) -> None:
        self.sock = self.channel
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
