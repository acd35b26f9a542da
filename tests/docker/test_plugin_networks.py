"""A Docker user's networks made by cnm: every flag has its effect, what has none is refused by name."""

from __future__ import annotations

import json

import pytest

from tests.docker.docker_lab import NEEDS_DOCKERD, DockerLab, eventually

pytestmark = [NEEDS_DOCKERD, pytest.mark.usefixtures("nothing_is_left")]


def create(lab: DockerLab, name: str, *options: str) -> str:
    return lab.docker("network", "create", "--driver", "cnm", *options, name)


def test_inspect_shows_what_create_was_told(lab: DockerLab) -> None:
    ident = create(
        lab,
        "web",
        *("--subnet", "10.70.0.0/16", "--gateway", "10.70.0.9", "--ip-range", "10.70.5.0/24"),
        *("--aux-address", "printer=10.70.5.1", "--label", "tier=front"),
        *("-o", "com.docker.network.driver.mtu=1400"),
    )

    (shown,) = json.loads(lab.docker("network", "inspect", "web"))

    assert (shown["Id"], shown["Driver"], shown["Scope"]) == (ident, "cnm", "local")
    assert shown["IPAM"]["Config"] == [
        {
            "Subnet": "10.70.0.0/16",
            "IPRange": "10.70.5.0/24",
            "Gateway": "10.70.0.9",
            "AuxiliaryAddresses": {"printer": "10.70.5.1"},
        }
    ]
    assert shown["Options"] == {"com.docker.network.driver.mtu": "1400"}


def test_a_container_has_the_address_gateway_and_mtu_that_its_network_says(lab: DockerLab) -> None:
    create(
        lab,
        "web",
        *("--subnet", "10.70.0.0/16", "--gateway", "10.70.0.9", "--ip-range", "10.70.5.0/24"),
        *("--aux-address", "printer=10.70.5.0", "-o", "com.docker.network.driver.mtu=1400"),
    )
    lab.run("front", "--network", "web")

    assert lab.address("front", "web") == "10.70.5.1"
    assert "default via 10.70.0.9 dev eth0" in lab.inside("front", "ip", "route")
    assert "mtu 1400" in lab.inside("front", "ip", "link", "show", "eth0")
    assert lab.inside("front", "ping", "-c", "1", "-W", "3", "10.70.0.9")


def test_addresses_and_the_mac_that_a_user_gives_are_the_containers(lab: DockerLab) -> None:
    create(lab, "web", "--ipv6", "--subnet", "10.71.0.0/24", "--subnet", "fd71::/64")
    lab.run(
        "front",
        *(
            "--network",
            "web",
            "--ip",
            "10.71.0.77",
            "--ip6",
            "fd71::77",
            "--mac-address",
            "02:00:00:71:00:77",
        ),
    )

    shown = lab.inside("front", "ip", "address", "show", "eth0")

    assert "10.71.0.77/24" in shown
    assert "fd71::77/64" in shown
    assert "02:00:00:71:00:77" in shown
    assert lab.address("front", "web", "MacAddress") == "02:00:00:71:00:77"
    assert lab.address("front", "web", "GlobalIPv6Address") == "fd71::77"


def test_a_mac_of_our_choice_is_shown_by_inspect(lab: DockerLab) -> None:
    create(lab, "web", "--subnet", "10.71.0.0/24")
    lab.run("front", "--network", "web")

    assert lab.address("front", "web", "MacAddress") == "02:42:0a:47:00:02"
    assert "02:42:0a:47:00:02" in lab.inside("front", "ip", "link", "show", "eth0")


def test_an_address_that_is_taken_is_refused_and_the_container_runs_with_another(lab: DockerLab) -> None:
    create(lab, "web", "--ipam-driver", "cnm", "--subnet", "10.71.0.0/24")
    lab.run("front", "--network", "web", "--ip", "10.71.0.77")

    refusal = lab.refused(
        "run", "--detach", "--name", "back", "--network", "web", "--ip", "10.71.0.77", "busybox", "true"
    )

    assert "Address already in use" in refusal
    lab.docker("rm", "back")
    lab.run("back", "--network", "web", "--ip", "10.71.0.78")


def test_containers_find_each_other_by_name(lab: DockerLab) -> None:
    create(lab, "web", "--ipv6", "--subnet", "10.71.0.0/24", "--subnet", "fd71::/64")
    lab.serve("front", "--network", "web", "--network-alias", "www")
    lab.run("back", "--network", "web")

    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"
    assert lab.inside("back", "wget", "-qO-", "http://www/") == "front"
    assert lab.inside("back", "ping", "-6", "-c", "1", "-W", "3", "fd71::2")


def test_an_internal_network_leads_nowhere(lab: DockerLab) -> None:
    create(lab, "db", "--internal")
    lab.serve("store", "--network", "db")
    lab.run("front", "--network", "db")

    assert lab.inside("front", "wget", "-qO-", "http://store/") == "store"
    assert "default" not in lab.inside("front", "ip", "route")
    assert "Network is unreachable" in lab.refused("exec", "front", "ping", "-c", "1", "-W", "1", "192.0.2.2")


def test_a_container_in_two_networks_has_one_way_out(lab: DockerLab) -> None:
    for name in ("web", "db"):
        create(lab, name)
    lab.run("front", "--network", "web")
    lab.docker("network", "connect", "db", "front")

    routes = lab.inside("front", "ip", "route")

    assert routes.count("default via") == 1
    assert "dev eth0" in routes
    assert "dev eth1" in routes


def test_connecting_and_disconnecting_a_running_container(lab: DockerLab) -> None:
    for name in ("web", "db"):
        create(lab, name)
    lab.serve("store", "--network", "db")
    lab.run("front", "--network", "web")

    lab.docker("network", "connect", "--alias", "f", "db", "front")
    assert lab.inside("front", "wget", "-qO-", "http://store/") == "store"
    lab.docker("network", "disconnect", "db", "front")

    assert "eth1" not in lab.inside("front", "ip", "link")
    lab.refused("exec", "front", "timeout", "2", "wget", "-qO-", "http://store/")


def test_a_stopped_container_comes_back_to_its_network(lab: DockerLab) -> None:
    create(lab, "web")
    lab.serve("front", "--network", "web")
    lab.run("back", "--network", "web")

    lab.docker("stop", "--time", "0", "front")
    lab.docker("start", "front")
    lab.docker("restart", "--time", "0", "back")

    eventually(lambda: "httpd" in lab.inside("front", "ps"))
    assert lab.inside("back", "wget", "-qO-", "http://front/") == "front"


def test_a_containers_name_and_network_are_known_to_cnmctl(lab: DockerLab) -> None:
    create(lab, "web")
    lab.run("front", "--network", "web")

    eventually(lambda: "front" in lab.cnmd.cnmctl("sandbox", "ls").stdout)

    assert "web" in lab.cnmd.cnmctl("network", "ls").stdout
    listed = lab.cnmd.cnmctl("endpoint", "ls").stdout
    assert "front" in listed
    assert "web" in listed


def test_networks_of_docker_are_left_to_docker(lab: DockerLab) -> None:
    create(lab, "web")
    eventually(lambda: "web" in lab.cnmd.cnmctl("network", "ls").stdout)
    lab.cnmd.create_sandbox("mine")

    removed = lab.cnmd.cnmctl("network", "rm", "web")
    connected = lab.cnmd.cnmctl("network", "connect", "web", "mine")
    pruned = lab.cnmd.cnmctl("network", "prune", "--force")
    lab.cnmd.cnmctl("sandbox", "rm", "mine")

    assert removed.returncode == 1
    assert "is dockerd's: docker network rm" in removed.stderr
    assert connected.returncode == 1
    assert "is dockerd's" in connected.stderr
    assert "web" not in pruned.stdout


def test_prune_takes_only_what_nobody_uses(lab: DockerLab) -> None:
    for name in ("used", "unused"):
        create(lab, name)
    lab.run("front", "--network", "used")

    pruned = lab.docker("network", "prune", "--force")

    assert "unused" in pruned
    assert lab.docker("network", "ls", "--filter", "driver=cnm", "--format", "{{.Name}}") == "used"


def test_a_busy_network_is_not_removed(lab: DockerLab) -> None:
    create(lab, "web")
    lab.run("front", "--network", "web")

    assert "has active endpoints" in lab.refused("network", "rm", "web")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-o", "nosuch=1"), "unknown option nosuch for driver bridge"),
        (("-o", "com.docker.network.bridge.enable_icc=maybe"), "it must be true or false"),
        (("-o", "com.docker.network.driver.mtu=7"), "it must be a number of bytes from 68"),
        (("-o", "cnm.join=sideways"), "it must be moved or direct"),
        (("--ipam-driver", "null"), "needs an IPAM driver that gives addresses"),
        (("--subnet", "10.72.0.0/24", "--subnet", "10.73.0.0/24"), "doesn't support multiple subnets"),
    ],
)
def test_what_has_no_effect_is_refused_by_name(lab: DockerLab, options: tuple[str, ...], text: str) -> None:
    refusal = lab.refused("network", "create", "--driver", "cnm", *options, "web")

    assert text in refusal
    assert refusal.count("\n") == 0


@pytest.mark.parametrize("option", ["com.docker.network.endpoint.ifname=up0", "a.b=c"])
def test_an_endpoints_option_that_has_no_effect_is_refused_by_name(lab: DockerLab, option: str) -> None:
    create(lab, "web")
    lab.run("front")

    refusal = lab.refused("network", "connect", "--driver-opt", option, "web", "front")

    assert option.partition("=")[0] in refusal


def test_bridge_options_have_their_effect(lab: DockerLab) -> None:
    create(
        lab,
        "web",
        *("-o", "com.docker.network.bridge.name=mybridge"),
        *("-o", "com.docker.network.bridge.enable_icc=false"),
        *("-o", "com.docker.network.container_iface_prefix=lan"),
    )
    lab.serve("front", "--network", "web")
    lab.run("back", "--network", "web")

    assert "mybridge" in lab.host.run(["ip", "link", "show", "mybridge"]).stdout
    assert "lan0" in lab.inside("front", "ip", "link")
    lab.refused("exec", "back", "timeout", "2", "wget", "-qO-", f"http://{lab.address('front', 'web')}/")


def test_pools_of_our_ipam_serve_dockers_own_bridge(lab: DockerLab) -> None:
    for number in range(2):
        lab.docker("network", "create", "--driver", "bridge", "--ipam-driver", "cnm", f"own{number}")
    lab.docker(
        *("network", "create", "--driver", "bridge", "--ipam-driver", "cnm", "--subnet", "10.74.0.0/24"),
        *("--ip-range", "10.74.0.128/25", "--aux-address", "printer=10.74.0.129", "given"),
    )
    lab.run("front", "--network", "given")

    subnets = [
        json.loads(lab.docker("network", "inspect", f"own{n}"))[0]["IPAM"]["Config"][0]["Subnet"]
        for n in (0, 1)
    ]

    assert len(set(subnets)) == 2
    assert lab.address("front", "given") == "10.74.0.130"
    overlap = lab.refused("network", "create", "--ipam-driver", "cnm", "--subnet", "10.74.0.0/24", "again")
    assert "Pool overlaps with other one on this address space" in overlap
