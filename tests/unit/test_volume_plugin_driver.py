"""Volume plugins are asked as dockerd asks them, and whatever they answer, nothing stays mounted that nobody has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError, NotFound, Unavailable
from cnm.events import EventBus
from cnm.launcher.volumes.drivers import Kept, Scope
from cnm.launcher.volumes.plugin_driver import PluginDriver
from cnm.launcher.volumes.plugins import VolumePlugins
from cnm.launcher.volumes.volumes import Volumes
from cnm.wire.plugin_client import Plugins
from cnm.wire.plugin_discovery import Places
from tests.support.clocks import FakeClock
from tests.support.scripted_plugin import Reply, answer, error, scripted_plugin
from tests.support.scripted_volumes import ScriptedVolumes, scripted_volumes


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[ScriptedVolumes]:
    with scripted_volumes(tmp_path / "run" / "x.sock", tmp_path / "kept") as made:
        yield made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def plugins(tmp_path: Path, clock: FakeClock) -> Iterator[Plugins]:
    places = Places(socket_dirs=(str(tmp_path / "run"),), spec_dirs=(str(tmp_path / "etc"),))
    made = Plugins(places, clock, 1.0)
    yield made
    made.close()


@pytest.fixture
def found(plugins: Plugins, clock: FakeClock) -> VolumePlugins:
    return VolumePlugins(plugins, clock)


@pytest.fixture
def driver(plugins: Plugins, plugin: ScriptedVolumes) -> PluginDriver:
    return PluginDriver("x", plugins)


@pytest.fixture
def volumes(tmp_path: Path, found: VolumePlugins, plugin: ScriptedVolumes) -> Volumes:
    """The launcher's, over the plugin."""
    place = tmp_path / "volumes"
    place.mkdir()
    return Volumes(str(place), EventBus(), found)


# What goes over the wire


def test_a_volume_is_asked_for_before_it_is_made(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    driver.create("v", {"size": "1"})

    assert plugin.methods() == ["Plugin.Activate", "Get", "Create"]
    assert plugin.last("Get") == {"Name": "v"}
    assert plugin.last("Create") == {"Name": "v", "Opts": {"size": "1"}}


def test_a_volume_that_is_there_is_not_made_again(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    driver.create("v", {})
    driver.create("v", {})

    assert plugin.methods().count("Create") == 1


def test_mount_and_unmount_name_the_user(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    driver.create("v", {})

    path = driver.mount("v", "c1")

    assert path == str(plugin.volumes["v"])
    assert plugin.last("Mount") == {"Name": "v", "ID": "c1"}
    driver.unmount("v", "c1")
    assert plugin.last("Unmount") == {"Name": "v", "ID": "c1"}
    assert plugin.mounts == []


def test_calls_without_arguments_have_an_empty_object(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    driver.list()

    assert driver.scope is Scope.LOCAL
    assert [call.raw for call in plugin.calls[1:]] == [b"{}\n", b"{}\n"]


def test_what_a_plugin_tells_of_a_volume(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    told = {"Name": "v", "Mountpoint": "/m", "CreatedAt": "2024-01-01T00:00:00Z", "Status": {"a": [1]}}
    plugin.script("VolumeDriver.Get", answer(Volume=told, Err=""))

    assert driver.get("v") == Kept(
        name="v", mountpoint="/m", created="2024-01-01T00:00:00Z", status={"a": [1]}
    )


def test_volumes_without_a_mount_point_or_a_name_are_listed_and_left_out(
    driver: PluginDriver, plugin: ScriptedVolumes
) -> None:
    plugin.script("VolumeDriver.List", answer(Volumes=[{"Name": "a"}, {"Name": ""}, None], Err=None))

    assert driver.list() == [Kept(name="a")]


def test_a_list_of_null_is_empty(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    plugin.script("VolumeDriver.List", answer(Volumes=None))

    assert driver.list() == []


# Scope


@pytest.mark.parametrize(
    ("reply", "scope"),
    [
        (answer(Capabilities={"Scope": "global"}), Scope.GLOBAL),
        (answer(Capabilities={"Scope": "GLOBAL"}), Scope.GLOBAL),
        (answer(Capabilities={"Scope": "local"}), Scope.LOCAL),
        (answer(Capabilities={"Scope": "galactic"}), Scope.LOCAL),
        (answer(Capabilities=None), Scope.LOCAL),
        (answer(), Scope.LOCAL),
        (error("I cannot tell"), Scope.LOCAL),
        (Reply(b"404 page not found\n", 404), Scope.LOCAL),
    ],
)
def test_the_scope_is_asked_for_once(
    driver: PluginDriver, plugin: ScriptedVolumes, reply: Reply, scope: Scope
) -> None:
    plugin.script("VolumeDriver.Capabilities", reply)

    assert [driver.scope, driver.scope] == [scope, scope]
    assert plugin.methods().count("Capabilities") == 1


def test_the_scope_of_a_plugin_that_was_away_is_asked_for_again(
    driver: PluginDriver, plugin: ScriptedVolumes
) -> None:
    plugin.capabilities = {"Capabilities": {"Scope": "global"}}
    driver.list()
    plugin.stop()
    assert driver.scope is Scope.LOCAL

    plugin.start()

    assert driver.scope is Scope.GLOBAL


# Refusals


@pytest.mark.parametrize(
    "reply",
    [error("the disk is full"), error("the disk is full", status=500), Reply(b"the disk\nis full", 500)],
    ids=["in the answer", "with a status", "a plain text"],
)
def test_a_refusal_is_told_in_dockers_words(
    driver: PluginDriver, plugin: ScriptedVolumes, reply: Reply
) -> None:
    driver.create("w", {})
    plugin.script("VolumeDriver.Create", reply)
    plugin.script("VolumeDriver.Mount", reply)
    plugin.script("VolumeDriver.Remove", reply)

    with pytest.raises(CnmError, match=r"^create v: VolumeDriver\.Create: the disk is full$"):
        driver.create("v", {})
    with pytest.raises(
        CnmError, match=r"^error while mounting volume 'w': VolumeDriver\.Mount: the disk is full$"
    ):
        driver.mount("w", "c1")
    with pytest.raises(CnmError, match=r"^remove w: VolumeDriver\.Remove: the disk is full$"):
        driver.remove("w")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (answer(Mountpoint="", Err=""), "the answer names no mount point"),
        (answer(Err=""), "the answer names no mount point"),
        (answer(Mountpoint="relative/path"), "'relative/path' is no mount point"),
        (answer(Mountpoint="/"), "'/' is no mount point"),
        (answer(Mountpoint="/usr/.."), "'/usr/..' is no mount point"),
        (
            answer(Mountpoint="/nowhere/at/all"),
            "the mount point /nowhere/at/all is no directory of this host",
        ),
        (answer(Mountpoint="/etc/passwd"), "the mount point /etc/passwd is no directory of this host"),
        (answer(Mountpoint=["/x"]), "the answer cannot be read: invalid JSON: Mountpoint: expected string"),
        (Reply(b""), "the answer cannot be read: invalid JSON: unexpected end of the text"),
        (Reply(b"<html>"), "the answer cannot be read: invalid JSON"),
        (Reply(b"[1]"), "the answer cannot be read: invalid JSON: expected object"),
        (Reply(b'{"Mountpoint": "/x"}', hang_up="midway"), "the answer breaks off"),
    ],
)
def test_nonsense_is_named_and_what_was_mounted_is_unmounted(
    volumes: Volumes, plugin: ScriptedVolumes, reply: Reply, said: str
) -> None:
    volumes.create("v", "x")
    plugin.mounts.append(("v", "c1"))
    plugin.script("VolumeDriver.Mount", reply)

    with pytest.raises(CnmError) as refusal:
        volumes.mount("v", "c1")

    assert str(refusal.value).startswith("error while mounting volume 'v': VolumeDriver.Mount: ")
    assert said in str(refusal.value)
    assert plugin.mounts == []
    assert volumes.mounted_by("v") == []


def test_a_mount_that_is_refused_is_unmounted_once(volumes: Volumes, plugin: ScriptedVolumes) -> None:
    """Some plugins note the user down before they fail; others count, and one too many takes another's mount."""
    volumes.create("v", "x")
    volumes.mount("v", "other")
    plugin.script("VolumeDriver.Mount", error("not now"))

    with pytest.raises(CnmError, match="not now"):
        volumes.mount("v", "c1")

    assert [call.body["ID"] for call in plugin.calls if call.method.endswith("Unmount")] == ["c1"]
    assert volumes.mounted_by("v") == ["other"]


def test_a_failed_unmount_can_be_tried_again(volumes: Volumes, plugin: ScriptedVolumes) -> None:
    volumes.create("v", "x")
    volumes.mount("v", "c1")
    plugin.script("VolumeDriver.Unmount", error("target is busy"))

    with pytest.raises(
        CnmError, match=r"^error while unmounting volume 'v': VolumeDriver\.Unmount: target is busy$"
    ):
        volumes.unmount("v", "c1")

    assert volumes.mounted_by("v") == ["c1"]
    assert volumes.unmount("v", "c1")
    assert plugin.mounts == []


def test_unmounting_what_an_earlier_process_may_have_mounted_is_fine(
    driver: PluginDriver, plugin: ScriptedVolumes
) -> None:
    driver.create("v", {})

    driver.unmount("v", "c1")

    assert plugin.last("Unmount") == {"Name": "v", "ID": "c1"}


# What is not there


@pytest.mark.parametrize(
    "reply", [answer(Volume=None, Err=""), error("no such volume"), error("?", status=500), answer()]
)
def test_a_volume_that_a_plugin_does_not_have_is_not_found(
    driver: PluginDriver, plugin: ScriptedVolumes, reply: Reply
) -> None:
    plugin.script("VolumeDriver.Get", reply)

    with pytest.raises(NotFound, match=r"^get v: no such volume$"):
        driver.get("v")


def test_a_plugin_without_get_is_asked_for_its_list(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    driver.create("v", {})
    plugin.script("VolumeDriver.Get", Reply(b"", 404), Reply(b"", 404))

    assert driver.get("v") == Kept(name="v")
    with pytest.raises(NotFound):
        driver.get("w")


def test_removing_what_is_gone_is_fine(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    driver.remove("v")

    assert plugin.methods() == ["Plugin.Activate", "Remove", "Get", "List"]


def test_removing_what_only_the_list_shows_is_refused(driver: PluginDriver, plugin: ScriptedVolumes) -> None:
    driver.create("v", {})
    plugin.script("VolumeDriver.Remove", error("busy"))
    plugin.script("VolumeDriver.Get", error("backend is down"))

    with pytest.raises(CnmError, match="busy"):
        driver.remove("v")


def test_what_is_refused_is_asked_for_by_force_where_that_is_wanted(
    driver: PluginDriver, plugin: ScriptedVolumes
) -> None:
    """And not before: a plugin of somebody else's may refuse a key that Docker never sends."""
    driver.create("v", {})
    plugin.script("VolumeDriver.Remove", error("its record is damaged"))
    with pytest.raises(CnmError, match="its record is damaged"):
        driver.remove("v")
    assert plugin.last("Remove") == {"Name": "v"}

    plugin.script("VolumeDriver.Remove", error("its record is damaged"))
    driver.remove("v", force=True)

    assert [call.body for call in plugin.calls if call.method.endswith("Remove")] == [
        {"Name": "v"},
        {"Name": "v"},
        {"Name": "v", "Force": True},
    ]
    assert plugin.volumes == {}
    driver.create("v", {})
    driver.remove("v", force=True)
    assert plugin.last("Remove") == {"Name": "v"}


def test_an_unmount_that_is_refused_keeps_nobody_from_removing_by_force(
    volumes: Volumes, plugin: ScriptedVolumes
) -> None:
    volumes.create("v", "x")
    volumes.mount("v", "c1")
    plugin.script("VolumeDriver.Unmount", *[error("its record is damaged")] * 2)
    with pytest.raises(CnmError, match=r"^remove v: error while unmounting volume 'v': "):
        volumes.remove("v")

    volumes.remove("v", force=True)

    assert (plugin.volumes, volumes.all().volumes) == ({}, [])


# Away and slow


def test_a_plugin_that_is_away_is_named(
    driver: PluginDriver, plugin: ScriptedVolumes, clock: FakeClock
) -> None:
    driver.create("v", {})
    plugin.stop()

    with pytest.raises(Unavailable) as failure:
        driver.mount("v", "c1")

    assert str(failure.value) == (
        "error while mounting volume 'v': plugin x: VolumeDriver.Mount: "
        "cannot be reached: no such file or directory: is the plugin running?"
    )
    assert clock.pauses == [1, 2, 4, 8]


def test_a_plugin_that_comes_back_meanwhile_is_waited_for(
    driver: PluginDriver, plugin: ScriptedVolumes, clock: FakeClock
) -> None:
    driver.create("v", {})
    plugin.stop()
    clock.meanwhile = plugin.start

    assert driver.mount("v", "c1") == str(plugin.volumes["v"])
    clock.meanwhile = lambda: None


def test_a_slow_list_is_not_waited_for_with_patience(
    driver: PluginDriver, plugin: ScriptedVolumes, clock: FakeClock
) -> None:
    driver.create("v", {})
    plugin.stop()

    with pytest.raises(Unavailable, match=r"plugin x: VolumeDriver\.List: cannot be reached"):
        driver.list()

    assert clock.pauses == []


def test_an_answer_that_comes_too_late_is_an_error_and_what_it_mounted_is_unmounted(
    tmp_path: Path, plugin: ScriptedVolumes, plugins: Plugins
) -> None:
    (tmp_path / "volumes").mkdir()
    hasty = Plugins(plugins.places, FakeClock(), 0.2)
    volumes = Volumes(str(tmp_path / "volumes"), EventBus(), VolumePlugins(hasty, FakeClock()))
    volumes.create("v", "x")
    plugin.script("VolumeDriver.Mount", Reply(b'{"Mountpoint": "/x"}', delay=1.0))
    plugin.script("VolumeDriver.Unmount", Reply())

    with pytest.raises(
        Unavailable, match=r"plugin x: VolumeDriver\.Mount: no answer within 0\.4 s: see the plugin's log"
    ):
        volumes.mount("v", "c1")

    assert plugin.methods()[-1] == "Unmount"
    assert volumes.mounted_by("v") == []
    hasty.close()


def test_a_list_of_many_volumes_asks_for_no_path_of_each(
    driver: PluginDriver, plugin: ScriptedVolumes
) -> None:
    told = [{"Name": f"v{n}", "Mountpoint": f"/m/{n}"} for n in range(9)]
    plugin.script("VolumeDriver.List", answer(Volumes=told))

    paths = [driver.path(kept.name) for kept in driver.list()]

    assert paths == [f"/m/{n}" for n in range(9)]
    assert plugin.methods() == ["Plugin.Activate", "List"]


def test_a_path_is_asked_for_again_once_it_may_be_another(
    driver: PluginDriver, plugin: ScriptedVolumes
) -> None:
    driver.create("v", {})
    driver.mount("v", "c1")
    assert driver.path("v") == str(plugin.volumes["v"])
    driver.unmount("v", "c1")
    assert "Path" not in plugin.methods()

    assert driver.path("v") == str(plugin.volumes["v"])

    assert plugin.methods()[-1] == "Path"


def test_a_silent_plugin_is_asked_for_one_path_only(
    driver: PluginDriver, plugin: ScriptedVolumes, clock: FakeClock
) -> None:
    driver.list()
    plugin.stop()
    with pytest.raises(Unavailable):
        driver.path("a")
    plugin.start()

    assert driver.path("b") == ""
    assert clock.pauses == []
    assert "Path" not in plugin.methods()


# Found


def test_an_unknown_driver_is_told_in_dockers_words(volumes: Volumes) -> None:
    with pytest.raises(
        NotFound, match=r'^create v: error looking up volume plugin nope: plugin "nope" not found$'
    ):
        volumes.create("v", "nope")


def test_a_plugin_of_another_kind_is_none(tmp_path: Path, found: VolumePlugins) -> None:
    with scripted_plugin(tmp_path / "run" / "net.sock", "NetworkDriver"):
        with pytest.raises(NotFound, match=r"error looking up volume plugin net: .* NetworkDriver"):
            found.find("net")

        assert found.known() == []


def test_all_plugins_that_answer_are_known(
    tmp_path: Path, found: VolumePlugins, plugin: ScriptedVolumes
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "gone.spec").write_text(f"unix://{tmp_path}/gone.sock\n")
    (tmp_path / "etc" / "other.spec").write_text(f"unix://{plugin.path}\n")

    assert [driver.name for driver in found.known()] == ["other", "x"]
    assert found.find("x") is found.known()[1]


def test_what_does_not_answer_is_left_alone_for_a_while(
    tmp_path: Path, found: VolumePlugins, plugin: ScriptedVolumes, clock: FakeClock
) -> None:
    plugin.script("Plugin.Activate", Reply(b"", 500))
    assert found.known() == []
    assert found.known() == []
    clock.time += 31

    assert [driver.name for driver in found.known()] == ["x"]
    assert plugin.methods() == ["Plugin.Activate", "Plugin.Activate"]
    assert clock.pauses == []


# The launcher's volumes


def test_a_volume_on_two_drivers_is_a_conflict(volumes: Volumes) -> None:
    volumes.create("v", "x")

    with pytest.raises(
        CnmError, match=r"^create v: driver 'x' already has volume 'v': volume name must be unique$"
    ):
        volumes.create("v", "local")


def test_a_volume_that_was_made_at_the_plugin_is_taken_as_it_is(
    volumes: Volumes, plugin: ScriptedVolumes, tmp_path: Path
) -> None:
    plugin.volumes["v"] = tmp_path

    volume, is_new = volumes.create("v", "x")

    assert (volume.driver, is_new) == ("x", False)
    assert "Create" not in plugin.methods()


def test_a_prune_leaves_what_plugins_keep(volumes: Volumes, plugin: ScriptedVolumes) -> None:
    volumes.create("mine")
    volumes.create("theirs", "x")
    (plugin.place / "unheard").mkdir()
    plugin.volumes["unheard"] = plugin.place / "unheard"

    assert volumes.prune(lambda volume: True)[0] == ["mine"]
    assert sorted(plugin.volumes) == ["theirs", "unheard"]


def test_a_mount_whose_plugin_dies_is_told_of_and_unmounted_later(
    volumes: Volumes, plugin: ScriptedVolumes
) -> None:
    volumes.create("v", "x")
    plugin.stop()

    with pytest.raises(Unavailable, match=r"VolumeDriver\.Mount: cannot be reached"):
        volumes.mount("v", "c1")

    assert volumes.mounted_by("v") == ["c1"]
    plugin.start()
    volumes.sweep(running=())
    assert volumes.mounted_by("v") == []
    assert plugin.last("Unmount") == {"Name": "v", "ID": "c1"}


def test_a_plugin_that_is_away_is_a_warning_beside_the_list(
    volumes: Volumes, plugin: ScriptedVolumes
) -> None:
    volumes.create("v", "x")
    volumes.create("mine")
    plugin.script("VolumeDriver.List", *[Reply(hang_up="before")] * 5)

    listed = volumes.all()

    assert [volume.name for volume in listed.volumes] == ["mine", "v"]
    assert len(listed.warnings) == 1
    assert "plugin x: VolumeDriver.List: cannot be reached" in listed.warnings[0]


def test_mounts_outlive_a_crash_of_the_launcher(
    tmp_path: Path, volumes: Volumes, found: VolumePlugins, plugin: ScriptedVolumes
) -> None:
    volumes.create("v", "x")
    volumes.mount("v", "c1")

    after = Volumes(str(tmp_path / "volumes"), EventBus(), found)
    after.load()

    assert after.mounted_by("v") == ["c1"]
    assert after.unmount("v", "c1")
    assert plugin.mounts == []
