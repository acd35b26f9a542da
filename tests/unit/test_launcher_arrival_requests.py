"""What a launcher takes from those of other hosts: each step of a move from the node whose certificate began it."""

from __future__ import annotations

import io
import json
import os
import ssl
import stat
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from cnm.cluster import certificates
from cnm.cluster.certificates import Subject
from cnm.events import EventBus
from cnm.http.server import PATIENCE, PEER_CERTIFICATE
from cnm.launcher.cnmd import Cnmd
from cnm.launcher.moving.arriving import Arriving
from cnm.launcher.moving.frames import End, Node, packed
from cnm.launcher.moving.listener import PREFIX, ArrivalRequests
from cnm.launcher.moving.peers import ClusterPeers
from cnm.launcher.volumes.volumes import Volumes

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MOVE = "ab" * 32
_USERS = {"h1": "h1.00000001", "h3": "h3.00000001", "nobody": "root"}
_TOP = Node(path=b"", mode=stat.S_IFDIR | 0o755, user=os.getuid(), group=os.getgid(), accessed=1, modified=2)
_EMPTY = packed(_TOP) + packed(End(names=0))
"""The frames of a volume without files."""


class _Cnmd:
    """Knows two nodes."""

    def ask(self, _method: str, _path: str) -> dict[str, Any]:
        return {"Nodes": [{"Name": name, "Address": "", "Fingerprint": ""} for name in ("h1", "h3")]}


class Stage:
    def __init__(self, folder: Path) -> None:
        self.place = folder / "volumes"
        self.place.mkdir()
        authority = certificates.new_authority("ab" * 32)
        self.certificates = {
            name: certificates.issue(
                authority, certificates.request(certificates.new_key(), "x"), Subject(user)
            )
            for name, user in _USERS.items()
        }
        self.arriving = Arriving(str(self.place), Volumes(str(self.place), EventBus()))
        peers = ClusterPeers(str(folder), cast(Cnmd, _Cnmd()), 0)
        self.app = ArrivalRequests(self.arriving, peers).app()

    def asks(self, node: str, step: str, body: bytes = b'{"name": "data"}', method: str = "POST") -> int:
        """The status; `node` "" shows no certificate."""
        environ = {
            PATIENCE: nullcontext,
            "REQUEST_METHOD": method,
            "PATH_INFO": f"{PREFIX}{MOVE}/{step}",
            "wsgi.input": io.BytesIO(body),
        }
        if node:
            environ[PEER_CERTIFICATE] = ssl.PEM_cert_to_DER_cert(self.certificates[node])
        statuses: list[str] = []
        answer = self.app(
            cast("WSGIEnvironment", environ),
            cast("StartResponse", lambda status, headers: statuses.append(status)),
        )
        self.said = json.loads(b"".join(answer))
        return int(statuses[0][:3])


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_the_source_alone_goes_on_with_a_move(stage: Stage) -> None:
    assert stage.asks("h1", "offer") == 200
    assert stage.asks("h3", "content", _EMPTY) == 404
    assert stage.asks("h1", "content", _EMPTY) == 200
    assert stage.asks("h3", "commit") == 404
    assert stage.asks("h3", "settle") == 403
    assert stage.asks("h1", "commit") == 200
    assert (stage.asks("h3", "origin"), stage.said) == (200, {"yours": False})

    assert stage.asks("h3", "confirm") == 403
    assert stage.said == {"message": f"move {MOVE[:12]} is not of h3"}

    assert sorted(os.listdir(stage.place)) == [f".arrived-{MOVE}", "data"]
    assert stage.asks("h1", "confirm") == 200
    assert os.listdir(stage.place) == ["data"]
    assert (stage.asks("h1", "settle"), stage.said) == (200, {"arrived": True})
    assert (stage.asks("h1", "origin"), stage.said) == (200, {"yours": True})


def test_who_shows_no_certificate_asks_nothing(stage: Stage) -> None:
    for step in ("offer", "content", "commit", "settle", "confirm", "origin"):
        assert stage.asks("", step) == 403
    assert os.listdir(stage.place) == []


def test_a_certificate_that_is_no_node_s_is_good_for_nothing(stage: Stage) -> None:
    for step in ("offer", "content", "commit", "settle", "confirm", "origin"):
        assert stage.asks("nobody", step) == 403
        assert stage.said == {"message": "the certificate of 'root' is no node's"}


def test_there_are_no_other_pages(stage: Stage) -> None:
    assert stage.asks("h1", "offer", method="GET") == 404
    assert stage.asks("h1", "remove") == 404
    assert stage.said == {"message": "page not found"}
