"""/cnm/v1/volumes: what launchers tell cnmd of volumes that all hosts reach."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from cnm.api.wsgi import create_app
from tests.unit.memory_backend import MemoryBackend
from tests.unit.memory_cluster import MemoryCluster

_FAR = {"Driver": "fuse", "Name": "far", "Created": 7, "Labels": {"a": "b"}}


@pytest.fixture
def client() -> Iterator[FlaskClient]:
    with create_app(MemoryBackend(), MemoryCluster()).test_client() as client:
        yield client


def _listed(client: FlaskClient) -> Any:
    return client.get("/cnm/v1/volumes").json


def test_a_volume_is_told_of_and_listed(client: FlaskClient) -> None:
    assert _listed(client) == {"Node": "h1", "Volumes": []}

    told = client.put("/cnm/v1/volumes", json={**_FAR, "Containers": ["c1"]}).json

    shown = {**_FAR, "Options": None, "Users": {}}
    assert told == shown
    assert _listed(client) == {"Node": "h1", "Volumes": [{**shown, "Users": {"h1": ["c1"]}}]}


def test_one_that_is_removed_is_listed_no_more(client: FlaskClient) -> None:
    client.put("/cnm/v1/volumes", json={**_FAR, "New": True})

    for step in ("begin", "removed"):
        body = {"Driver": "fuse", "Name": "far", "Step": step}
        assert client.post("/cnm/v1/volumes/removal", json=body).status_code == 204

    assert _listed(client)["Volumes"] == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            {"Driver": "fuse", "Name": "far", "Step": "later"},
            "invalid step 'later': it is begin, removed or kept",
        ),
        ({"Driver": "", "Name": "far", "Step": "begin"}, "Driver has between 1 and 255 characters"),
        ({"Driver": "fuse", "Name": "x" * 256, "Step": "begin"}, "Name has between 1 and 255 characters"),
    ],
)
def test_what_makes_no_sense_is_refused(client: FlaskClient, body: dict[str, str], said: str) -> None:
    answer = client.post("/cnm/v1/volumes/removal", json=body)

    assert (answer.status_code, answer.json) == (400, {"message": said})
