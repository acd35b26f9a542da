"""What macvlan and ipvlan networks are on the wire: sandboxes on the segment of a parent, beside machines of others."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cnm.kernel.state import Group
from netns_fixtures import Host, Topology, match
from tests.packet.lab import DROP_SECONDS, FAMILIES, OPEN, PASS_SECONDS
from tests.support.cnmd import Cnmd, running
from tests.support.kernels import lacks

ROUTER = {4: "10.70.1.1", 6: "fd00:70:1::1"}
"""On the segment of the first parent."""
FAR = {4: "198.51.100.2", 6: "2001:db8:2::2"}
"""A machine behind the router, that knows no other way back."""
SUBNETS = {4: "10.70.1.0/24", 6: "fd00:70:1::/64"}
RANGES = {4: "10.70.1.128/25", 6: "fd00:70:1:0:8000::/66"}
OTHER_RANGES = {4: "10.70.1.64/26", 6: "fd00:70:1:0:4000::/66"}
PARENT_MTU = 1400
ATTACHES = 12


def segment(ranges: dict[int, str], *, gateway: bool = False) -> list[dict[str, str]]:
    """The first parent's subnets, of which cnmd gives out `ranges`."""
    given = {v: {"Gateway": ROUTER[v]} if gateway else {} for v in (4, 6)}
    return [{"Subnet": SUBNETS[v], "IPRange": ranges[v], **given[v]} for v in (4, 6)]


def world() -> dict[str, Any]:
    """The host has two interfaces and no address; a router is on both segments."""
    return {
        "hosts": {"host": {}, "router": {"forward": True}, "far": {"uplink": "router"}},
        "links": [
            {
                "mtu": PARENT_MTU,
                "ends": [
                    {"host": "host", "interface": "up1"},
                    {
                        "host": "router",
                        "interface": "eth0",
                        "addresses": [f"{ROUTER[4]}/24", f"{ROUTER[6]}/64"],
                    },
                ],
            },
            {
                "ends": [
                    {"host": "host", "interface": "up2"},
                    {"host": "router", "interface": "eth1", "addresses": ["10.70.2.1/24"]},
                ],
            },
            {
                "ends": [
                    {
                        "host": "router",
                        "interface": "eth2",
                        "addresses": ["198.51.100.1/24", "2001:db8:2::1/64"],
                    },
                    {"host": "far", "interface": "eth0", "addresses": [f"{FAR[4]}/24", f"{FAR[6]}/64"]},
                ],
            },
        ],
    }


class Street:
    """The world with a running cnmd; what a test makes goes with `clear`."""

    def __init__(self, topology: Topology, daemon: Cnmd) -> None:
        self.topology = topology
        self.daemon = daemon
        self.host, self.router, self.far = (topology.hosts[name] for name in ("host", "router", "far"))
        self.endpoints: dict[str, dict[str, Any]] = {}
        self._sandboxes: list[str] = []
        self._networks: list[str] = []
        self._made = 0

    def network(self, *, driver: str = "macvlan", gateway: bool = False, **more: Any) -> str:
        """Its name. `more` are Docker's keys; without IPAM both families on the first parent's segment."""
        status, answer = self.try_network(driver=driver, gateway=gateway, **more)
        assert status == 201, answer
        return self._networks[-1]

    def try_network(self, *, driver: str = "macvlan", gateway: bool = False, **more: Any) -> tuple[int, Any]:
        self._made += 1
        name = f"net-{self._made}"
        ipam = {"Config": segment(RANGES, gateway=gateway)}
        body = {"Name": name, "Driver": driver, "EnableIPv6": True, "IPAM": ipam, **more}
        status, answer = self.daemon.request("POST", "/networks/create", body)
        if status == 201:
            self._networks.append(name)
        return status, answer

    def box(self, network: str, **config: Any) -> Host:
        """A sandbox in the network, with a server."""
        path = self.member(network, **config)
        host = self.topology.adopt(self._sandboxes[-1], path)
        host.serve_tcp(OPEN)
        return host

    def member(self, network: str, **config: Any) -> str:
        """A sandbox in the network that nobody is in; the path of its namespace."""
        self._made += 1
        name = f"box-{self._made}"
        sandbox = self.daemon.create_sandbox(name)
        self._sandboxes.append(name)
        self.endpoints[name] = self.daemon.connect(network, name, **config)
        return str(sandbox["NetnsPath"])

    def address(self, box: Host, version: int) -> str:
        return str(self.endpoints[box.name][f"IPv{version}Address"]).partition("/")[0]

    def reaches(self, source: Host, target: Host, version: int, seconds: float = PASS_SECONDS) -> bool:
        return source.connect_tcp(self.address(target, version), OPEN, timeout=seconds).answered

    def delete(self, network: str) -> None:
        self.daemon.ask("DELETE", f"/networks/{network}")
        self._networks.remove(network)

    def clear(self) -> None:
        for name in self._sandboxes:
            self.daemon.ask("DELETE", f"/cnm/v1/sandboxes/{name}?force=1")
        for name in list(self._networks):
            self.delete(name)
        self._sandboxes.clear()


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with Topology(world()) as topology:
        place = tmp_path_factory.mktemp("cnmd")
        with running(place, topology.hosts["host"].popen) as daemon:
            yield Street(topology, daemon)


@pytest.fixture
def street(standing: Street) -> Iterator[Street]:
    """At the end of each test the host is as it was, and doctor has nothing to say."""
    before = links(standing.host)
    yield standing
    found = standing.daemon.findings()
    standing.clear()
    deadline = time.monotonic() + PASS_SECONDS
    while links(standing.host) != before and time.monotonic() < deadline:
        time.sleep(0.02)  # retired links go a moment later
    assert (found, standing.daemon.findings(), links(standing.host)) == ([], [], before)


def links(host: Host) -> set[str]:
    with host.netlink() as netlink:
        return {str(link.get("ifname")) for link in netlink.get_links()}


def mtu(host: Host, interface: str) -> int:
    with host.netlink() as netlink:
        (index,) = netlink.link_lookup(ifname=interface)
        return int(netlink.get_links(index)[0].get("mtu"))


def routes(host: Host, version: int) -> list[str]:
    """The default routes, as ip(8) says them."""
    shown = host.run(["ip", f"-{version}", "route", "show", "default"]).stdout
    return [line.split(" proto ")[0].strip() for line in shown.splitlines()]


def gateway(street: Street, box: Host, version: int) -> str:
    """As the API shows it."""
    return str(street.endpoints[box.name]["Gateway" if version == 4 else "IPv6Gateway"])


def options(parent: str = "up1", **more: str) -> dict[str, str]:
    return {"parent": parent, **more}


# On one segment


@FAMILIES
def test_sandboxes_of_one_network_talk(street: Street, version: int) -> None:
    network = street.network(Options=options())
    one, other = street.box(network), street.box(network)

    assert street.reaches(one, other, version)
    assert street.reaches(other, one, version)


@FAMILIES
def test_a_machine_of_the_segment_talks_to_a_sandbox_under_its_own_mac(street: Street, version: int) -> None:
    box = street.box(street.network(Options=options()))

    with street.router.capture("eth0") as capture:
        assert box.ping(ROUTER[version], timeout=PASS_SECONDS)
        packet = capture.expect(match("icmp" if version == 4 else "icmp6", src=street.address(box, version)))

    assert packet.src == box.mac("eth0") == street.endpoints[box.name]["MacAddress"]
    assert street.router.connect_tcp(street.address(box, version), OPEN, timeout=PASS_SECONDS).answered


@FAMILIES
def test_the_first_packet_of_a_new_endpoint_is_answered(street: Street, version: int) -> None:
    """In less than the second after which ARP and ND ask again."""
    network = street.network(Options=options())
    for _ in range(ATTACHES):
        assert street.box(network).ping(ROUTER[version], timeout=0.9)


@FAMILIES
def test_networks_on_one_parent_are_one_segment(street: Street, version: int) -> None:
    """Macvlan keeps MACs apart, not networks: as in Docker, VLANs do that."""
    one = street.box(street.network(Options=options()))
    other = street.box(street.network(Options=options(), IPAM={"Config": segment(OTHER_RANGES)}))

    assert street.reaches(one, other, version)


@pytest.mark.parametrize("mode", ["private", "vepa"])
@FAMILIES
def test_sandboxes_do_not_talk_without_a_switch_that_reflects(
    street: Street, mode: str, version: int
) -> None:
    network = street.network(Options=options(macvlan_mode=mode))
    one, other = street.box(network), street.box(network)

    assert not street.reaches(one, other, version, DROP_SECONDS)
    assert one.ping(ROUTER[version], timeout=PASS_SECONDS)
    assert other.ping(ROUTER[version], timeout=PASS_SECONDS)


@FAMILIES
def test_passthru_gives_a_parent_to_one_sandbox(street: Street, version: int) -> None:
    before = street.host.mac("up1")
    network = street.network(Options=options(macvlan_mode="passthru"))
    box = street.box(network)

    assert box.ping(ROUTER[version], timeout=PASS_SECONDS)
    assert box.mac("eth0") == street.endpoints[box.name]["MacAddress"] == street.host.mac("up1")
    street.clear()
    assert street.host.mac("up1") == before


def test_a_second_sandbox_of_a_passthru_network_is_refused_in_one_line(street: Street) -> None:
    network = street.network(Options=options(macvlan_mode="passthru"))
    street.box(network)
    street.daemon.create_sandbox("late")

    status, answer = street.daemon.request("POST", f"/networks/{network}/connect", {"Container": "late"})
    street.daemon.ask("DELETE", "/cnm/v1/sandboxes/late?force=1")

    assert status == 500
    assert answer["message"].startswith(
        "cannot create interface eth0 on up1: in mode passthru a parent carries"
    )


def test_the_interface_has_the_parents_mtu_and_the_name_that_was_asked_for(street: Street) -> None:
    box = street.box(street.network(Options=options()), IfName="lan7")

    assert mtu(box, "lan7") == PARENT_MTU
    assert box.ping(ROUTER[4], timeout=PASS_SECONDS, size=PARENT_MTU - 28)


def test_a_given_mtu_and_interface_prefix_are_used(street: Street) -> None:
    network = street.network(
        Options=options(
            **{
                "com.docker.network.driver.mtu": "1300",
                "com.docker.network.container_iface_prefix": "lan",
            }
        )
    )

    assert mtu(street.box(network), "lan0") == 1300


def test_a_point_to_point_subnet_has_room_for_two(street: Street) -> None:
    network = street.network(
        Options=options(), EnableIPv6=False, IPAM={"Config": [{"Subnet": "10.71.0.0/31"}]}
    )
    one, other = street.box(network), street.box(network)

    assert {street.address(box, 4) for box in (one, other)} == {"10.71.0.0", "10.71.0.1"}
    assert street.reaches(one, other, 4)


def test_each_of_several_subnets_is_used_with_its_own_gateway(street: Street) -> None:
    configs = [
        {"Subnet": "10.72.1.0/24", "Gateway": "10.72.1.9"},
        {"Subnet": "10.72.2.0/24", "Gateway": "10.72.2.9"},
    ]
    network = street.network(Options=options(), EnableIPv6=False, IPAM={"Config": configs})
    one = street.box(network)
    other = street.box(network, IPAMConfig={"IPv4Address": "10.72.2.7"})

    assert routes(one, 4) == ["default via 10.72.1.9 dev eth0"]
    assert routes(other, 4) == ["default via 10.72.2.9 dev eth0"]


# The way out


@FAMILIES
def test_the_world_is_reached_by_the_gateway_that_was_given(street: Street, version: int) -> None:
    box = street.box(street.network(Options=options(), gateway=True))

    assert box.ping(FAR[version], timeout=PASS_SECONDS)
    assert routes(box, version) == [f"default via {ROUTER[version]} dev eth0"]
    assert gateway(street, box, version) == ROUTER[version]


@FAMILIES
def test_without_a_gateway_the_default_route_is_bound_to_the_interface(street: Street, version: int) -> None:
    box = street.box(street.network(Options=options()))

    assert routes(box, version) == ["default dev eth0"]
    assert gateway(street, box, version) == ""
    # Whatever is on the segment is reached at its own address.
    street.router.run(
        ["ip", "addr", "add", {4: "203.0.113.1/32", 6: "2001:db8:3::1/128"}[version], "dev", "eth0"]
    )
    assert box.ping({4: "203.0.113.1", 6: "2001:db8:3::1"}[version], timeout=PASS_SECONDS)


@FAMILIES
def test_an_internal_network_has_no_way_out(street: Street, version: int) -> None:
    network = street.network(Options=options(), gateway=True, Internal=True)
    one, other = street.box(network), street.box(network)

    assert routes(one, version) == []
    assert street.reaches(one, other, version)


def test_a_bridge_takes_the_default_route_over_by_its_priority_and_gives_it_back(street: Street) -> None:
    bridge = street.network(driver="bridge", EnableIPv6=False, IPAM={"Config": [{"Subnet": "10.73.0.0/24"}]})
    box = street.box(street.network(Options=options()))

    street.daemon.connect(bridge, box.name, GwPriority=10)
    during = routes(box, 4), routes(box, 6)
    street.daemon.ask("POST", f"/networks/{bridge}/disconnect", {"Container": box.name})

    assert during == (["default via 10.73.0.1 dev eth1"], ["default dev eth0"])
    assert routes(box, 4) == ["default dev eth0"]


def test_advertisements_of_the_segment_change_nothing_in_a_sandbox(street: Street) -> None:
    box = street.box(street.network(Options=options(), gateway=True))

    assert box.sysctl("net.ipv6.conf.eth0.accept_ra") == "0"


def test_the_host_does_not_forward_for_it(street: Street) -> None:
    keys = ("net.ipv4.conf.up1.forwarding", "net.ipv6.conf.all.forwarding")
    before = [street.host.sysctl(key) for key in keys]

    street.box(street.network(Options=options(), gateway=True))

    assert [street.host.sysctl(key) for key in keys] == before


# Refusals


def test_a_published_port_is_refused(street: Street) -> None:
    network = street.network(Options=options())
    street.daemon.create_sandbox("public")
    ports = {"Ports": [{"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8080}]}

    status, answer = street.daemon.request(
        "POST", f"/networks/{network}/connect", {"Container": "public", "EndpointConfig": ports}
    )
    street.daemon.ask("DELETE", "/cnm/v1/sandboxes/public?force=1")

    assert (status, "driver macvlan has none" in answer["message"]) == (400, True)


def test_a_parent_that_does_not_exist_is_refused(street: Street) -> None:
    status, answer = street.try_network(Options=options("up9"))

    assert status == 400
    assert answer["message"].startswith("parent interface up9 does not exist on the host")


# Crashes, drift and repair


@FAMILIES
def test_a_restart_after_a_kill_changes_nothing(street: Street, version: int) -> None:
    network = street.network(Options=options(), gateway=True)
    one, other = street.box(network), street.box(network)

    street.daemon.kill()
    assert street.reaches(one, other, version)
    street.daemon.start()

    assert street.daemon.findings() == []
    assert street.reaches(one, other, version)
    assert one.ping(FAR[version], timeout=PASS_SECONDS)


def test_what_somebody_deleted_in_a_sandbox_is_found_and_made_again(street: Street) -> None:
    box = street.box(street.network(Options=options(), gateway=True))
    box.run(["ip", "link", "del", "eth0"])

    found = street.daemon.findings()
    street.daemon.ask("POST", "/cnm/v1/repair")

    assert (found[0]["Kind"], found[0]["Problem"]) == ("link", "missing")
    assert street.daemon.findings() == []
    assert box.ping(FAR[4], timeout=PASS_SECONDS)
    assert box.ping(FAR[6], timeout=PASS_SECONDS)


def test_a_namespace_that_was_lost_while_cnmd_was_down_comes_back_with_its_link(street: Street) -> None:
    network = street.network(Options=options(), gateway=True)
    path = street.member(network)
    street.daemon.kill()
    subprocess.run(["umount", "--lazy", path], check=True)

    street.daemon.start()

    assert street.daemon.findings() == []
    ask = ["nsenter", f"--net={path}", "ping", "-c", "1", "-W", "3", FAR[4]]
    assert subprocess.run(ask, capture_output=True, check=False).returncode == 0


def test_a_sub_interface_that_nobody_wants_any_more_goes_at_start_up(street: Street) -> None:
    """Its maker was killed before it could name it: only its group tells."""
    box = street.box(street.network(Options=options()))
    path = street.daemon.ask("GET", f"/cnm/v1/sandboxes/{box.name}")["NetnsPath"]
    street.daemon.kill()
    made = f"ip link add link up1 name cm0 netns {path} group {int(Group.SUB_INTERFACE)} type macvlan mode bridge"
    street.host.run(made.split())

    street.daemon.start()

    assert links(box) == {"lo", "eth0"}


def test_a_parent_that_is_gone_stops_no_other_network_and_is_named(street: Street) -> None:
    street.host.run(["ip", "link", "add", "up3", "type", "veth", "peer", "name", "up4"])
    street.host.run(["ip", "link", "set", "up3", "up"])
    box = street.box(street.network(Options=options("up3")))
    other = street.box(street.network(Options=options(), IPAM={"Config": segment(OTHER_RANGES)}))
    street.host.run(["ip", "link", "del", "up3"])
    other.run(["ip", "link", "set", "eth0", "down"])

    status, answer = street.daemon.request("POST", "/cnm/v1/repair")
    still = {f["Object"] for f in street.daemon.findings() if f["Kind"] == "link"}
    street.daemon.ask(
        "POST", f"/networks/{street.endpoints[box.name]['Network']}/disconnect", {"Container": box.name}
    )

    assert status == 500
    assert "its parent up3 does not exist on the host: bring it back" in answer["message"]
    assert still == {"eth0"}
    assert other.ping(ROUTER[4], timeout=PASS_SECONDS)


# Kinds that not every kernel has


def need(*kinds: str) -> None:
    for kind in kinds:
        if reason := lacks(kind):
            pytest.skip(reason)


def tagged(street: Street, number: int) -> None:
    """The router is on a VLAN of the first segment."""
    street.router.run(
        ["ip", "link", "add", "link", "eth0", "name", f"eth0.{number}", "type", "vlan", "id", str(number)]
    )
    street.router.run(["ip", "addr", "add", "10.74.0.1/24", "dev", f"eth0.{number}"])
    street.router.run(["ip", "link", "set", f"eth0.{number}", "up"])


def vlan_network(street: Street, ip_range: str) -> str:
    config = {"Config": [{"Subnet": "10.74.0.0/24", "IPRange": ip_range}]}
    return street.network(Options=options("up1.10"), EnableIPv6=False, IPAM=config)


def test_a_vlan_is_made_for_the_first_network_and_goes_with_the_last(street: Street) -> None:
    need("vlan")
    tagged(street, 10)
    first, second = vlan_network(street, "10.74.0.64/26"), vlan_network(street, "10.74.0.128/25")
    box = street.box(second)

    street.delete(first)
    assert "up1.10" in links(street.host)
    assert box.ping("10.74.0.1", timeout=PASS_SECONDS)
    street.clear()

    assert "up1.10" not in links(street.host)


def test_a_vlan_that_was_there_before_stays(street: Street) -> None:
    need("vlan")
    street.host.run(["ip", "link", "add", "link", "up1", "name", "up1.10", "type", "vlan", "id", "10"])
    street.host.run(["ip", "link", "set", "up1.10", "up"])

    vlan_network(street, "10.74.0.128/25")
    street.clear()

    assert "up1.10" in links(street.host)
    street.host.run(["ip", "link", "del", "up1.10"])


@FAMILIES
def test_without_a_parent_sandboxes_talk_among_themselves_alone(street: Street, version: int) -> None:
    need("dummy")
    network = street.network(Options={})
    one, other = street.box(network), street.box(network)

    assert street.reaches(one, other, version)
    assert routes(one, version) == []
    assert street.daemon.ask("GET", f"/networks/{network}")["Internal"]


@pytest.mark.parametrize("parent", ["up1.10", ""], ids=["vlan", "dummy"])
def test_a_kind_that_the_kernel_lacks_is_said_and_nothing_is_left(street: Street, parent: str) -> None:
    kind = "vlan" if parent else "dummy"
    if not lacks(kind):
        pytest.skip(f"this kernel has {kind} links")

    status, answer = street.try_network(Options=options(parent) if parent else {})

    assert status == 501
    assert f"this kernel has no {kind} links" in answer["message"]
    assert street.daemon.findings() == []


@FAMILIES
@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_sandboxes_of_an_ipvlan_network_talk(street: Street, mode: str, version: int) -> None:
    need("ipvlan")
    network = street.network(driver="ipvlan", gateway=True, Options=options(ipvlan_mode=mode))
    one, other = street.box(network), street.box(network)

    assert street.reaches(one, other, version)
    assert one.mac("eth0") == street.host.mac("up1")
    via = f"default via {ROUTER[version]} dev eth0" if mode == "l2" else "default dev eth0"
    assert routes(one, version) == [via]


@FAMILIES
def test_private_ipvlan_sandboxes_do_not_talk(street: Street, version: int) -> None:
    need("ipvlan")
    network = street.network(driver="ipvlan", Options=options(ipvlan_flag="private"))
    one, other = street.box(network), street.box(network)

    assert not street.reaches(one, other, version, DROP_SECONDS)
    assert one.ping(ROUTER[version], timeout=PASS_SECONDS)


def test_an_ipvlan_network_is_the_same_after_a_kill(street: Street) -> None:
    need("ipvlan")
    network = street.network(driver="ipvlan", gateway=True, Options=options())
    box = street.box(network)

    street.daemon.kill()
    street.daemon.start()

    assert street.daemon.findings() == []
    assert box.ping(FAR[4], timeout=PASS_SECONDS)


def test_an_ipvlan_kernel_part_that_is_missing_is_said_when_a_sandbox_joins(street: Street) -> None:
    if not lacks("ipvlan"):
        pytest.skip("this kernel has ipvlan links")
    network = street.network(driver="ipvlan", Options=options())
    street.daemon.create_sandbox("hopeful")

    status, answer = street.daemon.request("POST", f"/networks/{network}/connect", {"Container": "hopeful"})
    left = street.daemon.ask("GET", f"/cnm/v1/endpoints?network={network}")
    street.daemon.ask("DELETE", "/cnm/v1/sandboxes/hopeful")

    assert status == 501
    assert answer["message"].startswith("cannot create interface eth0: this kernel has no ipvlan links")
    assert left == []
