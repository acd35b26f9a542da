"""Docker Hub is searched as dockerd does it, by a server that plays its part: it answers as its documents say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.certificates import Authority
from tests.support.private_etc import hosts
from tests.support.registry import trust
from tests.support.registry_pair import PROGRAMS, Pair, paired
from tests.support.unpacked import lacking
from tests.support.web_server import Asked, web_server

_HUB = "index.docker.io"
_FOUND = [
    {
        "name": name,
        "description": f"The {name} image",
        "star_count": stars,
        "is_official": official,
        "is_automated": automated,
    }
    for name, stars, official, automated in (
        ("redis", 12000, True, False),
        ("bitnami/redis", 250, False, True),
        ("someone/redis", 3, False, False),
        ("nobody/redis", 0, False, True),
    )
]


def _answer(asked: Asked) -> None:
    parts = urlsplit(asked.path)
    if parts.path == "/v1/search":
        query = parse_qs(parts.query)
        term, count = query["q"][0], int(query.get("n", ["25"])[0])
        found = [each for each in _FOUND if term in str(each["name"])][:count]
        told = {
            "num_pages": 1,
            "num_results": len(found),
            "page": 1,
            "page_size": count,
            "query": term,
            "results": found,
        }
        asked.answer(200, json.dumps(told).encode())
    elif parts.path in ("/v1/_ping", "/v2/"):
        asked.answer(200, b"{}")
    else:
        asked.answer(404, b"{}")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    with hosts({_HUB: "127.0.0.1"}), paired() as pair:
        authority = Authority(pair.place, "hub")
        for name in (_HUB, "docker.io"):
            trust(name, authority)
        with web_server(pair.host, 443, _answer, authority.certify("index", hosts=[_HUB])):
            yield pair


@pytest.mark.parametrize(
    "words",
    [
        ("redis",),
        ("--no-trunc", "redis"),
        ("--limit", "2", "redis"),
        ("--filter", "stars=100", "redis"),
        ("--filter", "is-official=true", "redis"),
        ("--filter", "is-official=false", "redis"),
        ("--filter", "is-automated=true", "redis"),
        ("--filter", "stars=1", "--filter", "is-automated=true", "redis"),
        ("--format", "{{.Name}}: {{.StarCount}} {{.IsOfficial}} {{.IsAutomated}}", "redis"),
        ("nothing-like-it",),
        ("--limit", "101", "redis"),
        ("--filter", "stars=many", "redis"),
        ("--filter", "is-official=perhaps", "redis"),
        ("--filter", "is-official=true", "--filter", "is-official=false", "redis"),
    ],
)
def test_docker_hub_is_searched_alike(pair: Pair, words: tuple[str, ...]) -> None:
    ours, theirs = pair.said("search", *words)

    assert ours == theirs
