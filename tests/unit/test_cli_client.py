"""The client of cnmd: every framing of an answer, and one line for every way in which none comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.cli.client import Client, DaemonError, filters, quote
from cnm.errors import InvalidParameter, NotBuilt, Unavailable
from tests.unit.cli_daemon import FakeDaemon, fake_daemon


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with fake_daemon() as daemon:
        yield daemon


@pytest.fixture
def client(daemon: FakeDaemon) -> Client:
    return Client(daemon.socket)


def test_answer_of_known_length_is_decoded(daemon: FakeDaemon, client: Client) -> None:
    daemon.answers("GET", "/thing", {"Name": "wéb"})

    assert client.get("/thing") == {"Name": "wéb"}


def test_answer_larger_than_one_read_is_whole(daemon: FakeDaemon, client: Client) -> None:
    daemon.answers("GET", "/thing", ["x" * 1000] * 500)

    assert client.get("/thing") == ["x" * 1000] * 500


def test_answer_in_chunks_is_joined(daemon: FakeDaemon, client: Client) -> None:
    daemon.sends(
        "GET",
        "/thing",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b'3;x=y\r\n{"a\r\n4\r\n": 1\r\n1\r\n}\r\n0\r\nT: 1\r\n\r\n',
    )

    assert client.get("/thing") == {"a": 1}


def test_answer_without_a_length_ends_with_the_connection(daemon: FakeDaemon, client: Client) -> None:
    daemon.sends("GET", "/thing", b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}')

    assert client.get("/thing") == {"a": 1}


def test_answer_without_content_is_none(daemon: FakeDaemon, client: Client) -> None:
    daemon.sends("DELETE", "/thing", b"HTTP/1.1 204 No Content\r\n\r\n")

    assert client.delete("/thing") is None


def test_body_and_query_arrive_as_given(daemon: FakeDaemon, client: Client) -> None:
    daemon.answers("POST", "/thing", {})

    client.post("/thing", {"Name": "wéb"}, {"filters": '{"a b": "&=é"}'})

    request = daemon.requests[0]
    assert (request.body, request.query) == ({"Name": "wéb"}, {"filters": '{"a b": "&=é"}'})


def test_refusal_carries_status_and_message(daemon: FakeDaemon, client: Client) -> None:
    daemon.refuses("GET", "/thing", 409, "network web is in use")

    with pytest.raises(DaemonError, match="network web is in use") as caught:
        client.get("/thing")

    assert caught.value.status == 409


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"plain words", "plain words"), (b"", "status 500"), (b'{"error": 1}', '{"error": 1}')],
)
def test_refusal_that_is_not_ours_is_shown_as_it_is(
    daemon: FakeDaemon, client: Client, body: bytes, message: str
) -> None:
    daemon.sends("GET", "/thing", b"HTTP/1.1 500 Oh\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with pytest.raises(DaemonError) as caught:
        client.get("/thing")

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 \r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"a"',
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{oops",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xff",
    ],
)
def test_answer_that_makes_no_sense_is_one_line_naming_the_socket(
    daemon: FakeDaemon, client: Client, raw: bytes
) -> None:
    daemon.sends("GET", "/thing", raw)

    with pytest.raises(Unavailable) as caught:
        client.get("/thing")

    assert daemon.socket in str(caught.value)
    assert "\n" not in str(caught.value)


def test_stream_gives_each_line_whole_however_it_is_cut(daemon: FakeDaemon, client: Client) -> None:
    lines = [{"n": number, "text": "x" * (number * 7)} for number in range(30)]
    daemon.streams("/events", *lines)

    assert list(client.stream("/events")) == lines


def test_stream_that_is_refused_raises(daemon: FakeDaemon, client: Client) -> None:
    daemon.refuses("GET", "/events", 400, "invalid filter 'x'")

    with pytest.raises(DaemonError, match="invalid filter 'x'"):
        next(client.stream("/events"))


def test_refusal_before_the_body_was_read_is_still_seen(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()

    def refuse() -> None:
        connection, _ = listener.accept()
        connection.recv(10)
        connection.sendall(b'HTTP/1.1 413 Large\r\nContent-Length: 24\r\n\r\n{"message": "too large"}')
        connection.close()

    server = threading.Thread(target=refuse)
    server.start()

    with listener, pytest.raises(DaemonError, match="too large"):
        Client(str(tmp_path / "s")).post("/thing", "x" * 5_000_000)

    server.join()


def test_missing_daemon_is_named_with_the_remedy() -> None:
    with pytest.raises(
        Unavailable, match=r"cannot connect to cnmd at unix:///nowhere/s: is it running\? start it"
    ):
        Client("/nowhere/s").get("/thing")


def test_socket_that_nobody_listens_on_is_a_missing_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(tmp_path / "s"))

    with pytest.raises(Unavailable, match="is it running"):
        Client(str(tmp_path / "s")).get("/thing")


def test_path_longer_than_a_socket_may_have_is_a_missing_daemon() -> None:
    with pytest.raises(Unavailable, match="is it running"):
        Client("/" + "x" * 200).get("/thing")


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "ssh://host", "http://x"])
def test_scheme_other_than_unix_is_refused_by_name(host: str) -> None:
    with pytest.raises(NotBuilt, match=f"cannot reach {host}: only Unix sockets"):
        Client(host)


@pytest.mark.parametrize("host", ["", "unix://", "/a\0b"])
def test_malformed_host_is_refused(host: str) -> None:
    with pytest.raises(InvalidParameter, match="invalid host"):
        Client(host)


def test_quote_leaves_no_separator_in_a_segment() -> None:
    assert quote("web/fe?x#é &%") == "web%2Ffe%3Fx%23%C3%A9%20%26%25"


def test_filters_have_the_form_of_the_engine_api() -> None:
    assert filters({"name": ["a", "b"], "label": ["x=y"]}) == {
        "filters": '{"name": {"a": true, "b": true}, "label": {"x=y": true}}'
    }
    assert filters({}) == {}
