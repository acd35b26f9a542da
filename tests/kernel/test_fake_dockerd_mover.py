"""The fake dockerd in real namespaces: links go into the sandbox as osl moves them, and come back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_dockerd import Attachment, FakeDockerd, NamespaceMover, ProtocolViolation, Rule
from tests.support.fake_dockerd.mover import run_here
from tests.support.fake_dockerd.versions import VERSIONS
from tests.support.minimal_plugin import MinimalPlugin, serve


class VethPlugin(MinimalPlugin):
    """The minimal plugin with links: a bridge per network, a veth pair per endpoint."""

    def _CreateNetwork(self, request: dict[str, Any]) -> Any:
        bridge = f"br{request['NetworkID'][:8]}"
        run_here(["ip", "link", "add", bridge, "type", "bridge"])
        for data in [*request["IPv4Data"], *request["IPv6Data"]]:
            more = ["nodad"] if ":" in data["Gateway"] else []
            run_here(["ip", "addr", "add", data["Gateway"], "dev", bridge, *more])
        run_here(["ip", "link", "set", bridge, "up"])
        return super()._CreateNetwork(request)

    def _DeleteNetwork(self, request: dict[str, Any]) -> Any:
        run_here(["ip", "link", "del", f"br{request['NetworkID'][:8]}"])
        return {}

    def _Join(self, request: dict[str, Any]) -> Any:
        answer = super()._Join(request)
        assert answer is not None
        name, host = answer["InterfaceName"]["SrcName"], f"vh{request['EndpointID'][:8]}"
        run_here(["ip", "link", "add", name, "type", "veth", "peer", "name", host])
        run_here(["ip", "link", "set", host, "up", "master", f"br{request['NetworkID'][:8]}"])
        return answer

    def _DeleteEndpoint(self, request: dict[str, Any]) -> Any:
        run_here(["ip", "link", "del", f"vc{request['EndpointID'][:8]}"])
        return {}


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(run_here(["ip", "-j", "link"]))}


@contextmanager
def _dockerd(version: str, folder: Path) -> Iterator[FakeDockerd]:
    before = _links()
    with serve(VethPlugin(), folder / "cnm.sock"):
        dockerd = FakeDockerd(
            version,
            folder / "cnm.sock",
            netns=folder / "netns",
            mover=NamespaceMover(VERSIONS[version]),
            link_exists=lambda name: name in _links(),
        )
        yield dockerd
        for name in list(dockerd.containers):
            dockerd.rm(name)
        for name in list(dockerd.networks):
            dockerd.network_rm(name)
        dockerd.daemon_kill()
    assert _links() == before


def _inside(dockerd: FakeDockerd, name: str, *command: str) -> str:
    sandbox = dockerd.containers[name].sandbox
    assert sandbox is not None
    return run_here(["nsenter", f"--net={sandbox.key}", *command])


@pytest.mark.parametrize("version", ["20.10", "29.7"])
def test_a_container_reaches_its_gateways(version: str, tmp_path: Path) -> None:
    with _dockerd(version, tmp_path) as dockerd:
        dockerd.network_create("web", ipv6=True, subnets=["10.61.0.0/24", "fd61::/64"])
        dockerd.run("c1", "web", attachment=Attachment(mac="02:00:00:00:00:61"))

        _inside(dockerd, "c1", "ping", "-c1", "-W2", "10.61.0.1")
        _inside(dockerd, "c1", "ping", "-c1", "-W2", "fd61::1")

        assert "default via 10.61.0.1 dev eth0" in _inside(dockerd, "c1", "ip", "route")
        assert "02:00:00:00:00:61" in _inside(dockerd, "c1", "ip", "link", "show", "eth0")


@pytest.mark.parametrize(("version", "second"), [("20.10", "eth2"), ("29.7", "eth1")])
def test_links_are_numbered_as_the_version_does(version: str, second: str, tmp_path: Path) -> None:
    with _dockerd(version, tmp_path) as dockerd:
        dockerd.network_create("a")
        dockerd.network_create("b")
        dockerd.run("c1", "a")
        dockerd.connect("b", "c1")
        dockerd.disconnect("b", "c1")
        dockerd.connect("b", "c1")

        names = {link["ifname"] for link in json.loads(_inside(dockerd, "c1", "ip", "-j", "link"))}
        assert names == {"lo", "eth0", second}


def test_the_default_route_moves_with_the_gateway(tmp_path: Path) -> None:
    with _dockerd("29.7", tmp_path) as dockerd:
        dockerd.network_create("b", subnets=["10.62.0.0/24"])
        dockerd.network_create("a", subnets=["10.61.0.0/24"])
        dockerd.run("c1", "b")
        assert "default via 10.62.0.1" in _inside(dockerd, "c1", "ip", "route")

        dockerd.connect("a", "c1")
        assert "default via 10.61.0.1" in _inside(dockerd, "c1", "ip", "route")

        dockerd.disconnect("a", "c1")
        assert "default via 10.62.0.1" in _inside(dockerd, "c1", "ip", "route")


def test_a_link_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    with serve(MinimalPlugin(), tmp_path / "cnm.sock"):
        dockerd = FakeDockerd(
            "29.7",
            tmp_path / "cnm.sock",
            netns=tmp_path / "netns",
            mover=NamespaceMover(VERSIONS["29.7"]),
            link_exists=lambda name: name in _links(),
        )
        dockerd.network_create("web")

        with pytest.raises(ProtocolViolation) as violation:
            dockerd.run("c1", "web")

        dockerd.daemon_kill()
    assert violation.value.rule is Rule.LINK_EXISTS
    assert not list((tmp_path / "netns").iterdir())
