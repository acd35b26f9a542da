"""The launcher's volumes are kept by real plugins: by other people's easyfuse, and by our own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError, Conflict
from cnm.events import EventBus
from cnm.launcher.volumes.drivers import Scope
from cnm.launcher.volumes.plugins import VolumePlugins
from cnm.launcher.volumes.volumes import Volumes
from cnm.wire.plugin_client import Plugins
from cnm.wire.plugin_discovery import Places
from cnm.wire.plugin_retry import RealClock
from tests.support.easyfuse import Easyfuse, easyfuse, easyfuse_is_lacking
from tests.support.snapshot_plugin import NAME, SnapshotPlugin

needs_easyfuse = pytest.mark.skipif(easyfuse_is_lacking() != "", reason=easyfuse_is_lacking())


def made(place: Path) -> Volumes:
    """A launcher's volumes, with the plugins that are found below `place`."""
    (place / "volumes").mkdir(exist_ok=True)
    plugins = Plugins(Places(socket_dirs=(str(place / "run"),), spec_dirs=()), RealClock())
    volumes = Volumes(str(place / "volumes"), EventBus(), VolumePlugins(plugins, RealClock()))
    volumes.load()
    return volumes


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return made(tmp_path)


# easyfuse


@pytest.fixture
def fuse(tmp_path: Path) -> Iterator[Easyfuse]:
    with easyfuse(tmp_path / "easyfuse", tmp_path / "run" / "fuse.sock") as running:
        yield running


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """What the volume shows."""
    folder = tmp_path / "remote"
    folder.mkdir()
    (folder / "f").write_text("far away")
    return folder


def device(remote: Path) -> dict[str, str]:
    return {"device": f"bindfs#{remote}"}


@needs_easyfuse
def test_a_volume_of_easyfuse_is_made_mounted_shared_and_removed(
    fuse: Easyfuse, volumes: Volumes, remote: Path
) -> None:
    volume, is_new = volumes.create("v", "fuse", device(remote))
    assert (is_new, volume.scope) == (True, Scope.GLOBAL)
    assert [known.name for known in volumes.all().volumes] == ["v"]

    path = Path(volumes.mount("v", "c1"))
    (path / "new").write_text("written")
    assert volumes.mount("v", "c2") == str(path)

    assert (path / "f").read_text() == "far away"
    assert (remote / "new").read_text() == "written"
    volumes.unmount("v", "c1")
    assert fuse.mounted() == ["v"]
    volumes.unmount("v", "c2")
    assert fuse.mounted() == []
    volumes.remove("v")
    assert volumes.all().volumes == []


@needs_easyfuse
def test_a_mount_that_easyfuse_fails_leaves_no_user(fuse: Easyfuse, volumes: Volumes, remote: Path) -> None:
    """It notes the user down before it fails."""
    volumes.create("v", "fuse", {"device": f"bindfs#{remote}/not/there"})

    with pytest.raises(CnmError, match=r"^error while mounting volume 'v': VolumeDriver\.Mount: .*mount"):
        volumes.mount("v", "c1")

    assert volumes.mounted_by("v") == []
    assert fuse.mounted() == []
    (remote / "not" / "there").mkdir(parents=True)
    volumes.mount("v", "c2")
    assert fuse.mounted() == ["v"]
    volumes.unmount("v", "c2")
    assert fuse.mounted() == []


@needs_easyfuse
def test_mounts_outlive_both_daemons(fuse: Easyfuse, volumes: Volumes, remote: Path, tmp_path: Path) -> None:
    volumes.create("v", "fuse", device(remote))
    path = Path(volumes.mount("v", "c1"))
    fuse.kill()
    fuse.start()
    after = made(tmp_path)

    assert after.mounted_by("v") == ["c1"]
    assert (path / "f").read_text() == "far away"
    after.unmount("v", "c1")
    assert fuse.mounted() == []


@needs_easyfuse
def test_a_user_that_easyfuse_does_not_know_is_unmounted(
    fuse: Easyfuse, volumes: Volumes, remote: Path, tmp_path: Path
) -> None:
    """As after a crash between the note of a mount and the mount."""
    volumes.create("v", "fuse", device(remote))
    users = tmp_path / "volumes" / "v" / "users"
    users.mkdir()
    (users / "c1").touch()

    assert made(tmp_path).unmount("v", "c1")

    assert made(tmp_path).mounted_by("v") == []


# Ours


@pytest.fixture
def snapshots(tmp_path: Path) -> Iterator[SnapshotPlugin]:
    plugin = SnapshotPlugin(tmp_path / "snapshots", str(tmp_path / "run"))
    plugin.start()
    yield plugin
    plugin.stop()


def test_a_volume_of_ours_is_put_back_as_it_was(volumes: Volumes, snapshots: SnapshotPlugin) -> None:
    volumes.create("v", NAME)
    path = Path(volumes.mount("v", "c1"))
    (path / "f").write_text("old")
    with pytest.raises(RuntimeError, match=r"volume v is in use - \[c1\]"):
        snapshots.say("point", "create", "v", "p")
    volumes.unmount("v", "c1")
    snapshots.say("point", "create", "v", "p")
    (path / "f").write_text("new")

    snapshots.say("point", "restore", "v", "p")

    assert volumes.mount("v", "c2") == str(path)
    assert (path / "f").read_text() == "old"
    volumes.unmount("v", "c2")
    assert volumes.kept(volumes.find("v")).status == {"RestorePoints": ["p"], "Users": []}


def test_a_volume_with_restore_points_stays(volumes: Volumes, snapshots: SnapshotPlugin) -> None:
    volumes.create("v", NAME)
    snapshots.say("point", "create", "v", "p")

    with pytest.raises(CnmError, match=r"^remove v: VolumeDriver\.Remove: volume v has restore points \(p\)"):
        volumes.remove("v")

    assert volumes.find("v").driver == NAME
    snapshots.say("point", "rm", "v", "p")
    volumes.remove("v")


def test_a_volume_that_the_command_line_made_is_seen_and_used(
    volumes: Volumes, snapshots: SnapshotPlugin
) -> None:
    snapshots.say("create", "v")

    assert [(volume.name, volume.driver) for volume in volumes.all().volumes] == [("v", NAME)]
    with pytest.raises(Conflict, match="driver 'cnm-snapshots' already has volume 'v'"):
        volumes.create("v", NAME) and volumes.create("v", "local")


def test_a_plugin_that_is_away_is_named_and_the_next_try_works(
    volumes: Volumes, snapshots: SnapshotPlugin
) -> None:
    volumes.create("v", NAME)
    snapshots.stop()
    listed = volumes.all()
    assert [volume.name for volume in listed.volumes] == ["v"]
    assert listed.warnings == [
        f"plugin {NAME} is not there, or does not answer: its volumes are listed as they were made"
    ]

    snapshots.start()

    assert volumes.mount("v", "c1") == str(snapshots.root / "volumes/v/data")
    volumes.unmount("v", "c1")
