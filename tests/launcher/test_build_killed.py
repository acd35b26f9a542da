"""The launcher killed at any point of a build: nothing is half there, and the same build works afterwards."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cnm.launcher.storage import Storage
from tests.support import building
from tests.support.building import Project, rest, sending, workers
from tests.support.launcher import Launcher
from tests.support.launcher_crashes import Forks, die_at_points
from tests.support.small_containers import eventually
from tests.support.thorough import THOROUGH

_DOCKERFILE = "FROM busybox\nRUN echo made > /made\nENV A=1\nCMD cat /made\n"
_NAME = "docker.io/library/web:latest"


@pytest.mark.timeout(900)
def test_a_launcher_killed_anywhere_in_a_build(forks: Forks, project: Project) -> None:
    project.write(_DOCKERFILE)

    points = die_at_points(lambda at: _play(forks, project, at))

    assert {"after starting podman", "before hearing 'STEP 2/4: RU'", "before removing a folder"} <= set(
        points
    )


def _play(forks: Forks, project: Project, at: int) -> dict[str, Any]:
    """Die there, look, and build the same: it works, and nothing is left when its image goes."""
    played = forks.ask(verb="build", arguments=(_DOCKERFILE, _NAME), options={}, at=at)
    where = f"died at {at}: {played['points'][-2:]}"
    forks.serve()
    try:
        with building.built(forks.launcher):
            assert rest(forks.launcher) == [], f"{where}\n{forks.log}"
            project.said(forks.launcher, "-t", "web", ".")
            assert forks.launcher.docker("run", "--rm", "web") == "made", where
    finally:
        forks.kill()
    return played


def test_a_launcher_killed_while_a_client_sends(builder: Launcher, project: Project) -> None:
    with sending(builder):
        builder.kill()
    builder.start()

    assert rest(builder) == []
    project.write("FROM busybox\nENV A=1\n").said(builder, ".")


# podman stands still when the launcher is killed: it has no time to end by itself

_WRITES = ("RUN head -c 30000000 /dev/zero >/large", "COPY large /")
_LISTS = ("overlay-layers/layers.json", "overlay-containers/containers.json", "overlay-images/images.json")
_CHANGES = range(1, 9) if THOROUGH else (1, 5)


@pytest.mark.parametrize("step", _WRITES)
@pytest.mark.parametrize("change", _CHANGES)
def test_a_launcher_killed_while_podman_changes_the_store(
    builder: Launcher, project: Project, step: str, change: int
) -> None:
    """`change`: the one of the store's lists at which it is."""
    with (project.place / "large").open("wb") as file:
        file.truncate(30_000_000)
    client = project.write(f"FROM busybox\n{step}\nENV A=1\n").begin(builder, "-t", "web", ".")
    try:
        _await_change(builder, change, client)
        _stop(builder)
        _check_lock(builder)
        builder.kill()
    finally:
        client.communicate(timeout=60)
    builder.start()

    assert rest(builder) == []
    project.said(builder, "-t", "web", ".")
    assert builder.docker("run", "--rm", "web", "stat", "-c", "%s", "/large") == "30000000"


def _await_change(launcher: Launcher, count: int, client: subprocess.Popen[bytes]) -> None:
    """Or the end of the build."""
    storage = launcher.place / "root/launcher/storage"
    seen = [_versions(storage)]

    def is_there() -> bool:
        if (now := _versions(storage)) != seen[-1]:
            seen.append(now)
        return len(seen) > count or client.poll() is not None

    eventually(is_there, seconds=0.0005)


def _check_lock(launcher: Launcher) -> None:
    """Whose layer has no container still has locked the list: by that it is known not to be nobody's."""
    storage = Storage(str(launcher.place / "root/launcher/storage"))
    containers = {each.layer for each in storage.containers()}
    if {each.id for each in storage.all_layers() if not each.diff_digest} - containers:
        lock = os.path.join(storage.root, "overlay-layers/layers.lock")
        with open(lock, "ab") as file, pytest.raises(BlockingIOError):
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _versions(storage: Path) -> list[int]:
    return [os.stat(storage / name).st_ino if (storage / name).exists() else 0 for name in _LISTS]


def _stop(launcher: Launcher) -> None:
    """Whoever works for a build does not go on."""
    stopped: set[int] = set()
    while found := set(workers(launcher)) - stopped:
        for pid in found:
            os.kill(pid, signal.SIGSTOP)
        stopped |= found
