"""What is installed fits the code: names of links in the drop-ins, sockets and what cnmd needs in the units."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from cnm.config import Settings
from cnm.drivers.bridge import bridge_name, port_name
from cnm.drivers.sub_interface import parent_name
from cnm.endpoint import Endpoint
from cnm.handover import source_name
from cnm.http import listener
from cnm.network import Network, NetworkState
from cnm.plugin.faces import DRIVERS, socket_path

_ID = "0123456789abcdef" * 4
_NETWORK = Network(id=_ID, name="n", driver="bridge", created="", state=NetworkState.ACTIVE)
_ENDPOINT = Endpoint(id=_ID, name="e", network_id=_ID)
_OURS = (
    bridge_name(_NETWORK),
    port_name(_ENDPOINT),
    source_name(_ENDPOINT),
    parent_name(_NETWORK),
    "cm0123456789ab",  # a sub-interface until it is where it belongs
    "cr10000",  # a link that waits to be deleted, by its index
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


# Units of systemd

_UNITS = _PACKAGING / "systemd"

_OWN_MOUNTS = """
    BindLogSockets BindPaths BindReadOnlyPaths DynamicUser ExecPaths ExtensionDirectories ExtensionImages
    ImportCredential InaccessiblePaths JoinsNamespaceOf LoadCredential LoadCredentialEncrypted LogNamespace
    MountAPIVFS MountFlags MountImages NetworkNamespacePath NoExecPaths PrivateBPF PrivateDevices PrivateIPC
    PrivateMounts PrivateNetwork PrivatePIDs PrivateTmp PrivateUsers ProcSubset ProtectControlGroups ProtectHome
    ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc ProtectSystem
    ReadOnlyPaths ReadWritePaths RestrictNamespaces RootDirectory RootDirectoryStartOnly RootHash RootImage
    RootImageOptions SetCredential SetCredentialEncrypted TemporaryFileSystem User
"""
"""Directives of systemd.exec(5) that give a service mounts, a network or a user of its own, or no namespaces."""


def _directives(unit: str) -> list[tuple[str, str]]:
    lines = (_UNITS / unit).read_text().splitlines()
    return [
        (line.partition("=")[0], line.partition("=")[2]) for line in lines if "=" in line and line[0] != "#"
    ]


def test_cnmd_lives_in_the_hosts_own_mounts_and_network() -> None:
    """What it pins must be seen by all, and dockerd's sandboxes by it."""
    assert not set(_OWN_MOUNTS.split()) & {key for key, _ in _directives("cnmd.service")}


def test_the_socket_unit_has_the_sockets_that_cnmd_serves() -> None:
    settings = Settings()
    served = {settings.socket, *(socket_path(settings.plugin_dir, name) for name in DRIVERS)}

    assert {value for key, value in _directives("cnmd.socket") if key == "ListenStream"} == served


def test_the_sockets_are_for_those_that_cnmd_itself_would_let_in() -> None:
    modes = dict(_directives("cnmd.socket"))

    assert (modes["SocketUser"], modes["SocketGroup"]) == ("root", listener.GROUP)
    assert int(modes["SocketMode"], 8) == listener._MODE
    assert f"g {listener.GROUP} -" in (_PACKAGING / "sysusers/cnm.conf").read_text().splitlines()


@pytest.mark.parametrize("unit", ["cnmd.service", "cnmd.socket"])
def test_cnmd_and_its_sockets_are_there_before_dockerd(unit: str) -> None:
    assert ("Before", "docker.service") in _directives(unit)


_INHERITED = """
    AmbientCapabilities AppArmorProfile CapabilityBoundingSet LockPersonality MemoryDenyWriteExecute NoNewPrivileges
    ProtectClock RestrictAddressFamilies RestrictFileSystems RestrictRealtime RestrictSUIDSGID SecureBits
    SystemCallArchitectures SystemCallFilter SystemCallLog
"""
"""Directives of systemd.exec(5) whose restrictions a process hands down to all that it starts."""


def test_the_launcher_has_whatever_its_containers_may_have() -> None:
    """And its mounts are everybody's: cnmd's sandboxes are seen by it, and what it mounts by conmon and cnmd."""
    restricted = {*_OWN_MOUNTS.split(), *_INHERITED.split()}

    assert not restricted & {key for key, _ in _directives("cnm-launcher.service")}


def test_a_restart_of_the_launcher_takes_no_container_along() -> None:
    said = _directives("cnm-launcher.service")

    assert {("KillMode", "process"), ("Delegate", "yes"), ("RuntimeDirectoryPreserve", "yes")} <= set(said)


def test_the_launcher_comes_after_cnmd_and_runs_on_without_it() -> None:
    said = dict(_directives("cnm-launcher.service"))

    assert "cnmd.service" in said["After"].split()
    assert said["Wants"] == "cnmd.service"
    assert not {"Requires", "BindsTo", "PartOf"} & set(said)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_in_the_units(tmp_path: Path) -> None:
    for unit in _UNITS.iterdir():
        text = unit.read_text().replace("ExecStart=/usr/bin/", "ExecStart=/usr/bin/env ")
        (tmp_path / unit.name).write_text(text)

    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, tmp_path.iterdir())], capture_output=True, text=True
    )

    assert (done.returncode, done.stderr + done.stdout) == (0, "")
