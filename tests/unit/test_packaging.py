"""The drop-ins that keep networkd and NetworkManager off our links match the names that we give."""

from __future__ import annotations

import configparser
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from cnm.drivers.bridge import bridge_name, port_name
from cnm.endpoint import Endpoint
from cnm.network import Network, NetworkState

_ID = "0123456789abcdef" * 4
_OURS = (
    bridge_name(Network(id=_ID, name="n", driver="bridge", created="", state=NetworkState.ACTIVE)),
    port_name(Endpoint(id=_ID, name="e", network_id=_ID)),
)
_PACKAGING = Path(__file__).parents[2] / "packaging"


def _networkd_patterns() -> list[str]:
    settings = configparser.ConfigParser()
    settings.read(_PACKAGING / "networkd/10-cnm-unmanaged.network")
    return settings["Match"]["Name"].split()


def _network_manager_patterns() -> list[str]:
    settings = configparser.ConfigParser()
    settings.read(_PACKAGING / "NetworkManager/10-cnm-unmanaged.conf")
    devices = settings["keyfile"]["unmanaged-devices+"].split(";")
    return [device.removeprefix("interface-name:") for device in devices]


@pytest.mark.parametrize(
    "patterns", [_networkd_patterns(), _network_manager_patterns()], ids=["networkd", "nm"]
)
@pytest.mark.parametrize("name", _OURS)
def test_our_links_are_left_alone(patterns: list[str], name: str) -> None:
    assert any(fnmatchcase(name, pattern) for pattern in patterns)


@pytest.mark.parametrize(
    "patterns", [_networkd_patterns(), _network_manager_patterns()], ids=["networkd", "nm"]
)
@pytest.mark.parametrize("name", ["eth0", "cvlan0", "docker0", "br-0123456789ab", "wlan0"])
def test_other_links_stay_managed(patterns: list[str], name: str) -> None:
    assert not any(fnmatchcase(name, pattern) for pattern in patterns)
