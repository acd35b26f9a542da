"""What a topology file may say, and how its mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netns_fixtures import (
    BridgeSpec,
    EndSpec,
    HostSpec,
    LinkSpec,
    RouteSpec,
    TopologyError,
    TopologySpec,
    load,
    parse,
)

EVERYTHING = """
[hosts.switch]
uplink = "box"
forward = true
loopback = ["203.0.113.1/32"]
routes = [{ destination = "198.51.100.0/24", via = "192.0.2.2", interface = "br0" }]
sysctls = { "net.ipv4.conf.all.rp_filter" = 1 }
bridges.br0 = { addresses = ["192.0.2.1/24"], mac = "02:00:00:00:00:01", mtu = 1400 }

[hosts.box]

[[links]]
mtu = 1300
ends = [
  { host = "switch", interface = "port1", bridge = "br0" },
  { host = "box", interface = "eth0", addresses = ["192.0.2.2/24"], mac = "02:00:00:00:00:02" },
]
"""


def link(**changes: Any) -> dict[str, Any]:
    ends = [{"host": "a", "interface": "eth0"}, {"host": "b", "interface": "eth0"}]
    return {"ends": ends} | changes


def test_every_key_of_a_file_arrives_in_the_description(tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    path.write_text(EVERYTHING)

    assert load(path) == TopologySpec(
        hosts={
            "switch": HostSpec(
                uplink="box",
                forward=True,
                loopback=("203.0.113.1/32",),
                routes=(RouteSpec("198.51.100.0/24", via="192.0.2.2", interface="br0"),),
                sysctls={"net.ipv4.conf.all.rp_filter": 1},
                bridges={"br0": BridgeSpec(("192.0.2.1/24",), mac="02:00:00:00:00:01", mtu=1400)},
            ),
            "box": HostSpec(),
        },
        links=(
            LinkSpec(
                ends=(
                    EndSpec("switch", "port1", bridge="br0"),
                    EndSpec("box", "eth0", addresses=("192.0.2.2/24",), mac="02:00:00:00:00:02"),
                ),
                mtu=1300,
            ),
        ),
    )


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        ({"host": {}}, 'the topology: unknown key "host"; known keys are hosts, links'),
        ({"hosts": {"a": {"adresses": []}}}, 'host "a": unknown key "adresses"; known keys are uplink'),
        (
            {"hosts": {"a": {"bridges": {"br0": {"ports": []}}}}},
            'host "a": bridge "br0": unknown key "ports"',
        ),
        ({"hosts": {"a": {"routes": [{"to": "default"}]}}}, 'host "a": route: unknown key "to"'),
        ({"hosts": {"a": {"routes": [{"via": "192.0.2.1"}]}}}, 'host "a": route: "destination" is missing'),
        ({"hosts": {"a": {"forward": 1}}}, 'host "a": "forward" must be true or false, not 1'),
        ({"hosts": {"a": {"uplink": True}}}, 'host "a": "uplink" must be a string, not True'),
        ({"hosts": {"a": {"loopback": "192.0.2.1/32"}}}, 'host "a": "loopback" must be a list'),
        ({"hosts": {"a": {"loopback": [1]}}}, 'host "a": "loopback" must be a list of strings'),
        ({"hosts": {"a": {"sysctls": {"net": {"ipv4": {}}}}}}, 'sysctl "net" is a table; put quotes around'),
        ({"hosts": {"a": {"sysctls": {"net.x": True}}}}, 'sysctl "net.x" must be a string or a whole number'),
        ({"hosts": {"a": []}}, 'host "a": must be a table, not []'),
        ({"hosts": []}, 'the topology: "hosts" must be a table'),
        ({"links": {}}, 'the topology: "links" must be a list'),
        ({"links": [{"ends": []}]}, "link 1: has 0 ends; give exactly two under `ends`"),
        ({"links": [link(mtu="big")]}, "link 1: \"mtu\" must be a whole number, not 'big'"),
        ({"links": [link(mtu=True)]}, 'link 1: "mtu" must be a whole number, not True'),
        ({"links": [link(), {"ends": [{"interface": "eth0"}]}]}, 'link 2: end: "host" is missing'),
        ({"links": [link(ends=[{"host": "a", "interface": "x", "vlan": 5}])]}, 'unknown key "vlan"'),
    ],
)
def test_a_malformed_table_is_refused_by_name(tables: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TopologyError) as refusal:
        parse(tables)

    assert complaint in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [b"[hosts", b"\xff\xfe", b"[hosts.a]\nspeed = 1"])
def test_a_complaint_about_a_file_names_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.toml"
    path.write_bytes(content)

    with pytest.raises(TopologyError, match=f"topology file {path}"):
        load(path)


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=r"none\.toml: cannot be read"):
        load(tmp_path / "none.toml")
