"""The launcher's Engine API by plain HTTP, for what the docker CLI cannot ask for."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote

from tests.support.cnmd import UnixConnection


class ApiError(Exception):
    """The daemon refused; `str()` is its message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Api:
    def __init__(self, socket: str) -> None:
        self._socket = socket

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON, None for an empty one. Raises ApiError."""
        connection = UnixConnection(self._socket)
        with contextlib.closing(connection):
            content = b"" if body is None else json.dumps(body).encode()
            connection.request(method, f"/v1.41{path}", content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        if response.status >= 400:
            raise ApiError(response.status, json.loads(answer)["message"])
        return json.loads(answer) if answer.strip() else None

    def create(self, name: str, body: Any) -> str:
        """The new container's id."""
        return str(self.ask("POST", f"/containers/create?name={quote(name)}", body)["Id"])

    def start(self, ident: str) -> None:
        self.ask("POST", f"/containers/{ident}/start")

    def run(self, name: str, body: Any) -> str:
        """Created and started; its id."""
        ident = self.create(name, body)
        self.start(ident)
        return ident

    def inspect(self, ident: str) -> Any:
        return self.ask("GET", f"/containers/{ident}/json")
