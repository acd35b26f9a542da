"""What the fake dockerd undoes when a call fails, and how it speaks HTTP; the recordings show the same."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_dockerd import (
    Attachment,
    DockerError,
    FakeDockerd,
    PluginError,
    ProtocolViolation,
    Subnet,
    TransportError,
)
from tests.support.fake_dockerd.client import PluginClient, encode
from tests.support.minimal_plugin import MinimalPlugin, serve

VERSIONS = ("20.10", "28.5", "29.7")


@contextmanager
def _dockerd(folder: Path, version: str = "29.7", **more: Any) -> Iterator[tuple[FakeDockerd, MinimalPlugin]]:
    plugin = MinimalPlugin()
    with serve(plugin, folder / "cnm.sock"):
        dockerd = FakeDockerd(version, folder / "cnm.sock", netns=folder / "netns", **more)
        yield dockerd, plugin
        dockerd.daemon_kill()


def _fail(plugin: MinimalPlugin, path: str, said: Any, when: Callable[[dict[str, Any]], bool] = bool) -> None:
    plugin.tamper = lambda p, request, right: said if p == path and when(request) else right


def _methods(dockerd: FakeDockerd, since: str = "") -> list[str]:
    """The methods called, without EndpointOperInfo; after the last `since`."""
    methods = [call.path.rpartition(".")[2] for call in dockerd.calls]
    start = len(methods) - methods[::-1].index(since) if since else 0
    return [method for method in methods[start:] if method != "EndpointOperInfo"]


def test_a_network_that_is_refused_gives_addresses_and_pool_back(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        _fail(plugin, "/NetworkDriver.CreateNetwork", {"Err": "no"})

        with pytest.raises(PluginError, match="no"):
            dockerd.network_create("web", subnets=[Subnet("10.1.0.0/24", auxiliary={"a": "10.1.0.9"})])

        assert _methods(dockerd, "CreateNetwork") == ["ReleaseAddress", "ReleaseAddress", "ReleasePool"]
        assert "web" not in dockerd.networks


def test_a_gateway_that_is_refused_gives_the_pool_back_alone(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        _fail(plugin, "/IpamDriver.RequestAddress", {"Error": "no"})

        with pytest.raises(PluginError):
            dockerd.network_create("web")

        assert _methods(dockerd, "RequestAddress") == ["ReleasePool"]


def test_a_second_family_that_is_refused_gives_the_first_back(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        _fail(plugin, "/IpamDriver.RequestPool", {"Error": "no"}, lambda request: request["V6"])

        with pytest.raises(PluginError):
            dockerd.network_create("web", ipv6=True)

        assert _methods(dockerd, "RequestPool") == ["ReleaseAddress", "ReleasePool"]


def test_an_endpoint_that_is_refused_gives_its_address_back(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        dockerd.network_create("web")
        _fail(plugin, "/NetworkDriver.CreateEndpoint", {"Err": "no"})

        with pytest.raises(PluginError):
            dockerd.run("c1", "web")

        assert _methods(dockerd, "CreateEndpoint") == ["ReleaseAddress"]


def test_a_bad_endpoint_is_deleted(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        dockerd.network_create("web")
        _fail(plugin, "/NetworkDriver.CreateEndpoint", {"Interface": {"MacAddress": "?"}})

        with pytest.raises(ProtocolViolation):
            dockerd.run("c1", "web")

        assert _methods(dockerd, "CreateEndpoint") == ["DeleteEndpoint", "ReleaseAddress"]


def test_a_refused_join_leaves_and_is_deleted(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        dockerd.network_create("web")
        _fail(plugin, "/NetworkDriver.Join", (500, b'{"Err":"no"}'))

        with pytest.raises(PluginError, match="no"):
            dockerd.run("c1", "web")

        assert _methods(dockerd, "Join") == ["Leave", "DeleteEndpoint", "ReleaseAddress"]


def test_a_bad_join_leaves_twice_and_is_deleted(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        dockerd.network_create("web")
        _fail(plugin, "/NetworkDriver.Join", {"Gateway": "?"})

        with pytest.raises(ProtocolViolation):
            dockerd.run("c1", "web")

        assert _methods(dockerd, "Join") == ["Leave", "Leave", "DeleteEndpoint", "ReleaseAddress"]


@pytest.mark.parametrize("version", VERSIONS)
def test_refused_external_connectivity_fails_the_start(version: str, tmp_path: Path) -> None:
    with _dockerd(tmp_path, version) as (dockerd, plugin):
        dockerd.network_create("web")
        _fail(plugin, "/NetworkDriver.ProgramExternalConnectivity", {"Err": "port is already allocated"})

        with pytest.raises(PluginError, match="already allocated"):
            dockerd.run("c1", "web", ports=["80:80"])

        after = _methods(dockerd, "ProgramExternalConnectivity")
        assert after == ["Leave", "DeleteEndpoint", "ReleaseAddress"]
        assert dockerd.containers["c1"].sandbox is None


def test_external_connectivity_need_not_be_implemented(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        dockerd.network_create("web")
        _fail(plugin, "/NetworkDriver.ProgramExternalConnectivity", (404, b"not found"))

        dockerd.run("c1", "web")

        assert dockerd.containers["c1"].sandbox is not None


@pytest.mark.parametrize("method", ["Leave", "DeleteEndpoint", "RevokeExternalConnectivity"])
def test_refusals_on_the_way_out_are_passed_over(method: str, tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        dockerd.network_create("web")
        dockerd.run("c1", "web")
        _fail(plugin, f"/NetworkDriver.{method}", {"Err": "no"})

        dockerd.rm("c1")
        dockerd.network_rm("web")

        assert _methods(dockerd)[-3:] == ["ReleaseAddress", "ReleasePool", "DeleteNetwork"]


def test_a_plugin_that_is_away_does_not_keep_a_container_from_stopping(tmp_path: Path) -> None:
    plugin, path = MinimalPlugin(), tmp_path / "cnm.sock"
    dockerd = FakeDockerd("29.7", path, netns=tmp_path / "netns")
    with serve(plugin, path):
        dockerd.network_create("web")
        dockerd.run("c1", "web")
        dockerd.daemon_kill()

    dockerd.rm("c1")

    assert [call.error != "" for call in dockerd.calls[-4:]] == [True] * 4


@pytest.mark.parametrize("version", VERSIONS)
def test_all_exposed_ports_are_published_on_demand(version: str, tmp_path: Path) -> None:
    with _dockerd(tmp_path, version) as (dockerd, _):
        dockerd.network_create("web")
        dockerd.run("c1", "web", ports=["[::1]:8080-8081:80-81/udp"], expose=["53/udp"], publish_all=True)

        join = next(call.request for call in dockerd.calls if call.path == "/NetworkDriver.Join")
        bindings = join["Options"]["com.docker.network.portmap"] if join else []
        assert [(b["Proto"], b["HostIP"], b["HostPort"], b["Port"]) for b in bindings] == [
            *((17, "::1", 8080, 80), (17, "::1", 8081, 81), (17, "", 0, 53))
        ]


@pytest.mark.parametrize(("version", "released"), [("20.10", "21"), ("28.5", "12"), ("29.7", "12")])
def test_pools_over_the_hosts_routes_are_held_until_one_is_free(
    version: str, released: str, tmp_path: Path
) -> None:
    taken = {"10.77.0.0/24": "1", "10.78.0.0/24": "2"}
    with _dockerd(tmp_path, version, overlaps=taken.__contains__) as (dockerd, _):
        network = dockerd.network_create("web")

        gone = [c.request["PoolID"] for c in dockerd.calls if c.path.endswith("ReleasePool") and c.request]
        assert network.pools[0].subnet == "10.79.0.0/24"
        assert "".join(taken[pool_id.removeprefix("LogLocal/")] for pool_id in gone) == released


@pytest.mark.parametrize(("version", "programmed"), [("20.10", False), ("28.5", False), ("29.7", True)])
def test_an_internal_gateway_is_programmed_at_join_by_29_only(
    version: str, programmed: bool, tmp_path: Path
) -> None:
    with _dockerd(tmp_path, version) as (dockerd, _):
        dockerd.network_create("web", internal=True)
        dockerd.run("c1", "web")

        assert ("ProgramExternalConnectivity" in _methods(dockerd)) is programmed


@pytest.mark.parametrize("version", VERSIONS)
def test_the_next_endpoint_becomes_the_gateway_after_a_disconnect(version: str, tmp_path: Path) -> None:
    with _dockerd(tmp_path, version) as (dockerd, _):
        for name in ("a", "b"):
            dockerd.network_create(name)
        dockerd.run("c1", {"a": Attachment(), "b": Attachment()})

        dockerd.disconnect("a", "c1")

        assert _methods(dockerd)[-5:] == [
            *("RevokeExternalConnectivity", "Leave", "ProgramExternalConnectivity"),
            *("DeleteEndpoint", "ReleaseAddress"),
        ]


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("28.5", [("Program", False), ("Revoke", None), ("Program", True), ("Program", True)]),
        ("29.7", [("Program", None), ("Program", None)]),
    ],
)
def test_an_ipv6_gateway_beside_an_ipv4_one(
    version: str, told: list[tuple[str, bool | None]], tmp_path: Path
) -> None:
    """No recording has this; it is read from dockerd's code."""
    key = "com.docker.network.driver.private.no_proxy_6to4"
    with _dockerd(tmp_path, version) as (dockerd, _):
        dockerd.network_create("four")
        dockerd.network_create("six", ipv4=False, ipv6=True)
        dockerd.run("c1", "four")
        dockerd.connect("six", "c1")

        calls = [c for c in dockerd.calls if c.path.endswith("ExternalConnectivity")]
        found = [
            (c.path[15:].removesuffix("ExternalConnectivity"), (c.request or {}).get("Options", {}).get(key))
            for c in calls
        ]
        assert found == told


def test_after_live_restore_29_cannot_take_the_gateway_from_an_older_endpoint(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, _):
        dockerd.network_create("b")
        dockerd.network_create("a")
        dockerd.run("c1", "b")
        dockerd.daemon_stop(live_restore=True)
        dockerd.daemon_start(live_restore=True)

        with pytest.raises(DockerError, match="not found"):
            dockerd.connect("a", "c1")

        assert _methods(dockerd, "Join") == ["Leave", "DeleteEndpoint", "ReleaseAddress"]


def test_a_gateway_that_is_not_needed_is_not_asked_for(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, plugin):
        plugin.checks_gateways = True
        _fail(plugin, "/NetworkDriver.GwAllocCheck", {"SkipIPv4": True})

        network = dockerd.network_create("web")
        dockerd.network_create("own", subnets=[Subnet("10.1.0.0/24", gateway="10.1.0.1")])

        assert network.pools[0].gateway == ""
        assert dockerd.networks["own"].pools[0].gateway == "10.1.0.1/24"


def test_a_gateway_chosen_with_the_pool_is_not_asked_for(tmp_path: Path) -> None:
    answer = {"PoolID": "p", "Pool": "10.1.0.0/24", "Data": {"com.docker.network.gateway": "10.1.0.254/24"}}
    with _dockerd(tmp_path) as (dockerd, plugin):
        _fail(plugin, "/IpamDriver.RequestPool", answer)

        assert dockerd.network_create("web").pools[0].gateway == "10.1.0.254/24"
        assert "RequestAddress" not in _methods(dockerd)


def test_a_killed_daemon_without_live_restore_deletes_what_it_finds(tmp_path: Path) -> None:
    with _dockerd(tmp_path) as (dockerd, _):
        dockerd.network_create("web")
        dockerd.run("c1", "web")
        dockerd.daemon_kill()

        dockerd.daemon_start()

        assert _methods(dockerd)[-3:] == ["Leave", "DeleteEndpoint", "ReleaseAddress"]


@pytest.mark.parametrize(("version", "there"), [("20.10", False), ("28.5", True), ("29.7", True)])
def test_the_sandbox_key_exists_at_a_starting_containers_join_since_28(
    version: str, there: bool, tmp_path: Path
) -> None:
    found: list[bool] = []
    with _dockerd(tmp_path, version) as (dockerd, plugin):
        dockerd.network_create("web")
        dockerd.network_create("more")
        _watch_keys(plugin, found)

        dockerd.run("c1", "web")
        dockerd.connect("more", "c1")

        assert found == [there, True]


def _watch_keys(plugin: MinimalPlugin, found: list[bool]) -> None:
    def tamper(path: str, request: dict[str, Any], right: Any) -> Any:
        if path == "/NetworkDriver.Join":
            found.append(Path(request["SandboxKey"]).exists())
        return right

    plugin.tamper = tamper


# HTTP


class _Listener:
    """A server that answers by a list of bytes, one for each request; b"" closes the connection instead."""

    def __init__(self, path: Path, *answers: bytes) -> None:
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen()
        self._answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self._answers:
            connection, _ = self._server.accept()
            self.connections += 1
            with connection:
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        while self._answers and (request := connection.recv(65536)):
            self.requests.append(request)
            answer = self._answers.pop(0)
            if not answer:
                return
            connection.sendall(answer)

    def close(self) -> None:
        self._thread.join(10)
        self._server.close()


def _ok(*, close: bool = False) -> bytes:
    more = b"Connection: close\r\n" if close else b""
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n" + more + b"\r\n{}"


@pytest.mark.parametrize(("version", "host"), [("20.10", b""), ("29.7", b"plugin.moby.localhost")])
def test_requests_are_those_of_dockerd_to_the_byte(version: str, host: bytes, tmp_path: Path) -> None:
    listener = _Listener(tmp_path / "cnm.sock", b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")
    dockerd = FakeDockerd(version, tmp_path / "cnm.sock", netns=tmp_path)
    with pytest.raises(PluginError, match="no"):
        dockerd.network_create("web")
    dockerd.daemon_kill()
    listener.close()

    assert listener.requests == [
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: " + host + b"\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: 0\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"
    ]


def test_bodies_are_compact_escaped_like_gos_and_end_in_a_newline() -> None:
    assert encode({"Pool": "<&>", "V6": False, "Options": None}) == (
        b'{"Pool":"\\u003c\\u0026\\u003e","V6":false,"Options":null}\n'
    )


def test_a_connection_is_kept(tmp_path: Path) -> None:
    listener = _Listener(tmp_path / "cnm.sock", _ok(), _ok())
    client = PluginClient(str(tmp_path / "cnm.sock"), "")
    client.post("/x", b"")
    client.post("/x", b"")
    client.close()
    listener.close()

    assert listener.connections == 1


def test_a_connection_closed_while_idle_costs_nothing(tmp_path: Path) -> None:
    listener = _Listener(tmp_path / "cnm.sock", _ok(), b"", _ok(close=True))
    client = PluginClient(str(tmp_path / "cnm.sock"), "")
    client.post("/x", b"1")

    assert client.post("/x", b"2").status == 200
    listener.close()
    assert [request[-1:] for request in listener.requests] == [b"1", b"2", b"2"]


def test_a_connection_that_breaks_is_retried_without_the_body(tmp_path: Path) -> None:
    listener = _Listener(tmp_path / "cnm.sock", b"", _ok(close=True))
    client = PluginClient(str(tmp_path / "cnm.sock"), "", delays=[0.01])

    assert client.post("/x", b"body").status == 200
    listener.close()
    assert b"Content-Length: 0\r\n" in listener.requests[1]


def test_a_plugin_that_is_away_is_an_error_after_the_last_retry(tmp_path: Path) -> None:
    client = PluginClient(str(tmp_path / "cnm.sock"), "", delays=[0.01, 0.01])

    with pytest.raises(TransportError, match="dial"):
        client.post("/x", b"")
