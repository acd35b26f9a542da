"""/cnm/v1/cluster: what its requests take and answer, and how a join tells its steps."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnm.errors import Forbidden, Unavailable
from tests.unit.api_client import Api
from tests.unit.api_served import Served, serving
from tests.unit.memory_cluster import STEPS

JOIN = {"Token": "CNM1-a-b", "Host": "192.0.2.1"}


@pytest.fixture
def api() -> Api:
    return Api()


def lines(api: Api, body: object) -> list[dict[str, str]]:
    """Of the answer to a join."""
    response = api.http.post("/cnm/v1/cluster/join", data=json.dumps(body), content_type="application/json")
    assert response.status_code == 200
    assert response.mimetype == "application/x-ndjson"
    return [json.loads(line) for line in response.data.splitlines()]


def test_init_answers_how_others_join(api: Api) -> None:
    answer = api.post("/cnm/v1/cluster/init", {"Name": "h1"})

    assert answer.status == 200
    assert answer.data["Name"] == "h1"
    assert answer.data["Join"] == {
        "Token": "CNM1-token-3600",
        "Host": "192.0.2.1",
        "Expires": "2026-01-02T03:04:05Z",
    }
    assert api.post("/cnm/v1/cluster/init").status == 409


def test_tokens_are_listed_and_removed(api: Api) -> None:
    (known,) = api.get("/cnm/v1/cluster/tokens").data
    assert known["Id"] == "ab" * 32

    assert api.delete("/cnm/v1/cluster/tokens/abab").status == 204

    assert api.get("/cnm/v1/cluster/tokens").data == []
    assert api.delete("/cnm/v1/cluster/tokens/abab").status == 404


def test_a_join_tells_its_steps(api: Api) -> None:
    assert lines(api, JOIN) == [{"Progress": step, "Error": ""} for step in STEPS]
    assert api.get("/cnm/v1/cluster").data["Name"] == "h2"


def test_a_join_that_fails_at_once_is_an_error_like_any_other(api: Api) -> None:
    api.cluster.refusal = Unavailable("cannot reach 192.0.2.1:2378")

    answer = api.post("/cnm/v1/cluster/join", JOIN)

    assert (answer.status, answer.message) == (503, "cannot reach 192.0.2.1:2378")


def test_a_join_that_fails_later_says_so_in_its_last_line(api: Api) -> None:
    api.cluster.refusal, api.cluster.late = Forbidden("the join token is wrong"), True

    assert lines(api, JOIN)[-1] == {"Progress": "", "Error": "the join token is wrong"}


def test_a_join_that_breaks_tells_no_traceback(api: Api) -> None:
    api.cluster.refusal, api.cluster.late = ValueError("of\nall things"), True

    assert lines(api, JOIN)[-1] == {"Progress": "", "Error": "internal error: of all things"}


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("init", {"Nmae": "h1"}, "unknown key 'Nmae'"),
        ("init", {"VxlanPort": "x"}, "VxlanPort: expected integer, got string"),
        ("join", {"Token": "t"}, "Host is required"),
        ("join", {"Host": "h"}, "Token is required"),
        ("token", {"Ttl": 1.5}, "Ttl: expected integer, got number"),
        ("snapshot", {}, "Path is required"),
        ("recover", {"Force": "yes"}, "Force: expected boolean, got string"),
    ],
)
def test_a_wrong_body_is_refused_by_its_key(api: Api, path: str, body: object, problem: str) -> None:
    answer = api.post(f"/cnm/v1/cluster/{path}", body)

    assert answer.status == 400
    assert problem.lower() in answer.message.lower()


def test_nodes_are_removed_by_name(api: Api) -> None:
    api.post("/cnm/v1/cluster/init", {"Name": "h1"})
    api.cluster.others = {"h2"}

    assert api.delete("/cnm/v1/cluster/nodes/h9").status == 404
    assert api.delete("/cnm/v1/cluster/nodes/h2").status == 403
    assert api.delete("/cnm/v1/cluster/nodes/h2?force=1").status == 204
    assert [node["Name"] for node in api.get("/cnm/v1/cluster").data["Nodes"]] == ["h1"]


def test_keys_of_encrypted_networks_are_replaced_and_tunnels_are_shown(api: Api) -> None:
    api.post("/cnm/v1/cluster/init", {"Name": "h1"})
    api.cluster.others = {"h2"}
    api.backend.tunnel_states = {"h2": "up"}

    assert api.post("/cnm/v1/cluster/rotate", {"Keys": True}).status == 204

    assert api.backend.rotations == 1
    nodes = api.get("/cnm/v1/cluster").data["Nodes"]
    assert {node["Name"]: node["Tunnel"] for node in nodes} == {"h1": "", "h2": "up"}


def test_what_needs_a_cluster_is_refused_without_one(api: Api) -> None:
    for path, body in (
        ("leave", {}),
        ("token", {}),
        ("rotate", {}),
        ("snapshot", {"Path": "/x"}),
        ("restore", {"Path": "/x"}),
        ("recover", {"Force": True}),
    ):
        answer = api.post(f"/cnm/v1/cluster/{path}", body)
        assert (answer.status, answer.message) == (409, "this host is in no cluster"), path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path) as served:
        yield served


def test_a_step_is_heard_of_before_the_join_ends(served: Served) -> None:
    heard = threading.Event()
    steps = iter(STEPS)

    def join(_asked: object, progress: object) -> None:
        progress(next(steps))  # type: ignore[operator]
        assert heard.wait(10)

    served.cluster.join = join  # type: ignore[method-assign,assignment]
    with served.dial() as client:
        body = json.dumps(JOIN).encode()
        head = "POST /cnm/v1/cluster/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        received = b""
        while STEPS[0].encode() not in received:
            piece = client.recv(4096)
            assert piece
            received += piece
        heard.set()
