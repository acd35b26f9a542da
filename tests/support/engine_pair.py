"""Two daemons that speak the Engine API, asked the same things: their answers, made comparable, and what differs."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.support.cnmd import UnixConnection
from tests.support.unpacked import environment, program

_NORMAL = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "<short>"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)"), "<time>"),
    (re.compile(r"\b172\.\d+\.\d+\.\d+\b"), "<address>"),
    (re.compile(r"\b02:42(:[0-9a-f]{2}){4}\b"), "<mac>"),
)
ABSENT = "(absent)"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: Any
    """Decoded JSON, text that is none, None for nothing."""

    @property
    def message(self) -> str:
        """What an error says."""
        if isinstance(self.body, dict):
            return str(self.body.get("message") or self.body.get("error") or "")
        return self.body.strip() if isinstance(self.body, str) else ""


def ask(
    socket: str, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """`path` need not be quoted. A body that is no bytes is sent as JSON."""
    given = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        given.setdefault("Content-Type", "application/json")
    with contextlib.closing(UnixConnection(socket)) as connection:
        connection.request(method, quote(path, safe="/?&=%,:"), body, given)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), _decoded(response.read()))


def attach_and_leave(socket: str, container: str, said: bytes) -> None:
    """Of a client that attaches its input alone."""
    with contextlib.closing(UnixConnection(socket)) as connection:
        upgrade = {"Connection": "Upgrade", "Upgrade": "tcp"}
        connection.request("POST", f"/containers/{container}/attach?stdin=1&stream=1", headers=upgrade)
        assert connection.sock.recv(1000).startswith(b"HTTP/1.1 101")
        connection.sock.sendall(said)


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except ValueError:
        return content.decode("utf-8", "replace")


class Pair(NamedTuple):
    """Sockets of the two daemons."""

    ours: str
    theirs: str

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[Answer, Answer]:
        return ask(self.ours, method, path, body, headers), ask(self.theirs, method, path, body, headers)

    def docker(self, *arguments: str) -> None:
        """The docker CLI at both. Raises RuntimeError where it fails at one."""
        for socket in self:
            done = subprocess.run(
                [program("docker"), "-H", f"unix://{socket}", *arguments],
                env=environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
            if done.returncode != 0:
                raise RuntimeError(f"{socket}: docker {' '.join(arguments)}: {done.stderr.decode()}")

    def do(self, method: str, path: str, body: Any = None) -> tuple[Any, Any]:
        """Both answers' bodies. Raises AssertionError where one fails."""
        ours, theirs = self.ask(method, path, body)
        assert (ours.status < 400, theirs.status < 400) == (True, True), (ours, theirs)
        return ours.body, theirs.body


def normalised(value: Any) -> Any:
    """Ids, times and addresses, which are others in each daemon, by what they are."""
    if isinstance(value, dict):
        return {key: normalised(each) for key, each in value.items()}
    if isinstance(value, list):
        return [normalised(each) for each in value]
    if isinstance(value, str):
        for pattern, name in _NORMAL:
            value = pattern.sub(name, value)
    return value


def differences(ours: Any, theirs: Any) -> dict[str, tuple[Any, Any]]:
    """(ours, theirs) by the path of the key, as "HostConfig.Binds.0"; ABSENT for what one does not have."""
    left, right = dict(_flat(normalised(ours))), dict(_flat(normalised(theirs)))
    paths = sorted({*left, *right})
    pairs = {path: (left.get(path, ABSENT), right.get(path, ABSENT)) for path in paths}
    return {path: pair for path, pair in pairs.items() if pair[0] != pair[1]}


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _flat(each, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _flat(each, f"{path}.{index}".lstrip("."))
    else:
        yield path, value


def keys(value: Any) -> set[str]:
    """All paths of keys, those of a list's entries as one."""
    return {re.sub(r"\.\d+(?=\.|$)", ".*", path) for path, _ in _flat(value)}
