"""The launcher killed while it removes, prunes, imports and tags images: each is whole afterwards, or gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.support import launcher as lab
from tests.support.launcher_crashes import Forks, die_at_points
from tests.support.launcher_left import left

_KEPT = {"busybox:latest"}


@pytest.fixture
def tidy(forks: Forks) -> Iterator[Forks]:
    """What a test that failed has left does not have the next one fail."""
    yield forks
    if forks.is_serving:
        _remove_all(forks)
        forks.kill()


class Case(NamedTuple):
    verb: str
    arguments: tuple[Any, ...]
    goes: frozenset[str]
    """What is no longer there when it is done: names, and NAMELESS."""


NAMELESS = "nameless"
_EVERYTHING = frozenset({"named", "other", "child", NAMELESS})
CASES = {
    "rmi": Case("remove image", ("named:1",), frozenset({"named"})),
    "rmi of a child": Case("remove image", ("child:1",), frozenset({"child"})),
    "image prune": Case("prune images", (False,), frozenset({NAMELESS})),
    "image prune -a": Case("prune images", (True,), _EVERYTHING),
    "system prune": Case("prune everything", (), _EVERYTHING),
    "tag": Case("tag image", ("named:1", "more:1"), frozenset()),
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_a_launcher_killed_within(tidy: Forks, name: str) -> None:
    points = die_at_points(lambda at: _play(tidy, CASES[name], at))

    assert len(points) > 1


def _play(forks: Forks, case: Case, at: int) -> dict[str, Any]:
    """Die there, look, and do it again: every image that is there runs, and nothing is left."""
    forks.serve()
    _make_images(forks)
    forks.kill()
    played = forks.ask(verb=case.verb, arguments=case.arguments, at=at)
    where = f"{case.verb} died at {at}: {played['points'][-2:]}"
    forks.serve()
    _check(forks, where)
    assert left(forks.launcher) == [], f"{where}\n{forks.log}"
    forks.kill()
    again = forks.ask(verb=case.verb, arguments=case.arguments, at=-1)
    assert again["error"] == "" or "No such image" in again["error"], where
    forks.serve()
    _check(forks, where)
    assert not _there(forks) & case.goes, where
    _remove_all(forks)
    assert left(forks.launcher) == [], f"{where}\n{forks.log}"
    forks.kill()
    return played


def _make_images(forks: Forks) -> None:
    """`named` and `other`, of a layer more than busybox each; `child`, of a nameless parent; and one without a name."""
    docker = forks.launcher.docker
    for name, on in (
        ("named:1", lab.IMAGE),
        ("other:1", lab.IMAGE),
        ("parent:1", lab.IMAGE),
        ("child:1", "parent:1"),
    ):
        docker("create", "--name", "maker", on, "true")
        docker("cp", "/etc/hostname", f"maker:/{name.partition(':')[0]}")
        docker("commit", "maker", name)
        docker("rm", "maker")
    docker("rmi", "parent:1")
    docker("create", "--name", "maker", lab.IMAGE, "true")
    docker("commit", "maker")
    docker("rm", "maker")


def _check(forks: Forks, where: str) -> None:
    """Every image that is listed can be run with all its files."""
    assert "busybox:latest" in _names(forks), where
    for image in forks.done("GET", "/images/json?all=1"):
        files = forks.launcher.docker("run", "--rm", "--network", "none", image["Id"], "ls", "/")
        for name in image["RepoTags"] or ():
            file = name.partition(":")[0]
            assert file in ("busybox", "more") or file in files.split(), where


def _names(forks: Forks) -> set[str]:
    return {name for image in forks.done("GET", "/images/json?all=1") for name in image["RepoTags"] or ()}


def _there(forks: Forks) -> set[str]:
    dangling = forks.done("GET", "/images/json?filters={%22dangling%22:[%22true%22]}")
    return {name.partition(":")[0] for name in _names(forks)} | ({NAMELESS} if dangling else set())


def _remove_all(forks: Forks) -> None:
    forks.clear()
    for name in _names(forks) - _KEPT:
        forks.done("DELETE", f"/images/{name}?force=1")
    forks.done("POST", "/images/prune")
    assert _names(forks) == _KEPT
