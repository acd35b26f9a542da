"""What hosts of a cluster are told of volumes that all of them reach: who has one now, whatever comes in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from cnm.cluster.etcd.memory import MemoryEtcd, MemoryStore
from cnm.cluster.records import SharedVolume
from cnm.cluster.volumes import SharedVolumes
from cnm.errors import CnmError, Conflict, NotFound, Unavailable
from cnm.events import EventBus
from cnm.launcher.cnmd import Cnmd
from cnm.launcher.volumes import telling
from cnm.launcher.volumes.drivers import Kept, NoPlugins, Scope, VolumeDriver
from cnm.launcher.volumes.other_hosts import ClusterHosts
from cnm.launcher.volumes.volumes import Volumes

_OVERTAKING_SECONDS = 0.5
"""For which a request is held up, so that a later one can be served first."""


class Cluster:
    """cnmd's part of one host, by the real records of the cluster; `before` is called with each request."""

    def __init__(self, store: MemoryStore, node: str) -> None:
        etcd = MemoryEtcd(store)
        self.node = node
        self.volumes = SharedVolumes(lambda: etcd, lambda: node)
        self.before: Callable[[str], object] = lambda method: None

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.before(method)
        if method == "GET":
            return {"Node": self.node, "Volumes": [_shown(*known) for known in self.volumes.all()]}
        driver, name = body["Driver"], body["Name"]
        if path.endswith("/removal"):
            if body["Step"] == "begin":
                return self.volumes.begin_removal(driver, name)
            removed = body["Step"] == "removed"
            return self.volumes.end_removal(driver, name, removed=removed, created=body["Created"])
        volume = SharedVolume(driver=driver, name=name, created=body["Created"])
        return self.volumes.take(volume, body["Containers"], new=body["New"])


def _shown(volume: SharedVolume, users: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    return {
        "Driver": volume.driver,
        "Name": volume.name,
        "Created": volume.created,
        "Labels": None,
        "Options": None,
        "Users": {node: list(found) for node, found in users.items()},
    }


class Far:
    """A plugin whose volumes are on all hosts."""

    name, scope = "far", Scope.GLOBAL

    def __init__(self) -> None:
        self.volumes: set[str] = set()
        self.removing: Callable[[], object] = lambda: None

    def create(self, name: str, options: Mapping[str, str]) -> None:
        self.volumes.add(name)

    def remove(self, name: str, *, force: bool = False) -> None:
        self.removing()
        self.volumes.discard(name)

    def mount(self, name: str, user: str) -> str:
        return f"/far/{name}"

    def unmount(self, name: str, user: str) -> None: ...

    def path(self, name: str) -> str:
        return ""

    def get(self, name: str) -> Kept:
        if name not in self.volumes:
            raise NotFound(f"get {name}: no such volume")
        return Kept(name=name)

    def list(self) -> list[Kept]:
        return [Kept(name=name) for name in sorted(self.volumes)]


class OnlyFar(NamedTuple):
    driver: Far

    def find(self, name: str) -> VolumeDriver:
        return self.driver if name == self.driver.name else NoPlugins().find(name)

    def known(self) -> list[VolumeDriver]:
        return [self.driver]


class Host(NamedTuple):
    cluster: Cluster
    volumes: Volumes

    def told(self) -> tuple[str, ...]:
        """Containers of this host that the cluster believes to have `data`."""
        return next(
            (each.users.get(self.cluster.node, ()) for each in self.cluster.volumes.all()),
            (),
        )


class Hosts(NamedTuple):
    here: Host
    there: Host
    store: MemoryStore
    far: Far


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    store, far = MemoryStore(), Far()

    def host(name: str) -> Host:
        (tmp_path / name).mkdir()
        cluster = Cluster(store, name)
        others = ClusterHosts(cast(Cnmd, cluster))
        return Host(cluster, Volumes(str(tmp_path / name), EventBus(), OnlyFar(far), others))

    return Hosts(host("h1"), host("h2"), store, far)


def _overtaken(
    cluster: Cluster, method: str, other: Callable[[], object], failure: CnmError | None = None
) -> list[Future[object]]:
    """What is asked first by `method` is held up while `other` asks, as far as that waits for nothing; then it fails
    where there is a `failure`."""
    first, begun = [method], list[Future[object]]()

    def before(asked: str) -> None:
        if asked in first:
            first.remove(asked)
            begun.append(ThreadPoolExecutor(1).submit(other))
            wait(begun, _OVERTAKING_SECONDS)
            if failure:
                raise failure

    cluster.before = before
    return begun


def test_who_takes_a_volume_while_another_lets_go_has_it(hosts: Hosts) -> None:
    here, there = hosts.here, hosts.there
    here.volumes.create("data", "far", container="c1")
    begun = _overtaken(here.cluster, "PUT", lambda: here.volumes.create("data", "far", container="c2"))

    here.volumes.let_go(["data"], "c1")
    wait(begun)

    assert here.told() == ("c2",)
    with pytest.raises(Conflict, match=r"^remove data: volume is in use on host h1 - \[c2\]$"):
        there.volumes.remove("data")


def test_what_could_not_be_told_in_time_is_not_told_after_what_is_newer(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_AGAIN_SECONDS", 0)
    here = hosts.here
    here.volumes.create("data", "far", container="c1")
    away = Unavailable("the cluster does not answer")
    begun = _overtaken(here.cluster, "PUT", lambda: here.volumes.create("data", container="c2"), away)

    here.volumes.let_go(["data"], "c1")
    wait(begun)
    here.volumes.others.tell_again()

    assert here.told() == ("c2",)


def test_what_hosts_agree_on_is_not_older_than_what_is_taken_meanwhile(hosts: Hosts) -> None:
    here = hosts.here
    hosts.there.volumes.create("data", "far", container="theirs")
    begun = _overtaken(here.cluster, "GET", lambda: here.volumes.create("data", container="c2"))

    here.volumes.agree_with_other_hosts()
    wait(begun)

    assert here.told() == ("c2",)


def test_what_could_not_be_told_is_told_as_it_is_by_then(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_AGAIN_SECONDS", 0)
    here, there = hosts.here, hosts.there
    hosts.store.quorum = False
    here.volumes.create("data", "far", container="c1")
    here.volumes.create("data", "far", container="c2")
    here.volumes.let_go(["data"], "c1")
    hosts.store.quorum = True

    here.volumes.others.tell_again()

    assert here.told() == ("c2",)
    here.volumes.let_go(["data"], "c2")
    there.volumes.remove("data")


def test_a_new_volume_is_known_that_was_made_and_used_while_the_cluster_was_away(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "_AGAIN_SECONDS", 0)
    here = hosts.here
    hosts.store.quorum = False
    here.volumes.create("data", "far", container="c1")
    here.volumes.let_go(["data"], "c1")
    hosts.store.quorum = True

    here.volumes.others.tell_again()

    assert [known.volume.name for known in here.cluster.volumes.all()] == ["data"]
    assert here.told() == ()


def test_who_lets_go_while_it_is_removed_does_not_let_others_take_it(hosts: Hosts) -> None:
    here, there = hosts.here, hosts.there
    here.volumes.create("data", "far", container="c1")
    here.volumes.use.drop(["data"], "c1")
    refused = threading.Event()

    def removing() -> None:
        here.volumes.let_go(["data"], "c1")
        with pytest.raises(Conflict, match=r"^volume data is being removed by host h1$"):
            there.volumes.create("data", container="c2")
        refused.set()

    hosts.far.removing = removing

    here.volumes.remove("data")

    assert refused.is_set()


def test_of_what_is_removed_before_it_was_told_who_let_go_nobody_is_left(hosts: Hosts) -> None:
    here, there = hosts.here, hosts.there
    here.volumes.create("data", "far", container="c1")
    hosts.store.quorum = False
    here.volumes.let_go(["data"], "c1")
    hosts.store.quorum = True

    here.volumes.remove("data")
    there.volumes.create("data", "far")

    assert here.told() == ()
    there.volumes.remove("data")


def test_a_name_that_is_another_driver_s_here_is_not_the_volume_of_the_cluster(hosts: Hosts) -> None:
    here, there = hosts.here, hosts.there
    here.volumes.create("data", "local", container="c1")
    there.volumes.create("data", "far")

    here.volumes.agree_with_other_hosts()

    assert here.told() == ()
    there.volumes.remove("data")
