"""A volume's move that is cut off anywhere: one host has all of it afterwards, and a second move ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, short_place
from tests.support.cnmd import PYTHON
from tests.support.launcher import IMAGE, Launcher
from tests.support.moved_volumes import (
    await_listening,
    beside_all,
    cleared,
    content,
    fill_oddly,
    move,
    moved,
    place,
    tree,
    volumes,
)
from tests.support.moving_points import SOURCE, TARGET, Points

pytestmark = [NEEDS_ETCD, pytest.mark.timeout(300)]

Done = subprocess.CompletedProcess[str]


class Stage(NamedTuple):
    """h1 and h2, each with its launcher; `data` is on h1."""

    hosts: tuple[ClusterHost, ClusterHost]
    launchers: tuple[Launcher, Launcher]
    points: tuple[Points, Points]
    lab: ClusterLab
    pool: ThreadPoolExecutor
    before: dict[str, Any]
    """What `data` holds."""

    def begin(self) -> Future[Done]:
        return self.pool.submit(move, self.launchers[0], "data", "h2")

    def stop_at(self, point: str) -> Future[Done]:
        """A move that stands still there."""
        points = self.points[point in TARGET]
        points.stop_at(point)
        moving = self.begin()
        points.await_reached(point)
        return moving

    def go_on(self, point: str) -> None:
        self.points[point in TARGET].go_on(point)

    def has(self) -> list[int]:
        """Hosts that list it."""
        return [number for number, each in enumerate(self.launchers) if "data" in volumes(each)]

    def check_ended(self) -> None:
        """One host has it, wholly; after another move it is h2, and nothing is left but that."""
        here, there = self.launchers
        for launcher in self.launchers:
            await_listening(launcher)
        eventually(lambda: len(self.has()) == 1, 60)
        assert tree(content(self.launchers[self.has()[0]])) == self.before
        eventually(self._usable, 60)
        eventually(self._all_ready)

        moved(here, "data", "h2")

        assert self.has() == [1]
        assert tree(content(there)) == self.before
        assert os.listdir(place(here)) == []
        others = {name for name in os.listdir(place(there)) if name.startswith((".arrived-", "own"))}
        assert set(os.listdir(place(there))) - others == {"data"}

    def _all_ready(self) -> bool:
        """As h1 sees the cluster."""
        return [node["State"] for node in self.hosts[0].status()["Nodes"]] == ["ready", "ready"]

    def _usable(self) -> bool:
        launcher = self.launchers[self.has()[0]]
        return launcher.run("run", "--rm", "-v", "data:/d:ro", IMAGE, "cat", "/d/plain").stdout == "plain\n"


@pytest.fixture(scope="module")
def points() -> Iterator[list[Points]]:
    folder = short_place()
    yield [Points(folder / "1"), Points(folder / "2")]
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def launchers(cluster: ClusterLab, points: list[Points]) -> Iterator[list[Launcher]]:
    with beside_all(cluster, points) as found:
        yield found


@pytest.fixture
def stage(cluster: ClusterLab, launchers: list[Launcher], points: list[Points]) -> Iterator[Stage]:
    here, there = launchers
    here.docker("volume", "create", "data")
    fill_oddly(content(here))
    with ThreadPoolExecutor() as pool:
        yield Stage(
            (cluster.h[1], cluster.h[2]),
            (here, there),
            (points[0], points[1]),
            cluster,
            pool,
            tree(content(here)),
        )
        for each in points:
            each.clear()
    for launcher in launchers:
        cleared(launcher)
        for path in place(launcher).glob(".arrived-*"):
            path.unlink()
        assert os.listdir(place(launcher)) == []


@pytest.mark.parametrize("point", SOURCE)
def test_the_launcher_that_a_volume_leaves_is_killed(stage: Stage, point: str) -> None:
    moving = stage.stop_at(point)

    stage.launchers[0].kill()
    stage.points[0].clear()
    stage.launchers[0].start()

    assert moving.result().returncode == 1
    stage.check_ended()


@pytest.mark.parametrize("point", TARGET)
def test_the_launcher_where_it_arrives_is_killed(stage: Stage, point: str) -> None:
    moving = stage.stop_at(point)

    stage.launchers[1].kill()
    stage.points[1].clear()
    done = moving.result()
    stage.launchers[1].start()

    assert done.returncode == 1
    assert "h2" in done.stderr
    stage.check_ended()


@pytest.mark.parametrize("killed", [0, 1])
@pytest.mark.parametrize("point", ["sending", "noted"])
def test_a_cnmd_that_is_killed_does_not_stop_it(stage: Stage, point: str, killed: int) -> None:
    moving = stage.stop_at(point)

    stage.hosts[killed].cnmd.kill()
    stage.go_on(point)
    done = moving.result()
    stage.hosts[killed].start()

    assert done.returncode == 0, done.stderr
    assert stage.has() == [1]
    stage.check_ended()


@pytest.mark.parametrize("point", ["sending", "noted", "committing", "committed"])
def test_the_network_is_cut(stage: Stage, point: str) -> None:
    moving = stage.stop_at(point)
    switch = stage.lab.topology.hosts["switch"]

    switch.run(["ip", "link", "set", "to-h2", "down"])
    try:
        stage.go_on(point)
        done = moving.result()
    finally:
        switch.run(["ip", "link", "set", "to-h2", "up"])

    assert done.returncode == 1
    assert "h2" in done.stderr
    stage.check_ended()


@pytest.mark.parametrize(
    ("point", "cut"), [("sending", 0), ("noted", 0), ("told", 0), ("whole", 1), ("taken in", 1)]
)
def test_the_power_of_a_host_is_cut(stage: Stage, point: str, cut: int) -> None:
    moving = stage.stop_at(point)
    launcher, host = stage.launchers[cut], stage.hosts[cut]

    launcher.kill()
    host.die()
    shutil.rmtree(launcher.place / "run")
    stage.points[cut].clear()
    done = moving.result()
    host.start()
    launcher.start()

    assert done.returncode == 1
    stage.check_ended()


def test_a_host_whose_disk_gives_nothing_for_a_while_goes_on(stage: Stage) -> None:
    moving = stage.stop_at("sending")

    stage.launchers[1].await_limit()
    stage.go_on("sending")

    assert moving.result().returncode == 0
    assert stage.has() == [1]
    stage.check_ended()


def test_a_volume_whose_whereabouts_nobody_knows_is_nobody_s(stage: Stage) -> None:
    here, there = stage.launchers
    moving = stage.stop_at("committed")
    there.kill()
    stage.points[1].clear()

    said = moving.result().stderr

    assert "whether volume data is on host h2 is not known, and nobody uses it here until it is" in said
    for words in (("run", "--rm", "-v", "data:/d", IMAGE), ("volume", "rm", "data")):
        refusal = here.fails(*words)[1]
        assert "data: whether it is on host h2 is not known yet: end that with 'cnmctl volume move" in refusal
    assert "not known" in move(here, "data", "h2").stderr
    there.start()
    await_listening(there)
    moved(here, "data", "h2")
    assert stage.has() == [1]
    stage.check_ended()


def test_nobody_uses_or_removes_it_on_its_way(stage: Stage) -> None:
    here, _ = stage.launchers
    moving = stage.stop_at("sending")

    for words in (
        ("run", "--rm", "-v", "data:/d", IMAGE),
        ("create", "-v", "data:/d", IMAGE),
        ("volume", "rm", "data"),
        ("volume", "rm", "-f", "data"),
    ):
        assert "data: it is on its way to host h2" in here.fails(*words)[1]
    here.docker("volume", "prune", "-f")
    assert "it is on its way to host h2" in move(here, "data", "h2").stderr
    stage.go_on("sending")

    assert moving.result().returncode == 0
    assert tree(content(stage.launchers[1])) == stage.before


def test_a_disk_that_fills_up_meanwhile_is_told(stage: Stage) -> None:
    there = stage.launchers[1]
    there.stop()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", place(there)], check=True)
    try:
        there.start()
        await_listening(there)
        moving = stage.stop_at("offered")
        (place(there) / "data-of-others").write_bytes(bytes(6 << 20))
        stage.go_on("offered")
        done = moving.result()
        assert "host h2: no space left on device: volume data does not fit there" in done.stderr
        assert os.listdir(place(there)) == ["data-of-others"]
    finally:
        there.stop()
        subprocess.run(["umount", place(there)], check=True)
        there.start()
    stage.check_ended()


def test_a_client_that_goes_away_ends_it(stage: Stage) -> None:
    here, _ = stage.launchers
    stage.points[0].stop_at("sending")
    command = [PYTHON, "-m", "cnm.cli", "-H", f"unix://{here.cnmd.socket}", "volume", "move", "data", "h2"]
    client = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    stage.points[0].await_reached("sending")

    client.send_signal(signal.SIGINT)
    client.wait(20)
    eventually(lambda: "volume data: nobody waits for its move any more" in here.log)
    stage.go_on("sending")

    eventually(lambda: here.run("run", "--rm", "-v", "data:/d", IMAGE, "true").returncode == 0)
    assert stage.has() == [0]
    stage.check_ended()


def test_what_cannot_be_deleted_where_it_has_left_is_nobody_s(stage: Stage) -> None:
    here, there = stage.launchers
    moving = stage.stop_at("told")
    inner = content(here) / "deep/inner"
    inner.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", inner], check=True)
    try:
        stage.go_on("told")
        done = moving.result()
        assert done.returncode == 1
        left = "data: it is on host h2, and its files here cannot be deleted: "
        assert f"{left}remove data: {inner} is a mount: unmount it first" in done.stderr
        for words in (("run", "--rm", "-v", "data:/d", IMAGE), ("volume", "rm", "-f", "data")):
            assert left in here.fails(*words)[1]
        there.docker("run", "--rm", "-v", "data:/d", IMAGE, "true")
    finally:
        subprocess.run(["umount", inner], check=True)

    eventually(lambda: stage.has() == [1], 60)
    eventually(lambda: os.listdir(place(there)) == ["data"])
    stage.check_ended()


def test_a_host_that_has_left_the_cluster_has_again_what_it_may_have_sent(stage: Stage) -> None:
    here, there = stage.launchers
    there.docker("volume", "create", "own")
    fill_oddly(content(there, "own"))
    before = tree(content(there, "own"))
    stage.points[1].stop_at("noted")
    moving = stage.pool.submit(move, there, "own", "h1")
    stage.points[1].await_reached("noted")
    here.kill()
    stage.points[1].go_on("noted")
    assert moving.result().returncode == 1
    assert "keep own: host h1 can be asked: 'cnmctl volume move own h1' does it" in _keep(there, "own").stderr

    stage.hosts[1].says("leave")

    remedy = "look on h1; 'cnmctl volume keep own' has what is here again"
    assert remedy in move(there, "own", "h1").stderr
    assert remedy in there.fails("run", "--rm", "-v", "own:/d", IMAGE)[1]
    assert _keep(there, "own").stdout == "own\n"
    there.docker("run", "--rm", "-v", "own:/d:ro", IMAGE, "true")
    assert tree(content(there, "own")) == before
    stage.hosts[1].join(stage.hosts[0], "--client")
    here.start()
    stage.check_ended()


def _keep(launcher: Launcher, name: str) -> Done:
    return launcher.cnmd.cnmctl("volume", "keep", name)


def test_a_host_that_was_removed_cannot_have_it(stage: Stage) -> None:
    """Last of all: h2 is in no cluster then."""
    here, there = stage.launchers
    moving = stage.stop_at("noted")
    there.kill()
    stage.go_on("noted")
    assert moving.result().returncode == 1
    stage.hosts[1].die()

    stage.hosts[0].says("rm", "--force", "h2")

    eventually(lambda: here.run("run", "--rm", "-v", "data:/d", IMAGE, "true").returncode == 0, 60)
    assert tree(content(here)) == stage.before
    stage.hosts[1].start()
    there.start()
