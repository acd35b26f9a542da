"""The control API over a backend in memory, called without a socket."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from cnm.api.wsgi import create_app
from tests.unit.memory_backend import MemoryBackend
from tests.unit.memory_cluster import MemoryCluster


class Answer(NamedTuple):
    status: int
    data: Any
    """The JSON, None for an empty body."""

    @property
    def message(self) -> str:
        """The text of an error, which is all that its body holds."""
        assert list(self.data) == ["message"]
        return str(self.data["message"])


class Api:
    """`get`, `post` and `delete` of paths; bodies are values that become JSON."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.cluster = MemoryCluster()
        self.app = create_app(self.backend, self.cluster)
        self.http = self.app.test_client()

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.call("POST", path, body)

    def delete(self, path: str, body: Any = None) -> Answer:
        return self.call("DELETE", path, body)

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        return self.send(method, path, content, "application/json" if content else None)

    def send(self, method: str, path: str, content: bytes, content_type: str | None) -> Answer:
        response = self.http.open(path, method=method, data=content, content_type=content_type)
        return Answer(response.status_code, json.loads(response.data) if response.data.strip() else None)

    def network(self, name: str, **settings: Any) -> str:
        """Create a network; its id."""
        answer = self.post("/networks/create", {"Name": name, **settings})
        assert answer.status == 201, answer
        return str(answer.data["Id"])

    def sandbox(self, name: str) -> str:
        """Create a sandbox; its id."""
        answer = self.post("/cnm/v1/sandboxes", {"Name": name})
        assert answer.status == 201, answer
        return str(answer.data["Id"])
