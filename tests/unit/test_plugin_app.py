"""The plugin protocol over HTTP: bodies, methods, errors and headers as dockerd's client takes them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError, Conflict, Forbidden, InvalidParameter, NotBuilt, NotFound, Unavailable
from cnm.plugin.app import MAX_BODY, Call, PluginApp
from cnm.wire import plugin
from tests.unit.plugin_stage import ENDPOINT, NETWORK, PluginStage, network

TYPE = "application/vnd.docker.plugins.v1.2+json"


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[PluginStage]:
    stage = PluginStage(tmp_path)
    yield stage
    stage.end()


@pytest.mark.parametrize("body", [b"", b"\n", b"{}", b"{}\n", b" {} \r\n"])
def test_an_empty_body_is_an_object_without_keys(stage: PluginStage, body: bytes) -> None:
    answer = stage.ask("/Plugin.Activate", body)

    assert answer.document == {"Implements": ["NetworkDriver", "IpamDriver"]}
    assert answer.body.endswith(b"\n")


def test_answers_have_dockers_type_and_their_length(stage: PluginStage) -> None:
    for path, body in (("/NetworkDriver.GetCapabilities", None), ("/NetworkDriver.Join", b"?")):
        answer = stage.ask(path, body)

        assert answer.headers == {"Content-Type": TYPE, "Content-Length": str(len(answer.body))}


def test_capabilities_are_local_and_ask_for_what_the_plugin_needs(stage: PluginStage) -> None:
    assert stage.say("GetCapabilities") == {
        "Scope": "local",
        "ConnectivityScope": "local",
        "GwAllocChecker": True,
    }
    assert stage.say("IpamDriver.GetCapabilities") == {
        "RequiresMACAddress": False,
        "RequiresRequestReplay": True,
    }
    assert stage.say("GetDefaultAddressSpaces") == {
        "LocalDefaultAddressSpace": "LocalDefault",
        "GlobalDefaultAddressSpace": "GlobalDefault",
    }


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_only_post_asks(stage: PluginStage, method: str) -> None:
    answer = stage.ask("/Plugin.Activate", method=method)

    assert (answer.status, list(answer.document)) == (405, ["Err"])


@pytest.mark.parametrize(
    "path", ["/", "/NetworkDriver.Nothing", "/VolumeDriver.List", "/x" * 5000, "/\xff\n"]
)
def test_a_method_that_is_not_there_is_the_only_404(stage: PluginStage, path: str) -> None:
    answer = stage.ask(path, b"{}")

    assert answer.status == 404
    assert "has no method" in answer.document["Err"]
    assert len(answer.body) < 500


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"null", "expected object, got null"),
        (b"[]", "expected object, got array"),
        (b'{"NetworkID": 7}', "NetworkID: expected string, got integer"),
        (b'{"NetworkID": "a"', "unexpected end of the text"),
        (b"{}{}", "unexpected content after JSON"),
        (b"\xff\xfe", "invalid JSON"),
        (b'{"NetworkID": "\xff"}', "not UTF-8"),
        (b'{"Options": ' + b"[" * 100_000, "invalid JSON"),
        (b'{"Options": ' + b'{"a":' * 100_000, "invalid JSON"),
    ],
)
def test_what_is_no_right_document_is_refused_by_what_is_wrong(
    stage: PluginStage, body: bytes, text: str
) -> None:
    answer = stage.ask("/NetworkDriver.CreateNetwork", body)

    assert answer.status == 400
    assert text in answer.document["Err"]


def test_null_counts_as_absent(stage: PluginStage) -> None:
    wanted = network()
    wanted["Options"]["com.docker.network.generic"] = None
    wanted["Options"]["com.docker.network.internal"] = None
    wanted["Options"]["com.docker.network.enable_ipv6"] = None
    wanted["IPv6Data"] = None
    wanted["IPv4Data"][0]["AuxAddresses"] = None
    stage.say("CreateNetwork", **wanted)
    interface = {"Address": "10.66.0.2/24", "AddressIPv6": None, "MacAddress": None}
    stage.say("CreateEndpoint", NetworkID=NETWORK, EndpointID=ENDPOINT, Interface=interface, Options=None)
    stage.say("Join", NetworkID=NETWORK, EndpointID=ENDPOINT, SandboxKey="/x/y", Options=None)

    stage.say("ProgramExternalConnectivity", NetworkID=NETWORK, EndpointID=ENDPOINT, Options=None)


def test_keys_that_nobody_knows_are_ignored(stage: PluginStage) -> None:
    stage.say("CreateNetwork", **network(), Name="web")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_that_is_too_long_is_refused(stage: PluginStage, announced: bool) -> None:
    body = b" " * (MAX_BODY + 1)
    more = {} if announced else {"CONTENT_LENGTH": ""}

    answer = stage.ask("/Plugin.Activate", body, **more)

    assert answer.status == 413
    assert "larger than" in answer.document["Err"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidParameter("no"), 400),
        (Forbidden("no"), 403),
        (NotFound("no"), 500),
        (Conflict("no"), 409),
        (NotBuilt("no"), 501),
        (Unavailable("no"), 503),
        (CnmError("no"), 500),
        (ValueError("no"), 500),
        (KeyError(), 500),
    ],
)
def test_no_error_of_a_method_is_a_404(stage: PluginStage, error: Exception, status: int) -> None:
    def fail(_body: object) -> None:
        raise error

    stage.face.app = PluginApp("cnm", {"Some.Method": Call(plugin.Record, fail)})
    answer = stage.ask("/Some.Method")

    assert answer.status == status
    assert answer.document["Err"].endswith("no") or "KeyError" in answer.document["Err"]


def test_an_error_is_one_line_of_bounded_length(stage: PluginStage) -> None:
    def fail(_body: object) -> None:
        raise InvalidParameter("first\nsecond\r\n\tthird " + "x" * 100_000)

    stage.face.app = PluginApp("cnm", {"Some.Method": Call(plugin.Record, fail)})
    text = stage.ask("/Some.Method").document["Err"]

    assert text.startswith("first second third xxx")
    assert len(text) < 1100


def test_each_request_knows_its_own_process(stage: PluginStage) -> None:
    seen = []
    both = threading.Barrier(2)

    def look(_body: object) -> None:
        both.wait(10)
        seen.append(app.peer)

    app = PluginApp("cnm", {"Some.Method": Call(plugin.Record, look)})
    stage.face.app = app
    threads = [
        threading.Thread(target=stage.ask, args=("/Some.Method",), kwargs={"X_REMOTE_PID": str(n)})
        for n in (11, 12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(seen) == [11, 12]


def test_what_the_server_itself_refuses_is_an_err_too(stage: PluginStage) -> None:
    with stage.serving():
        head = b"POST /Plugin.Activate HTTP/1.1\r\nHost: \r\nContent-Length: x\r\n\r\n"
        status, document = _exchange(stage, head)

    assert status == 400
    assert list(document) == ["Err"]


def test_a_request_as_20_10_sends_it_is_answered(stage: PluginStage) -> None:
    """Its Host is empty, and it has no Content-Type."""
    with stage.serving():
        head = (
            b"POST /Plugin.Activate HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\n"
            b"Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"
        )
        status, document = _exchange(stage, head)

    assert (status, document["Implements"]) == (200, ["NetworkDriver", "IpamDriver"])


def test_a_chunked_body_is_read(stage: PluginStage) -> None:
    body = json.dumps(network()).encode()
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    with stage.serving():
        head = b"POST /NetworkDriver.CreateNetwork HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        status, document = _exchange(stage, head + chunked)

    assert (status, document) == (200, {})


def _exchange(stage: PluginStage, request: bytes) -> tuple[int, dict[str, object]]:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(stage.socket)
        client.sendall(request)
        response = http.client.HTTPResponse(client, method="POST")
        response.begin()
        return response.status, json.loads(response.read())
