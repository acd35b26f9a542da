"""The launcher killed while it makes, fills, mounts and removes volumes: nothing is half there, none is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import launcher as lab
from tests.support.launcher_crashes import Forks, die_at_points
from tests.support.launcher_left import left
from tests.support.scripted_volumes import ScriptedVolumes, scripted_volumes

_IMAGE = "filled"
_FILES = ["one", "three", "two"]
_BODY = {
    "Image": _IMAGE,
    "Cmd": ["sleep", "1000"],
    "Volumes": {"/anonymous": {}},
    "HostConfig": {
        "NetworkMode": "none",
        "Binds": ["data:/content", "fast:/fast:nocopy"],
        "Mounts": [
            {
                "Type": "volume",
                "Source": "far",
                "Target": "/far",
                "VolumeOptions": {"DriverConfig": {"Name": "scripted"}},
            }
        ],
    },
}
_FAST = {"Name": "fast", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}


@pytest.fixture(scope="module")
def with_image(forks: Forks) -> Forks:
    forks.serve()
    _make_image(forks.launcher)
    forks.kill()
    return forks


def _make_image(launcher: lab.Launcher) -> None:
    script = (
        "mkdir /content /made /far; cd /content; touch one two three far; mv far /far; echo made >/made/file"
    )
    launcher.docker("run", "--network", "none", "--name", "maker", lab.IMAGE, "sh", "-c", script)
    launcher.docker("commit", "--change", "VOLUME /made", "maker", _IMAGE)
    launcher.docker("rm", "maker")


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedVolumes]:
    """It counts mounts itself, and refuses to unmount what is not mounted."""
    kept = tmp_path_factory.mktemp("kept")
    with scripted_volumes(Path("/run/docker/plugins/scripted.sock"), kept) as plugin:
        yield plugin


@pytest.fixture
def tidy(with_image: Forks, plugin: ScriptedVolumes) -> Iterator[Forks]:
    """What a test that failed has left does not have the next one fail."""
    forks = with_image
    plugin.mounts.clear()
    yield forks
    if forks.is_serving:
        forks.clear()
        forks.done("POST", "/volumes/prune?filters={%22all%22:[%22true%22]}")
        forks.kill()


class Case(NamedTuple):
    verb: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    before: tuple[str, ...]
    """What is done before: `create` and `start`."""


CASES = {
    "create": Case("create", ("one", _BODY), {}, ()),
    "start": Case("run", ("one",), {}, ("create",)),
    "stop": Case("stop", ("one", 0), {}, ("create", "start")),
    "rm -fv": Case("remove", ("one",), {"force": True, "volumes": True}, ("create", "start")),
    "volume rm": Case("remove volume", ("data",), {}, ("create", "remove")),
    "volume rm of a plugin's": Case("remove volume", ("far",), {}, ("create", "remove")),
    "volume prune": Case("prune volumes", (), {}, ("create", "remove")),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_a_launcher_killed_within(tidy: Forks, plugin: ScriptedVolumes, name: str) -> None:
    points = die_at_points(lambda at: _play(tidy, plugin, CASES[name], at))

    assert len(points) > 2


def _play(forks: Forks, plugin: ScriptedVolumes, case: Case, at: int) -> dict[str, Any]:
    """Die there, look, and use and remove everything: it works, and nothing is left."""
    forks.serve()
    forks.done("POST", "/volumes/create", _FAST)
    for step in case.before:
        _DONE[step](forks)
    forks.kill()
    played = forks.ask(verb=case.verb, arguments=case.arguments, options=case.options, at=at)
    where = f"{case.verb} died at {at}: {played['points'][-2:]}"
    forks.serve()
    _check(forks, plugin, where)
    if not forks.done("GET", "/containers/json?all=1"):
        _create(forks)
    forks.request("POST", "/containers/one/start")
    assert (_content(forks, "data"), os.listdir(plugin.volumes["far"])) == (_FILES, ["far"]), where
    assert (len(_mounted(forks)), len(plugin.mounts)) == (1, 1), where
    _remove(forks)
    assert _volumes(forks) == {"data", "fast", "far"}, where
    assert (_mounted(forks), plugin.mounts) == ([], []), where
    forks.done("DELETE", "/volumes/far")
    assert plugin.volumes == {}, where
    forks.done("POST", "/volumes/prune?filters={%22all%22:[%22true%22]}")
    assert os.listdir(_place(forks)) == [], where
    assert left(forks.launcher) == [], f"{where}\n{forks.log}"
    forks.kill()
    return played


def _check(forks: Forks, plugin: ScriptedVolumes, where: str) -> None:
    """A container has all its volumes, and no volume is there that nobody can know of."""
    found = forks.done("GET", "/containers/json?all=1")
    names = _volumes(forks)
    if found:
        assert {mount["Name"] for mount in found[0]["Mounts"]} <= names, where
        assert len(names) == 5, where
    else:
        assert names <= {"data", "fast", "far"}, where
    if "data" in names and found:
        assert _content(forks, "data") == _FILES, where
    is_running = bool(found) and found[0]["State"] == "running"
    assert len(_mounted(forks)) == int(is_running), where
    assert plugin.mounts == ([("far", found[0]["Id"])] if is_running else []), where


def _create(forks: Forks) -> None:
    forks.done("POST", "/volumes/create", _FAST)
    forks.done("POST", "/containers/create?name=one", _BODY)


def _start(forks: Forks) -> None:
    forks.done("POST", "/containers/one/start")


def _remove(forks: Forks) -> None:
    forks.done("DELETE", "/containers/one?force=1&v=1")


_DONE = {"create": _create, "start": _start, "remove": _remove}


def _volumes(forks: Forks) -> set[str]:
    return {each["Name"] for each in forks.done("GET", "/volumes")["Volumes"]}


def _content(forks: Forks, name: str) -> list[str]:
    return sorted(os.listdir(_place(forks) / name / "_data"))


def _place(forks: Forks) -> Path:
    return forks.launcher.place / "root/launcher/volumes"


def _mounted(forks: Forks) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point.startswith(f"{_place(forks)}/")]
