"""Volumes whose driver has global scope, on two hosts of a cluster, each with a launcher of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.hosts import NEEDS_ETCD, ClusterLab, eventually, short_place
from tests.support import launcher as lab
from tests.support.cnmd import UnixConnection
from tests.support.easyfuse import Easyfuse, easyfuse, easyfuse_is_lacking
from tests.support.launcher import IMAGE, Launcher
from tests.support.moved_volumes import Pair, refused
from tests.support.scripted_volumes import ScriptedVolumes

pytestmark = NEEDS_ETCD

_SLEEP = ("sleep", "1000")
_FUSE = pytest.mark.skipif(easyfuse_is_lacking() != "", reason=easyfuse_is_lacking())
_FILE_SYSTEMS = Path("/proc/filesystems").read_text().split()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    found = short_place()
    yield found
    shutil.rmtree(found)


@pytest.fixture(scope="module")
def launchers(cluster: ClusterLab, folder: Path) -> Iterator[Pair]:
    with ExitStack() as stack:
        here, there = (
            stack.enter_context(_with_plugins(host.cnmd, folder / host.name)) for host in cluster.h.values()
        )
        yield here, there


@contextmanager
def _with_plugins(cnmd: Any, place: Path) -> Iterator[Launcher]:
    """A launcher that finds the plugins of its own host only."""
    place.mkdir(exist_ok=True)
    settings = f'remote-plugin-dirs = ["{place}"]\nremote-plugin-spec-dirs = ["{place}"]'
    with lab.beside(cnmd, settings=settings) as launcher:
        yield launcher


@pytest.fixture
def pair(launchers: Pair, store: ScriptedVolumes) -> Iterator[Pair]:
    """Without containers and volumes, before and after."""
    yield launchers
    for launcher in launchers:
        launcher.clear()
    for launcher in launchers:
        if names := volumes(launcher):
            launcher.docker("volume", "rm", *names)


class _Store(ScriptedVolumes):
    """What is removed is gone."""

    def _VolumeDriver_Remove(self, body: dict[str, Any]) -> Any:
        if (folder := self.volumes.get(body["Name"])) is not None:
            shutil.rmtree(folder)
        return super()._VolumeDriver_Remove(body)


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[ScriptedVolumes]:
    """One plugin that both hosts reach, by the name of `store`: what it keeps is the same for both."""
    path = folder / "store.socket"
    made = _Store(path, folder / "stored")
    made.capabilities = {"Capabilities": {"Scope": "global"}}
    for host in ("h1", "h2"):
        (folder / host).mkdir(exist_ok=True)
        (folder / host / "store.spec").write_text(f"unix://{path}")
    yield made
    made.stop()
    for host in ("h1", "h2"):
        (folder / host / "store.spec").unlink()


def volumes(launcher: Launcher) -> list[str]:
    return launcher.docker("volume", "ls", "-q").split()


def shown(launcher: Launcher, name: str = "far") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(launcher.docker("volume", "inspect", name))[0]
    return found


def made_far(launcher: Launcher) -> None:
    launcher.docker("volume", "create", "-d", "store", "--label", "tier=db", "-o", "size=big", "far")


def test_a_volume_of_one_host_is_the_same_on_the_other(pair: Pair, store: ScriptedVolumes) -> None:
    here, there = pair
    made_far(here)

    assert volumes(there) == ["far"]
    told = [{key: value for key, value in shown(each).items() if key != "Status"} for each in pair]
    assert told[0] == told[1]
    assert (told[1]["Scope"], told[1]["Labels"], told[1]["Options"]) == (
        "global",
        {"tier": "db"},
        {"size": "big"},
    )
    assert there.docker("volume", "ls", "-q", "--filter", "label=tier=db") == "far"


def test_containers_of_both_hosts_have_it(pair: Pair, store: ScriptedVolumes) -> None:
    here, there = pair
    made_far(here)
    here.docker("run", "-d", "--name", "one", "-v", "far:/d", IMAGE, *_SLEEP)
    there.docker("run", "-d", "--name", "two", "-v", "far:/d", IMAGE, *_SLEEP)

    here.docker("exec", "one", "sh", "-c", "echo of one host >/d/file")

    assert there.docker("exec", "two", "cat", "/d/file") == "of one host"
    assert shown(there)["Labels"] == {"tier": "db"}
    here.docker("rm", "-f", "one")
    assert there.docker("exec", "two", "cat", "/d/file") == "of one host"


def test_nobody_removes_what_a_container_of_another_host_has(pair: Pair, store: ScriptedVolumes) -> None:
    here, there = pair
    made_far(here)
    one = here.docker("create", "-v", "far:/d", IMAGE, *_SLEEP)

    for words in (("volume", "rm", "far"), ("volume", "rm", "-f", "far")):
        assert there.fails(*words)[1] == (
            f"Error response from daemon: remove far: volume is in use on host h1 - [{one}]"
        )
    assert shown(there)["Status"]["UsedElsewhere"] == {"h1": [one]}
    here.docker("rm", one)

    assert "UsedElsewhere" not in shown(there)["Status"]
    there.docker("volume", "rm", "far")
    assert [volumes(each) for each in pair] == [[], []]
    assert store.volumes == {}


def test_what_another_host_has_removed_is_made_anew(pair: Pair, store: ScriptedVolumes) -> None:
    here, there = pair
    made_far(here)
    there.docker("volume", "rm", "far")

    here.docker("volume", "create", "-d", "store", "far")

    assert shown(there)["Labels"] == {}
    assert list(store.volumes) == ["far"]


def test_what_its_driver_does_not_remove_may_be_used_on(pair: Pair, store: ScriptedVolumes) -> None:
    here, there = pair
    made_far(here)
    store.script("VolumeDriver.Remove", *[_refusal()])

    assert "it does not want to" in there.fails("volume", "rm", "far")[1]

    here.docker("run", "--rm", "-v", "far:/d", IMAGE, "true")


def _refusal() -> Any:
    from tests.support.scripted_plugin import Reply

    return Reply(b'{"Err": "it does not want to"}', 500)


def test_a_launcher_that_is_killed_has_what_its_containers_have(pair: Pair, store: ScriptedVolumes) -> None:
    here, there = pair
    made_far(there)
    here.docker("run", "-d", "--name", "one", "-v", "far:/d", IMAGE, *_SLEEP)
    here.kill()

    assert "volume is in use on host h1" in there.fails("volume", "rm", "far")[1]

    here.start()
    here.docker("rm", "-f", "one")
    there.docker("volume", "rm", "far")


def test_without_cnmd_local_work_goes_on(pair: Pair, store: ScriptedVolumes, cluster: ClusterLab) -> None:
    here, there = pair
    made_far(here)
    one = there.docker("run", "-d", "-v", "far:/d", "-v", "own:/o", IMAGE, *_SLEEP)
    cluster.h[2].cnmd.kill()
    try:
        there.docker("exec", one, "touch", "/d/file", "/o/file")
        assert volumes(there) == ["far", "own"]
        two = there.docker("create", "--network", "none", "-v", "far:/d", IMAGE, *_SLEEP)
        answer = UnixConnection(there.socket)
        answer.request("GET", "/volumes")
        (warning,) = json.loads(answer.getresponse().read())["Warnings"]
        answer.close()
        assert warning.startswith(
            "what other hosts know of volumes, and whether they use them, is not known: "
        )
    finally:
        cluster.h[2].start()

    eventually(lambda: sorted(_users_elsewhere(here).get("h2", [])) == sorted([one, two]))
    there.docker("rm", "-f", one, two)
    eventually(lambda: _users_elsewhere(here) == {})


def _users_elsewhere(launcher: Launcher) -> dict[str, list[str]]:
    found: dict[str, list[str]] = shown(launcher)["Status"].get("UsedElsewhere", {})
    return found


def test_without_the_cluster_local_work_goes_on(
    pair: Pair, store: ScriptedVolumes, cluster: ClusterLab
) -> None:
    here, there = pair
    made_far(here)
    cluster.h[1].kill_etcd(signal.SIGSTOP)
    try:
        one = there.docker("run", "-d", "-v", "far:/d", IMAGE, *_SLEEP)
        said = there.fails("volume", "rm", "far")[1]
        assert f"volume is in use - [{one}]" in said
        there.docker("volume", "create", "-d", "store", "other")
        said = there.fails("volume", "rm", "other")[1]
        assert "remove other: whether another host uses it is not known: " in said
        there.docker("volume", "rm", "-f", "other")
    finally:
        cluster.h[1].kill_etcd(signal.SIGCONT)

    eventually(lambda: _users_elsewhere(here) == {"h2": [one]}, 40)
    there.docker("rm", "-f", one)
    eventually(lambda: _users_elsewhere(here) == {}, 40)
    eventually(lambda: volumes(here) == ["far"])


def test_a_volume_that_all_hosts_have_is_not_moved(pair: Pair, store: ScriptedVolumes) -> None:
    here, _ = pair
    made_far(here)

    assert refused(here, "far", "h2") == (
        "volume far is of the driver store and is on all hosts anyway: only those of the driver local are moved"
    )


# Plugins of other people: each host's has a list of its own, and the storage is one


@pytest.fixture
def fuses(folder: Path, tmp_path: Path) -> Iterator[list[Easyfuse]]:
    """docker-volume-easyfuse on each host, which says that its volumes are global."""
    with easyfuse(tmp_path / "first", folder / "h1" / "fuse.sock") as first:
        second = Easyfuse(tmp_path / "second", folder / "h2" / "fuse.sock")
        try:
            second.start()
            yield [first, second]
        finally:
            second.kill()
            for each in (first, second):
                each.sock.unlink(missing_ok=True)


@_FUSE
def test_a_file_system_in_user_space_is_shared_by_containers_of_two_hosts(
    pair: Pair, fuses: list[Easyfuse], tmp_path: Path
) -> None:
    here, there = pair
    remote = tmp_path / "remote"
    remote.mkdir()
    here.docker("volume", "create", "-d", "fuse", "-o", f"device=bindfs#{remote}", "--label", "a=b", "far")
    assert (volumes(there), shown(there)["Labels"]) == (["far"], {"a": "b"})
    here.docker("run", "-d", "--name", "one", "-v", "far:/d", IMAGE, *_SLEEP)

    there.docker("run", "-d", "--name", "two", "-v", "far:/d", IMAGE, *_SLEEP)

    here.docker("exec", "one", "sh", "-c", "echo written here >/d/file")
    assert there.docker("exec", "two", "cat", "/d/file") == "written here"
    there.docker("exec", "two", "sh", "-c", "echo and there >>/d/file")
    assert (remote / "file").read_text() == "written here\nand there\n"
    assert [fuse.mounted() for fuse in fuses] == [["far"], ["far"]]
    here.docker("kill", "one")
    here.docker("wait", "one")
    assert there.docker("exec", "two", "cat", "/d/file") == "written here\nand there"
    assert [fuse.mounted() for fuse in fuses] == [[], ["far"]]
    here.clear()
    assert "volume is in use on host h2" in here.fails("volume", "rm", "far")[1]
    there.clear()
    for launcher in pair:
        launcher.docker("volume", "rm", "far")
    assert [volumes(each) for each in pair] == [[], []]
    assert os.listdir(remote) == ["file"]


# NFS by the kernel


@pytest.mark.skipif("nfs" in _FILE_SYSTEMS, reason="this kernel has nfs")
def test_a_kernel_without_nfs_is_told(pair: Pair) -> None:
    here, _ = pair
    options = ("-o", "type=nfs", "-o", "device=:/srv", "-o", "o=addr=192.0.2.2,rw")
    here.docker("volume", "create", *options, "share")

    code, said = here.fails("run", "--rm", "-v", "share:/d", IMAGE, "true")

    assert code == 125
    assert (
        "no such device: the kernel has no file system nfs: load its module, or use a plugin that mounts it"
        in said
    )


@pytest.mark.skipif("nfs" not in _FILE_SYSTEMS, reason="this kernel has no nfs, and no module of it")
def test_an_nfs_volume_is_shared_by_containers_of_two_hosts(pair: Pair) -> None:
    if not (server := os.environ.get("CNM_TEST_NFS")):
        pytest.skip("no NFS server is named: CNM_TEST_NFS=ADDRESS:/EXPORT, writable by root")
    address, _, export = server.partition(":")
    for launcher in pair:
        options = ("-o", "type=nfs", "-o", f"device=:{export}", "-o", f"o=addr={address},rw")
        launcher.docker("volume", "create", *options, "share")
    here, there = pair

    here.docker("run", "--rm", "-v", "share:/d", IMAGE, "sh", "-c", "echo shared >/d/cnm-test")

    assert there.docker("run", "--rm", "-v", "share:/d", IMAGE, "cat", "/d/cnm-test") == "shared"
    there.docker("run", "--rm", "-v", "share:/d", IMAGE, "rm", "/d/cnm-test")
