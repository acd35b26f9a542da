"""The plugins cnm-macvlan and cnm-ipvlan on a real dockerd: the socket's name picks the driver."""

from __future__ import annotations

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, OUTSIDE, DockerLab

pytestmark = [NEEDS_DOCKERD, pytest.mark.usefixtures("nothing_is_left")]

SEGMENT = (
    "--subnet",
    "192.0.2.0/24",
    "--gateway",
    "192.0.2.2",
    "--ip-range",
    "192.0.2.128/25",
    "-o",
    "parent=up0",
)


def test_containers_are_on_the_segment_of_the_parent(lab: DockerLab) -> None:
    lab.docker("network", "create", "--driver", "cnm-macvlan", *SEGMENT, "lan")
    lab.serve("front", "--network", "lan", "--ip", "192.0.2.200")
    lab.run("back", "--network", "lan")

    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", OUTSIDE[4])
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"
    reply = lab.outside.connect_tcp("192.0.2.200", 80, send=b"GET / HTTP/1.0\r\n\r\n", timeout=3.0)
    assert reply.answered
    assert "docker_gwbridge" not in lab.docker("network", "ls")


def test_a_container_is_connected_disconnected_and_started_again(lab: DockerLab) -> None:
    lab.docker("network", "create", "--driver", "cnm-macvlan", *SEGMENT, "lan")
    lab.run("front")
    lab.docker("network", "connect", "lan", "front")
    assert "eth1" in lab.inside("front", "ip", "link")
    lab.docker("network", "disconnect", "lan", "front")
    assert "eth1" not in lab.inside("front", "ip", "link")

    lab.docker("network", "connect", "lan", "front")
    lab.docker("restart", "--time", "0", "front")

    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", OUTSIDE[4])


def test_ports_are_left_out_with_a_warning(lab: DockerLab) -> None:
    lab.docker("network", "create", "--driver", "cnm-macvlan", *SEGMENT, "lan")

    lab.run("front", "--network", "lan", "--publish", "8080:80")

    assert "publishes no ports" in lab.cnmd.log


def test_both_daemons_may_be_killed(lab: DockerLab) -> None:
    lab.docker("network", "create", "--driver", "cnm-macvlan", *SEGMENT, "lan")
    lab.run("front", "--network", "lan")

    lab.cnmd.kill()
    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", OUTSIDE[4])
    lab.cnmd.start()

    assert lab.findings() == []
    assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", OUTSIDE[4])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-o", "parent=nosuch0"), "nosuch0"),
        (("-o", "parent=lo"), "lo"),
        (("-o", "parent=up0", "-o", "macvlan_mode=sideways"), "macvlan_mode"),
        (("-o", "parent=up0", "-o", "com.docker.network.bridge.enable_icc=true"), "enable_icc"),
    ],
)
def test_a_bad_option_is_refused_by_name(lab: DockerLab, options: tuple[str, ...], text: str) -> None:
    assert text in lab.refused("network", "create", "--driver", "cnm-macvlan", *options, "lan")


def test_ipvlan_says_what_this_kernel_lacks_or_works(lab: DockerLab) -> None:
    lab.docker("network", "create", "--driver", "cnm-ipvlan", *SEGMENT, "lan")
    if not lab.host.run(
        ["ip", "link", "add", "probe", "link", "up0", "type", "ipvlan"], check=False
    ).returncode:
        lab.host.run(["ip", "link", "delete", "probe"])
        lab.run("front", "--network", "lan")
        assert "1 packets received" in lab.inside("front", "ping", "-c", "1", "-W", "3", OUTSIDE[4])
        return

    refusal = lab.refused("run", "--detach", "--name", "front", "--network", "lan", "busybox", "true")

    assert "this kernel has no ipvlan links: load module ipvlan" in refusal
