"""Many clients that do what they like with the same few containers: all are answered, and nothing is left."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.cnmd import UnixConnection
from tests.support.launcher import Launcher
from tests.support.launcher_left import left
from tests.support.small_containers import eventually
from tests.support.thorough import THOROUGH

_SECONDS = 60.0 if THOROUGH else 15.0
_CLIENTS = 8
_NAMES = ("one", "two", "three", "four")
_COMMANDS = (["sleep", "1000"], ["true"], ["sh", "-c", "sleep 0.2; exit 3"])
_POLICIES: tuple[dict[str, Any], ...] = ({}, {"RestartPolicy": {"Name": "on-failure"}}, {"AutoRemove": True})


class Client:
    """One that asks at random, and keeps what must not be answered."""

    def __init__(self, launcher: Launcher, seed: int) -> None:
        self._launcher = launcher
        self._random = random.Random(seed)
        self.answers: Counter[str] = Counter()
        self.wrong: list[str] = []

    def run(self, until: float) -> None:
        try:
            while time.monotonic() < until:
                self._ask(*self._choice())
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.wrong.append(repr(error))

    def _choice(self) -> tuple[str, str, Any]:
        name, other = self._random.sample(_NAMES, 2)
        chosen = self._random.choices(
            (
                "create",
                "start",
                "stop",
                "kill",
                "rm",
                "rename",
                "pause",
                "unpause",
                "restart",
                "connect",
                "inspect",
            ),
            (6, 6, 2, 2, 3, 1, 1, 1, 1, 1, 2),
        )[0]
        match chosen:
            case "create":
                command, policy = self._random.choice(_COMMANDS), self._random.choice(_POLICIES)
                body = {"Image": "busybox", "Cmd": command, "HostConfig": policy}
                return "POST", f"/containers/create?name={name}", body
            case "rm":
                return "DELETE", f"/containers/{name}?force=1", None
            case "rename":
                return "POST", f"/containers/{name}/rename?name={other}", None
            case "stop" | "restart":
                return "POST", f"/containers/{name}/{chosen}?t=0", None
            case "connect":
                return "POST", "/networks/other/connect", {"Container": name}
            case "inspect":
                return "GET", f"/containers/{name}/json", None
        return "POST", f"/containers/{name}/{chosen}", None

    def _ask(self, method: str, path: str, body: Any) -> None:
        connection = UnixConnection(self._launcher.socket)
        try:
            given = None if body is None else json.dumps(body)
            connection.request(method, path, given, {"Content-Type": "application/json"} if given else {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        self.answers[f"{method} {answer.status}"] += 1
        if answer.status >= 500:
            self.wrong.append(f"{method} {path}: {answer.status} {text.strip()}")


def test_at_random_and_at_once(docker: Launcher) -> None:
    docker.cnmd.create_network("other")
    docker.docker("run", "--rm", "busybox", "true")
    before = descriptors(docker)
    clients = [Client(docker, seed) for seed in range(_CLIENTS)]
    until = time.monotonic() + _SECONDS
    threads = [threading.Thread(target=client.run, args=(until,)) for client in clients]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS + 60)

    assert not any(thread.is_alive() for thread in threads), "a client waits for ever"
    assert "\n".join(text for client in clients for text in client.wrong) == ""
    assert sum((client.answers for client in clients), Counter())["POST 204"] > 0
    docker.clear()
    docker.docker("network", "rm", "other")
    eventually(lambda: left(docker) == [])
    eventually(lambda: descriptors(docker) - before == Counter())


def descriptors(docker: Launcher) -> Counter[str]:
    """The launcher's open files by kind, but its connections to cnmd, some of which it keeps."""
    assert docker.process is not None
    found: Counter[str] = Counter()
    for entry in Path(f"/proc/{docker.process.pid}/fd").iterdir():
        try:
            found[os.readlink(entry).split(":")[0].removeprefix("anon_inode:")] += 1
        except OSError:  # closed meanwhile
            continue
    del found["socket"]
    return found
