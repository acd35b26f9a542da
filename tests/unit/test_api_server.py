"""The server on its socket: idle clients and streams hold nobody up, and it ends without losing an answer."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cnm.network import NetworkRequest
from tests.unit.api_served import PATIENCE, answer, follow, request, serving


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def test_clients_that_never_say_a_word_hold_nobody_up(tmp_path: Path) -> None:
    with serving(tmp_path, threads=2) as served:
        silent = [served.dial() for _ in range(20)]

        assert served.ask("GET", "/cnm/v1/health") == (200, {"Status": "ok"})

        for client in silent:
            client.close()


def test_clients_that_keep_their_connections_hold_nobody_up(tmp_path: Path) -> None:
    with serving(tmp_path, threads=2) as served:
        kept = [served.dial() for _ in range(20)]
        for client in kept:
            assert request(client, "GET", "/_ping") == (200, b"OK")

        assert served.ask("GET", "/cnm/v1/health") == (200, {"Status": "ok"})
        for client in kept:
            assert request(client, "GET", "/_ping") == (200, b"OK")
            client.close()


def test_streams_hold_nobody_up_and_all_are_told(tmp_path: Path) -> None:
    with serving(tmp_path, threads=2) as served:
        streams = [follow(served, "/events") for _ in range(20)]

        status, _ = served.ask("POST", "/networks/create", {"Name": "web"})

        assert status == 201
        assert all(b'"create"' in stream.readline() for stream in streams)
        for stream in streams:
            stream.close()


def test_more_clients_than_threads_are_all_answered(tmp_path: Path) -> None:
    answers: list[int] = []
    with serving(tmp_path, threads=3) as served:
        threads = [
            threading.Thread(
                target=lambda n=n: answers.append(
                    served.ask("POST", "/networks/create", {"Name": f"n{n}"})[0]
                )
            )
            for n in range(40)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)

        assert answers == [201] * 40
        assert len(served.ask("GET", "/networks")[1]) == 43


def test_a_client_that_leaves_ends_its_subscription(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        stream = follow(served, "/events")
        assert len(served.backend.bus._listeners) == 1

        stream.close()

        _eventually(lambda: not served.backend.bus._listeners)


def test_a_stream_with_an_end_is_complete_and_closed(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.ask("POST", "/networks/create", {"Name": "web"})

        stream = follow(served, f"/events?since=0&until={time.time()}")

        assert stream.read().count(b"\n") == 1
        assert stream.getheader("Connection") == "close"


def test_a_stream_speaks_http_1_0_too(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.dial() as client:
        served.ask("POST", "/networks/create", {"Name": "web"})
        client.sendall(f"GET /events?since=0&until={time.time()} HTTP/1.0\r\n\r\n".encode())

        content = b"".join(iter(lambda: client.recv(65536), b""))

        head, _, lines = content.partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert lines.startswith(b'{"Type":"network"')


def test_stopping_finishes_the_request_that_has_begun(tmp_path: Path) -> None:
    begun, finish = threading.Event(), threading.Event()
    with serving(tmp_path) as served:
        create = served.backend.create_network

        def slow(wanted: NetworkRequest) -> object:
            begun.set()
            finish.wait(PATIENCE)
            return create(wanted)

        served.backend.create_network = slow  # type: ignore[assignment,method-assign]
        with served.dial() as client:
            body = b'{"Name": "web"}'
            client.sendall(
                b"POST /networks/create HTTP/1.1\r\nHost: cnm\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            begun.wait(PATIENCE)
            stopping = threading.Thread(target=served.server.stop)
            stopping.start()
            finish.set()

            assert answer(client, "POST")[0] == 201
            stopping.join(PATIENCE)


def test_stopping_ends_streams_and_removes_the_socket(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        stream = follow(served, "/events")

        served.stop()

        with pytest.raises(http.client.IncompleteRead):
            stream.read()
        assert not os.path.exists(served.path)


def test_a_server_can_be_stopped_twice_and_its_place_taken(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.stop()
        served.server.stop()

        with serving(tmp_path) as successor:
            assert successor.ask("GET", "/cnm/v1/health")[0] == 200


def test_the_socket_is_for_its_owner_and_group_only(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        mode = os.stat(served.path).st_mode

    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o660


def test_a_descriptor_from_systemd_is_not_taken_for_the_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))

    with serving(tmp_path) as served:
        assert served.ask("GET", "/cnm/v1/health")[0] == 200


def test_an_escaped_slash_and_an_escaped_escape_differ(tmp_path: Path) -> None:
    with serving(tmp_path) as served:
        served.ask("POST", "/networks/create", {"Name": "a%2Fb"})
        served.ask("POST", "/cnm/v1/endpoints", {"Network": "a%2Fb", "Name": "ep"})

        assert served.ask("GET", "/cnm/v1/endpoints/a%252Fb%2Fep")[1]["Name"] == "ep"
        assert served.ask("GET", "/networks/a%2Fb")[0] == 404


def test_a_chunked_body_that_nobody_reads_is_not_the_next_request(tmp_path: Path) -> None:
    with serving(tmp_path) as served, served.dial() as client:
        head = b"POST /nope HTTP/1.1\r\nHost: cnm\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.sendall(head + b"1b\r\nDELETE /networks/x HTTP/1.1\r\n\r\n0\r\n\r\n")

        assert answer(client, "POST")[0] == 404
        assert client.recv(1) == b""


def test_the_sender_of_a_body_that_nobody_reads_comes_to_read_the_refusal(tmp_path: Path) -> None:
    """More than fits into the socket's buffers: it is still being written when the answer is there."""
    with serving(tmp_path) as served, served.dial() as client:
        client.sendall(b"POST /nope HTTP/1.1\r\nHost: cnm\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(64):
            client.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        client.sendall(b"0\r\n\r\n")

        assert answer(client, "POST")[0] == 404


@pytest.mark.parametrize("chunked", [True, False])
def test_the_sender_of_a_body_too_large_comes_to_read_the_refusal(tmp_path: Path, chunked: bool) -> None:
    body = b" " * 3_000_000
    head = b"POST /networks/create HTTP/1.1\r\nHost: cnm\r\nContent-Type: application/json\r\n"
    if chunked:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(body)
    with serving(tmp_path) as served, served.dial() as client:
        client.sendall(head + body)

        status, content = answer(client, "POST")

    assert status == 413
    assert content == b'{"message":"the request\'s body is larger than 1048576 bytes"}'


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 413),
        (b"POST /networks/create HTTP/1.1\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /networks/create HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /%ff%00 HTTP/1.1\r\nConnection: close\r\n\r\n", 404),
    ],
)
def test_what_is_no_request_is_refused_in_the_apis_own_form(tmp_path: Path, said: bytes, status: int) -> None:
    with serving(tmp_path) as served, served.dial() as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)

        refused, content = answer(client)

    assert refused == status
    assert content.startswith(b'{"message":"')
