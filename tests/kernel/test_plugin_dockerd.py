"""A dockerd of each version plays its scenes against a real cnmd, and moves the links in real namespaces."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cnm.lease import LeasedAddress, LeasedPool
from cnm.store import Store
from tests.support.cnmd import Cnmd, running
from tests.support.docker_scenes import PORT, SCENES, Play, is_held
from tests.support.fake_dockerd import VERSIONS, FakeDockerd, NamespaceMover
from tests.support.fake_dockerd.mover import run_here
from tests.support.thorough import THOROUGH

PATIENCE = 10.0


class CnmdPlay(Play):
    """A cnmd of its own, in the namespace of the test."""

    def __init__(self, version: str, cnmd: Cnmd) -> None:
        self.cnmd = cnmd
        self.dockerd = FakeDockerd(
            version,
            cnmd.place / "plugins" / "cnm.sock",
            netns=cnmd.place / "docker-netns",
            mover=NamespaceMover(VERSIONS[version]),
            link_exists=lambda name: name in links(),
            overlaps=lambda pool: pool in self.overlapping,
        )

    def clear(self) -> None:
        for name in list(self.dockerd.containers):
            with contextlib.suppress(Exception):
                self.dockerd.rm(name)
        for name in list(self.dockerd.networks):
            with contextlib.suppress(Exception):
                self.dockerd.network_rm(name)
        self.dockerd.containers, self.dockerd.networks = {}, {}

    def picture(self) -> dict[str, object]:
        """Without the leases, which are in the store: that is cnmd's alone while it runs."""
        addresses = [
            (item["ifname"], a["local"]) for item in ip("address") for a in item.get("addr_info", ())
        ]
        return {
            "links": sorted(links()),
            "addresses": sorted(addresses),
            "routes": sorted(json.dumps(route) for route in (*ip("route"), *ip("-6", "route"))),
            "elements": sorted(elements()),
            "networks": sorted(n["Name"] for n in self.cnmd.ask("GET", "/networks")),
            "sandboxes": self.cnmd.ask("GET", "/cnm/v1/sandboxes"),
            "endpoints": self.cnmd.ask("GET", "/cnm/v1/endpoints"),
            "findings": self.findings(),
        }

    def endpoints(self) -> int:
        return len(self.cnmd.ask("GET", "/cnm/v1/endpoints"))

    def findings(self) -> list[object]:
        return [*self.cnmd.findings()]

    def stop_cnmd(self) -> None:
        self.cnmd.kill()

    def restart_cnmd(self) -> None:
        self.cnmd.kill()
        self.cnmd.start()

    def lose_namespace(self, key: str) -> None:
        run_here(["umount", key])
        Path(key).unlink()

    def collect(self) -> None:
        eventually(lambda: self.endpoints() == 0)


def ip(*words: str) -> Any:
    return json.loads(run_here(["ip", "-j", *words]) or "[]")


def links() -> set[str]:
    return {link["ifname"] for link in ip("link")}


def elements() -> Iterator[str]:
    """Each of the two tables' sets and maps as text."""
    listed = json.loads(subprocess.run(NFT, capture_output=True, text=True, check=True).stdout)["nftables"]
    for item in listed:
        for kind in ("set", "map"):
            if kind in item and item[kind]["table"] == "cnm":
                yield f"{item[kind]['family']} {item[kind]['name']} {json.dumps(item[kind].get('elem'))}"


NFT = ["nft", "-j", "list", "ruleset"]


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


_VERSIONS = sorted(VERSIONS) if THOROUGH else [max(VERSIONS)]


@pytest.fixture(scope="module", params=_VERSIONS)
def play(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CnmdPlay]:
    place = tmp_path_factory.mktemp("cnmd")
    with running(place, config="forget-seconds = 0.3\n") as cnmd:
        play = CnmdPlay(request.param, cnmd)
        yield play
        play.dockerd.daemon_kill()
        assert "Traceback" not in cnmd.log
        assert "internal error" not in cnmd.log
    assert leases(place) == []


def leases(place: Path) -> list[str]:
    """What the store of an ended cnmd has."""
    with contextlib.closing(Store(str(place / "root" / "cnm.db"))) as store:
        return [lease.id for kind in (LeasedPool, LeasedAddress) for lease in store.load(kind)]


@pytest.mark.parametrize("scene", SCENES, ids=[scene.__name__ for scene in SCENES])
def test_nothing_is_left_of_what_dockerd_did(play: CnmdPlay, scene: Callable[[Play], None]) -> None:
    play.overlapping = frozenset()
    before = play.picture()
    try:
        scene(play)
    except BaseException:
        play.clear()  # the next scene is another one's
        raise

    with contextlib.suppress(AssertionError):  # the reaper deletes links in groups
        eventually(lambda: play.picture() == before)
    assert play.picture() == before
    assert not is_held(PORT)
