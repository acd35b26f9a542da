"""What others do to our links, tables and switches is mended by the running daemon, and theirs is left alone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cnmd import Cnmd, running

SECONDS = 30.0
"""For a repair to happen on a loaded machine; it takes about half a second on an idle one."""


def shell(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cnmd]:
    for family in ("iptables", "ip6tables"):
        Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}").write_text("0")
    with running(tmp_path_factory.mktemp("cnmd")) as cnmd:
        cnmd.create_network("web", Options={"com.docker.network.bridge.name": "lan"}, EnableIPv6=True)
        cnmd.create_sandbox("box")
        cnmd.connect("web", "box", Ports=[{"ContainerPort": 80, "HostPort": 8080}])
        yield cnmd


def comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


HARM = {
    "bridge-set-down": ("ip link set lan down", "ip -o link show lan", "UP"),
    "bridge-deleted": ("ip link del lan", "ip -o address show lan", "inet "),
    "address-removed": ("ip address flush dev lan scope global", "ip -o address show lan", "inet "),
    "port-released": (
        "ip link set $(ls /sys/class/net/lan/brif) nomaster",
        "ls /sys/class/net/lan/brif",
        "cv",
    ),
    "element-deleted": (
        "nft flush map inet cnm publish_any4",
        "nft list map inet cnm publish_any4",
        "tcp . 8080",
    ),
    "chain-flushed": ("nft flush chain inet cnm forward", "nft list chain inet cnm forward", "vmap @from"),
    "table-deleted": ("nft delete table bridge cnm", "nft list map bridge cnm ports", "goto guard"),
}


@pytest.mark.parametrize(("harm", "look", "wanted"), HARM.values(), ids=HARM)
def test_harm_done_by_others_is_mended(daemon: Cnmd, harm: str, look: str, wanted: str) -> None:
    def mended() -> bool:
        looked = subprocess.run(["sh", "-ec", look], capture_output=True, text=True)
        return looked.returncode == 0 and wanted in looked.stdout

    assert mended()

    shell(harm)

    assert comes_true(mended)
    assert comes_true(lambda: daemon.findings() == [])


def test_rules_of_the_administrator_survive_a_repair(daemon: Cnmd) -> None:
    shell("nft add rule inet cnm admin ip saddr 198.51.100.0/24 counter drop")

    shell("nft flush chain inet cnm forward")

    assert comes_true(lambda: "vmap @from" in shell("nft list chain inet cnm forward"))
    assert "198.51.100.0/24" in shell("nft list chain inet cnm admin")
    shell("nft flush chain inet cnm admin")


def test_new_interface_of_the_host_forwards_answers_too(daemon: Cnmd) -> None:
    shell("ip link add late0 type veth peer name late1")

    forwarding = Path("/proc/sys/net/ipv4/conf/late0/forwarding")

    assert comes_true(lambda: forwarding.read_text() == "1\n")
    shell("ip link del late0")
    assert comes_true(lambda: daemon.findings() == [])


def test_br_netfilter_switched_on_is_followed(daemon: Cnmd) -> None:
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    port = shell("ls /sys/class/net/lan/brif").strip()
    hairpin = Path(f"/sys/class/net/lan/brif/{port}/hairpin_mode")
    assert hairpin.read_text() == "0\n"

    switch.write_text("1")

    assert comes_true(lambda: hairpin.read_text() == "1\n")
    switch.write_text("0")
    assert comes_true(lambda: hairpin.read_text() == "0\n")


def test_verbs_by_themselves_need_no_repair(daemon: Cnmd) -> None:
    assert comes_true(lambda: daemon.findings() == [])
    before = daemon.log.count("repaired")

    for number in range(20):
        daemon.create_sandbox(f"passing{number}")
        daemon.connect("web", f"passing{number}")
    for number in range(20):
        daemon.ask("DELETE", f"/cnm/v1/sandboxes/passing{number}?force=1")

    assert daemon.findings() == []
    assert daemon.log.count("repaired") == before


def test_foreign_tables_and_links_are_left_alone(daemon: Cnmd) -> None:
    shell("nft add table inet theirs; nft add chain inet theirs mine; ip link add theirs0 type bridge")

    shell("nft flush map inet cnm publish_any4")

    assert comes_true(lambda: "8080" in shell("nft list map inet cnm publish_any4"))
    assert "chain mine" in shell("nft list table inet theirs")
    assert "theirs0" in shell("ip -o link show theirs0")
    shell("nft delete table inet theirs; ip link del theirs0")
