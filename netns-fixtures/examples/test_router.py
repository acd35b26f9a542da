import pytest
from scapy.layers.inet import ICMP, IP
from scapy.layers.l2 import Ether

from netns_fixtures import Status, match, probe_all

pytestmark = pytest.mark.topology("router.toml")


def test_router_forwards_and_keeps_the_source_address(topology):
    topology.server.serve_tcp(80)

    outcome = topology.client.connect_tcp("198.51.100.20", 80)

    assert outcome.answered
    assert outcome.payload == b"server"
    assert outcome.seen == ("192.0.2.10", outcome.local[1])


def test_router_lowers_the_ttl_by_one(topology):
    client, router, server = topology.client, topology.router, topology.server
    with server.capture("eth0") as arriving:
        request = Ether(dst=router.mac("left")) / IP(dst="198.51.100.20", ttl=9) / ICMP()
        client.send(request, "eth0")
        packet = arriving.expect(match("icmp", src="192.0.2.10", dst="198.51.100.20"))

    assert packet[IP].ttl == 8
    assert packet.src == router.mac("right")


def test_blackhole_on_the_router_stops_one_family_only(topology):
    topology.server.serve_udp(53)
    topology.router.run(["ip", "route", "add", "blackhole", "198.51.100.20/32"])

    with topology.server.capture("eth0") as arriving:
        blocked, passed = probe_all(
            [
                lambda: topology.client.send_udp("198.51.100.20", 53),
                lambda: topology.client.send_udp("2001:db8:2::20", 53),
            ]
        )
        arriving.expect_none(match("ip"), until=match("ip6", dst="2001:db8:2::20"))

    assert blocked.status is Status.TIMEOUT
    assert passed.answered
