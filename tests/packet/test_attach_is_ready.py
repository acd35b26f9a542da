"""When an attach has returned, the first packet passes: the kernel has turned the bridge port on by then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from netns_fixtures import Topology
from tests.packet.lab import OPEN, Lab, running_lab, world

ATTACHES = 60
"""Of those that nobody waited for, one in twelve returned too early on two idle processors."""
FORWARDING = 3
"""BR_STATE_FORWARDING of <linux/if_bridge.h>."""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with (
        Topology(world()) as topology,
        running_lab(
            topology, tmp_path_factory.mktemp("cnmd"), br_netfilter=False, networks=("nat",)
        ) as running,
    ):
        yield running


def link_state(links: list[Any], name: str) -> tuple[str, int | None]:
    """Operational state, and that of the bridge port; from a listing, since asking for one link turns it on."""
    (link,) = (each for each in links if each.get("ifname") == name)
    port = link.get("linkinfo").get("IFLA_INFO_SLAVE_DATA")
    return link.get("operstate"), port.get("IFLA_BRPORT_STATE") if port else None


def test_the_bridge_and_its_port_are_on_when_connect_returns(lab: Lab) -> None:
    lab.daemon.create_sandbox("comes-and-goes")
    with lab.host.netlink() as netlink:
        for _ in range(ATTACHES):
            network = lab.daemon.create_network("comes-and-goes")
            endpoint = lab.daemon.connect("comes-and-goes", "comes-and-goes")
            links = list(netlink.get_links())

            assert link_state(links, f"cv{endpoint['Id'][:12]}") == ("UP", FORWARDING)
            assert link_state(links, f"cnm-{network[:11]}")[0] == "UP"
            lab.daemon.ask("POST", f"/networks/{network}/disconnect", {"Container": "comes-and-goes"})
            lab.daemon.ask("DELETE", f"/networks/{network}")


@pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])
def test_the_first_datagram_of_a_new_endpoint_is_answered(lab: Lab, version: int) -> None:
    """In less than the second after which ARP and ND ask again."""
    box = lab.sandbox(f"newcomer-{version}")
    for _ in range(ATTACHES):
        lab.daemon.connect("nat", box.name)
        outcome = box.send_udp(lab.address("nat", "a", version), OPEN, timeout=0.9)
        lab.daemon.ask("POST", "/networks/nat/disconnect", {"Container": box.name})

        assert outcome.answered
