"""Parts of a specification that Docker 20.10 does not have, and where the host sets bounds."""

from __future__ import annotations

from typing import Any

import pytest

from cnm.launcher.container import Container
from cnm.launcher.host import Feature
from cnm.launcher.modes import UserMapping, shared_namespaces
from cnm.launcher.ocispec import Inside, cgroup_path, spec
from cnm.launcher.users import User
from cnm.wire.containers import Config, HostConfig
from tests.support.launcher_hosts import a_host


def _spec(
    config: Config | None = None, host_config: HostConfig | None = None, inside: Any = None, **host: Any
) -> dict[str, Any]:
    container = Container(
        id="c1",
        name="c1",
        created=0,
        image="",
        layers=(),
        config=config or Config(),
        host=host_config or HostConfig(),
        networks={},
        args=("true",),
    )
    around = Inside("/root", "/run/netns/c1", "web", User(), (), {}, "/cnm/c1")._replace(**(inside or {}))
    return spec(container, around, a_host(**host))


def _mount(found: dict[str, Any], target: str) -> dict[str, Any]:
    (mount,) = (mount for mount in found["mounts"] if mount["destination"] == target)
    return dict(mount)


def test_a_terminal_has_the_size_it_is_created_with() -> None:
    asked = HostConfig(console_size=[24, 80])

    assert _spec(Config(tty=True), asked)["process"]["consoleSize"] == {"height": 24, "width": 80}
    assert "consoleSize" not in _spec(Config(), asked)["process"]


def test_annotations_are_the_runtime_s() -> None:
    assert _spec(host_config=HostConfig(annotations={"a": "b"}))["annotations"] == {"a": "b"}


def test_cgroups_are_writable_for_those_who_ask() -> None:
    asked = HostConfig(security_opt=["writable-cgroups=true"])

    assert "ro" in _mount(_spec(), "/sys/fs/cgroup")["options"]
    assert "ro" not in _mount(_spec(host_config=asked), "/sys/fs/cgroup")["options"]


def test_an_apparmor_profile_is_for_hosts_that_have_it() -> None:
    asked = HostConfig(security_opt=["apparmor=mine"])
    everything = frozenset(Feature)

    assert "apparmorProfile" not in _spec(host_config=asked)["process"]
    assert _spec(host_config=asked, features=everything)["process"]["apparmorProfile"] == "mine"


def test_the_oom_score_is_not_below_what_the_launcher_can_set() -> None:
    assert _spec(oom_score_floor=200)["process"]["oomScoreAdj"] == 200
    assert _spec(host_config=HostConfig(oom_score_adj=-500))["process"]["oomScoreAdj"] == -500


def test_variables_of_links_are_in_the_environment() -> None:
    found = _spec(inside={"environment": ("DB_NAME=/web/db",)})

    assert "DB_NAME=/web/db" in found["process"]["env"]


def test_a_user_namespace_is_joined_by_path_and_its_mapping_repeated() -> None:
    inside = {"userns": UserMapping(200_000, 1000), "namespaces": {"user": "/run/userns/c1"}}

    linux = _spec(inside=inside)["linux"]

    mapping = [{"containerID": 0, "hostID": 200_000, "size": 1000}]
    assert {"type": "user", "path": "/run/userns/c1"} in linux["namespaces"]
    assert linux["uidMappings"] == linux["gidMappings"] == mapping
    assert "net.ipv4.ping_group_range" not in linux["sysctl"]


def test_paths_of_shared_namespaces_are_those_of_the_first_process() -> None:
    asked = HostConfig(pid_mode="container:db", ipc_mode="container:web", uts_mode="host")

    assert shared_namespaces(asked, {"db": 5, "web": 6}.__getitem__) == {
        "pid": "/proc/5/ns/pid",
        "ipc": "/proc/6/ns/ipc",
        "uts": "host",
    }


@pytest.mark.parametrize(
    ("parent", "path"),
    [("", "/cnm/c1"), ("/other", "/other/c1"), ("deep/one", "/deep/one/c1"), ("../..", "/c1")],
)
def test_a_cgroup_is_below_its_parent_and_never_outside(parent: str, path: str) -> None:
    assert cgroup_path(HostConfig(cgroup_parent=parent), "c1", "/cnm") == path
