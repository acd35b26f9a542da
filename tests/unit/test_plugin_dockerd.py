"""A dockerd of each version plays its scenes against the plugin over the fake kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cnm.collector import Collector
from tests.support.docker_scenes import PORT, SCENES, Play, is_held
from tests.support.fake_dockerd import VERSIONS
from tests.unit.plugin_stage import PluginStage, dockerd


class StagePlay(Play):
    """The plugin over the stage."""

    def __init__(self, version: str, place: Path) -> None:
        self.stage = PluginStage(place)
        self.serving = ExitStack()
        self.serving.enter_context(self.stage.serving())
        self.dockerd = dockerd(self.stage, version, overlaps=lambda pool: pool in self.overlapping)

    def picture(self) -> dict[str, object]:
        picture = self.stage.picture()
        return {name: values for name, values in picture.items() if name not in ("events", "namespaces")}

    def endpoints(self) -> int:
        return len(self.stage.controller.endpoints())

    def findings(self) -> list[object]:
        return [*self.stage.controller.doctor()]

    def stop_cnmd(self) -> None:
        self.serving.close()

    def restart_cnmd(self) -> None:
        self.stop_cnmd()
        self.stage.restart()
        self.serving.enter_context(self.stage.serving())

    def lose_namespace(self, key: str) -> None:
        self.stage.kernel.remove_namespace(key)
        Path(key).unlink()

    def collect(self) -> None:
        collector = Collector(self.stage.controller, 60)
        for _ in range(2):
            collector.collect()
        assert self.endpoints() == 0


@pytest.fixture(params=sorted(VERSIONS))
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StagePlay]:
    play = StagePlay(request.param, tmp_path)
    yield play
    play.dockerd.daemon_kill()
    play.stop_cnmd()
    play.stage.end()


@pytest.mark.parametrize("scene", SCENES, ids=[scene.__name__ for scene in SCENES])
def test_nothing_is_left_of_what_dockerd_did(play: StagePlay, scene: Callable[[Play], None]) -> None:
    before = play.picture()

    scene(play)

    assert play.picture() == before
    assert not is_held(PORT)
    assert play.findings() == []
