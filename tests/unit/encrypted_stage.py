"""Hosts that can encrypt, two of which take part in an encrypted network; tunnels are fake."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.cluster import wireguard_keys
from cnm.cluster.identity import transport_address
from cnm.cluster.records import Node
from tests.unit.cluster_stage import POOL, Host, Hosts, eventually

ENCRYPTED = {"encrypted": ""}


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotations wait for nothing that may be on its way."""
    monkeypatch.setattr(wireguard_keys, "GRACE_SECONDS", 0.0)
    monkeypatch.setattr("cnm.encryption._BUSY_SECONDS", 0.02)


def join_two(hosts: Hosts) -> None:
    """Two of the three have a sandbox in the encrypted network web, and know of each other's tunnels."""
    hosts.all[0].overlay(options=ENCRYPTED)
    hosts.everywhere()
    for host in hosts.all[:2]:
        host.boxed(f"b{host.node.name}")
    eventually(lambda: peers(hosts.all[0]) == {"h2"} and peers(hosts.all[1]) == {"h1"})


def peers(host: Host) -> set[str]:
    """Names of the nodes that it has tunnels to."""
    return {peer.node for peer in host.tunnels.config.peers} if host.tunnels.config else set()


def inside(host: Host) -> str:
    return transport_address(POOL, host.node.name)


def known(host: Host, of: Host) -> Node:
    found = host.resources.cluster.nodes.get(of.node.name)
    assert found is not None
    return found


def key_file(host: Host) -> Path:
    return Path(host.settings.root) / "cluster" / "wireguard.json"
