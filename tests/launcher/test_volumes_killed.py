"""The launcher killed while it makes, fills, mounts and removes volumes: nothing is half there, none is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import launcher as lab
from tests.support.launcher_crashes import Forks, chosen, forking
from tests.support.launcher_left import left
from tests.support.unpacked import lacking

_IMAGE = "filled"
_FILES = ["one", "three", "two"]
_BODY = {
    "Image": _IMAGE,
    "Cmd": ["sleep", "1000"],
    "Volumes": {"/anonymous": {}},
    "HostConfig": {"NetworkMode": "none", "Binds": ["data:/content", "fast:/fast:nocopy"]},
}
_FAST = {"Name": "fast", "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}}


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    if reason := lacking(*lab.PROGRAMS):
        pytest.skip(reason)
    with forking() as forks:
        forks.serve()
        _make_image(forks.launcher)
        forks.kill()
        yield forks


def _make_image(launcher: lab.Launcher) -> None:
    script = "mkdir /content /made; cd /content; touch one two three; echo made >/made/file"
    launcher.docker("run", "--network", "none", "--name", "maker", lab.IMAGE, "sh", "-c", script)
    launcher.docker("commit", "--change", "VOLUME /made", "maker", _IMAGE)
    launcher.docker("rm", "maker")


@pytest.fixture
def tidy(forks: Forks) -> Iterator[Forks]:
    """What a test that failed has left does not have the next one fail."""
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
    "volume prune": Case("prune volumes", (), {}, ("create", "remove")),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_a_launcher_killed_within(tidy: Forks, name: str) -> None:
    case = CASES[name]
    played = _play(tidy, case, -1)
    assert (played["died"], played["error"]) == (False, "")
    assert len(played["points"]) > 2

    for at in chosen(len(played["points"])):
        played = _play(tidy, case, at)
        assert played["died"] or played["error"] == "", f"{name}: {played['error']}"


def _play(forks: Forks, case: Case, at: int) -> dict[str, Any]:
    """Die there, look, and use and remove everything: it works, and nothing is left."""
    forks.serve()
    forks.done("POST", "/volumes/create", _FAST)
    for step in case.before:
        _DONE[step](forks)
    forks.kill()
    played = forks.ask(verb=case.verb, arguments=case.arguments, options=case.options, at=at)
    where = f"{case.verb} died at {at}: {played['points'][-2:]}"
    forks.serve()
    _check(forks, where)
    if not forks.done("GET", "/containers/json?all=1"):
        _create(forks)
    forks.request("POST", "/containers/one/start")
    assert _content(forks, "data") == _FILES, where
    assert len(_mounted(forks)) == 1, where
    _remove(forks)
    assert _volumes(forks) == {"data", "fast"}, where
    assert _mounted(forks) == [], where
    forks.done("POST", "/volumes/prune?filters={%22all%22:[%22true%22]}")
    assert os.listdir(_place(forks)) == [], where
    assert left(forks.launcher) == [], f"{where}\n{forks.log}"
    forks.kill()
    return played


def _check(forks: Forks, where: str) -> None:
    """A container has all its volumes, and no volume is there that nobody can know of."""
    found = forks.done("GET", "/containers/json?all=1")
    names = _volumes(forks)
    if found:
        assert {mount["Name"] for mount in found[0]["Mounts"]} <= names, where
        assert len(names) == 4, where
    else:
        assert names <= {"data", "fast"}, where
    if "data" in names and found:
        assert _content(forks, "data") == _FILES, where
    is_running = bool(found) and found[0]["State"] == "running"
    assert len(_mounted(forks)) == int(is_running), where


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
