"""An OCI runtime for dockerd that writes down what it is told to run, and refuses: Docker's specifications as data."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.dockerd import Dockerd

NAME = "recorder"


class Recorded(NamedTuple):
    """One container: what dockerd says of it, and the configuration that its runtime got."""

    inspect: dict[str, Any]
    config: dict[str, Any]


class RecordingRuntime:
    """Kept below `place`; dockerd gets it by `flags`."""

    def __init__(self, place: Path) -> None:
        self._records = place / "records"
        self._records.mkdir(parents=True)
        self._program = place / NAME
        self._program.write_text(
            "#!/bin/sh\n"
            'for argument; do [ "$before" = --bundle ] && bundle=$argument; before=$argument; done\n'
            f'[ -n "$bundle" ] && cp "$bundle/config.json" "{self._records}/${{bundle##*/}}"\n'
            "exit 1\n"
        )
        self._program.chmod(0o755)

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--add-runtime", f"{NAME}={self._program}")

    @contextmanager
    def recorded(self, dockerd: Dockerd, *flags_image_command: str) -> Iterator[Recorded]:
        """What `docker run` with these arguments gives its runtime; the container is there, not running, meanwhile."""
        container = dockerd.docker("create", "--runtime", NAME, *flags_image_command)
        status, body = request(dockerd, "POST", f"/containers/{container}/start")
        assert (self._records / container).exists(), f"not started ({status}): {body}"
        _, inspect = request(dockerd, "GET", f"/containers/{container}/json")
        yield Recorded(inspect, json.loads((self._records / container).read_text()))
        request(dockerd, "DELETE", f"/containers/{container}?v=1&force=1")


def request(dockerd: Dockerd, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, decoded body) of dockerd's API."""
    connection = http.client.HTTPConnection("docker")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(dockerd.socket))
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    with connection.getresponse() as answer:
        text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text else None
