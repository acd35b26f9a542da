"""What a background worker learns from dockerd: names, whether direct links are safe, which networks are forgotten."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from cnm.config import Settings
from cnm.errors import InvalidParameter
from cnm.plugin.dockerd_api import DockerdApi
from cnm.plugin.faces import Face
from cnm.plugin.learner import Learner
from cnm.plugin.service import asks_for_direct
from tests.support.dockerd_api import DockerdApiDouble, serve
from tests.unit.plugin_stage import (
    ENDPOINT,
    KEY,
    NAME,
    NETWORK,
    OTHER_NETWORK,
    PluginStage,
    make_namespace,
    network,
)

PATIENT = 31.0
"""Seconds for which a network must have been unknown."""
ANOTHER_PROCESS = 1


class World:
    """A stage whose plugin learns from an API; `clock` is in seconds."""

    def __init__(self, place: Path) -> None:
        self.stage = PluginStage(place)
        self.stage_clock = 0.0
        self.stage.leases._clock = lambda: self.stage_clock
        self.api = DockerdApiDouble()
        self.clock = 0.0
        self.socket = place / "docker.sock"
        self.serving = ExitStack()
        self.start_learner()
        self.serve()

    def start_learner(self) -> None:
        api = DockerdApi(f"unix://{self.socket}")
        dockerd = self.stage.controller.dockerd
        self.learner = Learner(api, dockerd, {NAME: self.stage.leases}, lambda: self.clock)
        self.stage.face = Face(NAME, dockerd, self.stage.leases, lambda _n: False, self.learner)

    def serve(self) -> None:
        self.serving.enter_context(serve(self.api, self.socket))

    def ask(self, path: str, body: object, process: int) -> None:
        """A call of the plugin, by this process."""
        answer = self.stage.ask(path, body, X_REMOTE_PID=str(process))
        assert answer.status == 200, answer.document

    def activate(self, process: int = 0) -> None:
        self.ask("/Plugin.Activate", None, process or os.getpid())

    def look(self, after: float = 0.0) -> float:
        self.clock += after
        return self.learner.look()

    @property
    def direct_is_safe(self) -> bool:
        """For this process, whose the API is."""
        return self.learner.direct_is_safe(os.getpid())

    @property
    def ids(self) -> list[str]:
        return [network.id for network in self.stage.controller.dockerd.networks()]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    world.serving.close()
    world.stage.end()


def make_network(world: World, ident: str = NETWORK, process: int = 0, subnet: str = "10.66.0.0/24") -> None:
    world.ask("/NetworkDriver.CreateNetwork", network(ident, subnet=subnet), process or os.getpid())


# Names


def test_networks_and_containers_get_the_names_that_dockerd_has_for_them(world: World) -> None:
    make_network(world)
    world.stage.create_endpoint()
    make_namespace(world.stage, KEY)
    world.stage.join()
    world.api.networks[NETWORK] = "web"
    world.api.containers[NETWORK] = {ENDPOINT: "front"}

    world.look()

    assert world.stage.controller.network(NETWORK).name == "web"
    assert [box.name for box in world.stage.controller.sandboxes()] == ["front"]


def test_a_network_is_asked_about_only_while_a_name_is_missing(world: World) -> None:
    make_network(world)
    world.api.networks[NETWORK] = "web"

    world.look()

    assert f"/networks/{NETWORK}" not in world.api.asked


def test_a_network_that_goes_while_it_is_asked_about_keeps_nothing_from_being_learnt(world: World) -> None:
    make_network(world)
    make_network(world, OTHER_NETWORK, subnet="10.67.0.0/24")
    world.stage.create_endpoint()
    world.stage.join()
    listed = {NETWORK: "web", OTHER_NETWORK: "db"}
    world.api.networks = listed

    class Going(DockerdApiDouble):
        def answer(self, path: str) -> tuple[int, object]:
            return (404, {}) if path == f"/networks/{NETWORK}" else super().answer(path)

    world.serving.close()
    world.api = Going(networks=listed)
    world.serve()
    world.look()

    assert world.stage.controller.network(OTHER_NETWORK).name == "db"
    assert world.direct_is_safe


# Direct links


@pytest.mark.parametrize(
    ("version", "live_restore", "safe"),
    [
        ("20.10.24+dfsg1", False, True),
        ("28.5.2", True, False),
        ("29.0.0", True, True),
        ("29.7.2", False, True),
        ("", True, False),
        ("dev", True, False),
    ],
)
def test_direct_links_are_safe_by_version_and_live_restore(
    world: World, version: str, live_restore: bool, safe: bool
) -> None:
    world.api.version, world.api.live_restore = version, live_restore
    world.activate()

    world.look()

    assert world.direct_is_safe is safe


def test_nothing_is_safe_before_dockerd_was_asked_or_while_it_is_away(world: World) -> None:
    world.activate()
    assert not world.direct_is_safe
    world.look()
    assert world.direct_is_safe
    world.activate()
    assert not world.direct_is_safe
    world.look()
    assert world.direct_is_safe

    world.serving.close()
    world.look()

    assert not world.direct_is_safe


def test_what_a_network_says_counts_before_what_is_set_for_all(world: World) -> None:
    make_network(world)
    (made,) = world.stage.controller.dockerd.networks()
    asked = {
        (direct, always): asks_for_direct(
            msgspec.structs.replace(made, direct=direct), Settings(docker_direct=always)
        )
        for direct in (None, True, False)
        for always in (True, False)
    }

    assert made.direct is None
    assert [key for key, value in asked.items() if value] == [(None, True), (True, True), (True, False)]


@pytest.mark.parametrize("process", [0, ANOTHER_PROCESS])
def test_nothing_is_safe_for_another_dockerd_or_one_that_nobody_knows(world: World, process: int) -> None:
    world.activate()
    world.ask("/Plugin.Activate", None, process)
    world.look()

    assert world.direct_is_safe
    assert not world.learner.direct_is_safe(process)


# Forgotten networks


def test_a_network_that_dockerd_knew_is_collected_when_it_is_forgotten(world: World) -> None:
    make_network(world, process=ANOTHER_PROCESS)
    world.api.networks[NETWORK] = "web"
    world.look()
    del world.api.networks[NETWORK]

    world.look()

    assert world.ids == []


def test_a_network_that_dockerd_died_over_is_collected(world: World) -> None:
    world.activate()
    make_network(world)

    world.look()
    world.look(after=PATIENT)

    assert world.ids == []


def test_a_network_that_another_dockerd_asked_for_stays(world: World) -> None:
    make_network(world, process=ANOTHER_PROCESS)
    world.activate()

    world.look()
    world.look(after=PATIENT)
    world.look(after=PATIENT)

    assert world.ids == [NETWORK]


def test_a_network_that_was_made_over_tcp_stays(world: World) -> None:
    world.activate()
    world.ask("/NetworkDriver.CreateNetwork", network(), 0)

    world.look()
    world.look(after=PATIENT)

    assert world.ids == [NETWORK]


def test_a_network_whose_maker_is_not_known_any_more_stays(world: World) -> None:
    make_network(world)
    world.stage.restart()
    world.start_learner()
    world.activate()

    world.look()
    world.look(after=PATIENT)

    assert world.ids == [NETWORK]


def test_a_network_that_turns_up_in_time_stays(world: World) -> None:
    make_network(world)
    world.look()
    world.api.networks[NETWORK] = "web"
    world.look(after=PATIENT)

    assert world.ids == [NETWORK]


# Forgotten pools


def make_pool(world: World, process: int) -> None:
    body = {"AddressSpace": "LocalDefault", "Pool": "10.66.0.0/24"}
    world.ask("/IpamDriver.RequestPool", body, process or os.getpid())


def test_a_pool_that_dockerd_died_over_is_released_when_it_had_the_time_to_use_it(world: World) -> None:
    world.activate()
    make_pool(world, os.getpid())

    world.look()
    assert world.stage.leased() == ["cnm LocalDefault/10.66.0.0/24"]
    world.stage_clock += PATIENT
    world.look()

    assert world.stage.leased() == []


def test_a_pool_that_another_dockerd_asked_for_stays(world: World) -> None:
    make_pool(world, ANOTHER_PROCESS)
    world.activate()
    world.stage_clock += PATIENT

    world.look()
    world.look(after=PATIENT)

    assert world.stage.leased() == ["cnm LocalDefault/10.66.0.0/24"]


def test_a_pool_that_a_network_of_dockerds_is_from_stays(world: World) -> None:
    world.activate()
    make_pool(world, os.getpid())
    world.api.networks[NETWORK] = "theirs"
    world.api.pools[NETWORK] = ["10.66.0.0/24"]
    world.stage_clock += PATIENT

    world.look()

    assert world.stage.leased() == ["cnm LocalDefault/10.66.0.0/24"]


def test_the_pool_of_a_network_that_was_known_goes_with_it(world: World) -> None:
    make_pool(world, ANOTHER_PROCESS)
    make_network(world, process=ANOTHER_PROCESS)
    world.api.networks[NETWORK] = "web"
    world.look()
    del world.api.networks[NETWORK]
    world.stage_clock += PATIENT

    world.look()

    assert world.stage.leased() == []


# Away


@pytest.mark.parametrize("gone", [True, False])
def test_nothing_is_forgotten_while_dockerd_does_not_answer(world: World, gone: bool) -> None:
    make_network(world)
    world.look()
    if gone:
        world.serving.close()
    world.api.status = 503
    world.look(after=PATIENT)
    assert world.ids == [NETWORK]

    world.api.status = 200
    if gone:
        world.serve()
    world.look(after=PATIENT)
    assert world.ids == [NETWORK]
    world.look(after=PATIENT)

    assert world.ids == []


def test_an_answer_that_nobody_expects_counts_as_none(world: World) -> None:
    make_network(world)
    world.api.networks = {NETWORK: ["web"]}  # type: ignore[dict-item]

    world.look()
    world.look(after=PATIENT)

    assert world.ids == [NETWORK]


def test_looks_come_sooner_while_a_network_is_unknown(world: World) -> None:
    quiet = world.look()
    make_network(world)

    assert world.look() < quiet


# Who is asked


def test_the_process_that_listens_is_known_by_its_socket(world: World, tmp_path: Path) -> None:
    link = tmp_path / "link.sock"
    link.symlink_to(world.socket)

    assert DockerdApi(f"unix://{link}").is_served_by(os.getpid())
    assert not DockerdApi(f"unix://{link}").is_served_by(ANOTHER_PROCESS)
    assert not DockerdApi(f"unix://{tmp_path}/nothing.sock").is_served_by(os.getpid())


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:2375", "unix://relative", "/run/docker.sock"])
def test_only_a_unix_socket_is_asked(host: str) -> None:
    with pytest.raises(InvalidParameter, match="docker-host"):
        DockerdApi(host)


def test_the_worker_learns_by_itself_and_ends_when_told(world: World) -> None:
    world.learner.start()
    make_network(world)
    world.api.networks[NETWORK] = "web"
    for _ in range(100):
        if world.stage.controller.network(NETWORK).name == "web":
            break
        world.learner._thread.join(0.05)

    world.learner.close()

    assert world.stage.controller.network(NETWORK).name == "web"
