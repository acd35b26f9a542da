"""The same requests to the launcher and to a real dockerd 20.10: what they answer is the same, but for what is listed.

Where Docker 28 answers otherwise than 20.10, the newest is what ours is like, and the list says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.dockerd import PROGRAMS, start_dockerd
from tests.support.engine_pair import Pair, normalised
from tests.support.launcher import Launcher
from tests.support.launcher_root import make_root, pack
from tests.support.unpacked import lacking

pytestmark = pytest.mark.skipif(bool(lacking(*PROGRAMS)), reason=lacking(*PROGRAMS))


@pytest.fixture(scope="module")
def pair(launcher: Launcher, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both with the image busybox."""
    place = tmp_path_factory.mktemp("d")
    with start_dockerd(place) as dockerd:
        archive = pack(make_root(place / "image"), place / "image.tar")
        dockerd.docker("import", "--change", 'CMD ["sh"]', str(archive), "busybox")
        yield Pair(launcher.socket, str(dockerd.socket))


# Wrong requests


@pytest.fixture(scope="module")
def states(pair: Pair) -> Pair:
    """With a container in each state: created, running, exited, paused, and one on a terminal."""
    for name, more in (
        ("created", {}),
        ("running", {}),
        ("exited", {"Cmd": ["true"]}),
        ("paused", {}),
        ("tty", {"Tty": True, "OpenStdin": True}),
    ):
        pair.do(
            "POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": ["sleep", "1000"], **more}
        )
        if name != "created":
            pair.do("POST", f"/containers/{name}/start")
    pair.do("POST", "/containers/exited/wait")
    pair.do("POST", "/containers/paused/pause")
    return pair


class Case(NamedTuple):
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + ("" if self.body is None else f" {self.body}"[:60])


_JSON = {"Content-Type": "application/json"}


def _posts(path: str, *bodies: bytes) -> list[Case]:
    return [Case("POST", path, body, _JSON) for body in bodies]


def _filters(path: str, *texts: str) -> list[Case]:
    joint = "&" if "?" in path else "?"
    method = "POST" if path.endswith("prune") else "GET"
    return [Case(method, f"{path}{joint}filters={text}") for text in texts]


_UNKNOWN = [
    *(
        Case("GET", f"/containers/nosuch/{verb}")
        for verb in ("json", "top", "changes", "logs?stdout=1", "stats", "export", "archive?path=/")
    ),
    *(
        Case("POST", f"/containers/nosuch/{verb}")
        for verb in (
            "start",
            "stop",
            "restart",
            "kill",
            "pause",
            "unpause",
            "wait",
            "attach",
            "rename?name=x",
        )
    ),
    Case("POST", "/containers/nosuch/resize?h=1&w=1"),
    Case("POST", "/containers/nosuch/exec", {"Cmd": ["true"]}),
    Case("POST", "/containers/nosuch/update", {}),
    Case("DELETE", "/containers/nosuch"),
    Case("PUT", "/containers/nosuch/archive?path=/", b""),
    Case("POST", "/exec/nosuch/start", {}),
    Case("GET", "/exec/nosuch/json"),
    Case("POST", "/exec/nosuch/resize?h=1&w=1"),
    Case("GET", "/images/nosuch/json"),
    Case("GET", "/images/nosuch/history"),
    Case("DELETE", "/images/nosuch"),
    Case("POST", "/images/nosuch/tag?repo=x&tag=y"),
    Case("GET", "/networks/nosuch"),
    Case("DELETE", "/networks/nosuch"),
    Case("POST", "/networks/nosuch/connect", {"Container": "running"}),
    Case("POST", "/networks/nosuch/disconnect", {"Container": "running"}),
    Case("POST", "/networks/bridge/connect", {"Container": "nosuch"}),
    Case("POST", "/networks/bridge/disconnect", {"Container": "nosuch"}),
    Case("GET", "/volumes/nosuch"),
    Case("GET", "/plugins/nosuch/json"),
    Case("GET", "/nosuch"),
    Case("POST", "/containers/json"),
    Case("GET", "/v9.99/info"),
    Case("GET", "/v1.10/info"),
]
_STATES = [
    *(Case("POST", f"/containers/{name}/pause") for name in ("created", "exited", "paused")),
    *(Case("POST", f"/containers/{name}/unpause") for name in ("created", "exited", "running")),
    *(Case("POST", f"/containers/{name}/kill") for name in ("created", "exited")),
    *(Case("POST", f"/containers/{name}/stop") for name in ("created", "exited")),
    *(Case("POST", f"/containers/{name}/start") for name in ("running", "paused")),
    *(Case("POST", f"/containers/{name}/resize?h=1&w=1") for name in ("created", "exited")),
    *(Case("GET", f"/containers/{name}/top") for name in ("created", "exited")),
    *(
        Case("POST", f"/containers/{name}/exec", {"Cmd": ["true"]})
        for name in ("created", "exited", "paused")
    ),
    *(Case("DELETE", f"/containers/{name}") for name in ("running", "paused")),
    Case("POST", "/containers/paused/attach?stream=1&stdout=1"),
    Case("POST", "/containers/created/start", b'{"Binds": ["/x:/y"]}', _JSON),
    Case("POST", "/networks/bridge/connect", {"Container": "running"}),
    Case("DELETE", "/containers/created?link=1"),
    Case("DELETE", "/images/busybox"),
]
_VALUES = [
    *(
        Case("POST", f"/containers/running/kill?signal={text}")
        for text in ("NOSUCH", "SIGNOSUCH", "0", "99", "9x")
    ),
    Case("POST", "/containers/running/stop?t=x"),
    Case("POST", "/containers/exited/wait?condition=x"),
    Case("POST", "/containers/running/exec", {}),
    Case("POST", "/containers/running/exec", {"Cmd": ["true"], "DetachKeys": "bad-key"}),
    Case("POST", "/containers/running/attach?detachKeys=bad-key&stream=1&stdout=1"),
    Case("POST", "/containers/running/rename"),
    *(Case("POST", f"/containers/running/rename?name={name}") for name in ("a/b", "created", "running", "x")),
    Case("POST", "/containers/running/resize?h=x&w=1"),
    Case("POST", "/containers/running/resize"),
    Case("POST", "/containers/running/update", {"Memory": 1}),
    Case("POST", "/containers/running/update", {"CpusetCpus": "99"}),
    Case("POST", "/containers/running/update", {"RestartPolicy": {"Name": "x"}}),
    *(
        Case("POST", f"/containers/create?name={name}", {"Image": "busybox"})
        for name in ("a", "created", "/a/b", "-a")
    ),
    *(Case("POST", "/containers/create", {"Image": image}) for image in ("nosuch", "nosuch:tag", "A/B")),
    *_posts("/containers/create", b"{", b"[]", b"", b'{"Image": 5}', b'{"Image": "busybox"}{}'),
    Case("POST", "/containers/create", b'{"Image": "busybox"}', {"Content-Type": "text/plain"}),
    *_posts("/containers/running/exec", b"{", b"5", b"", b"null"),
    *_posts("/containers/running/update", b"{", b"5", b""),
    *_posts("/networks/bridge/connect", b"{", b""),
    Case("GET", "/containers/running/logs"),
    *(Case("GET", f"/containers/running/logs?stdout=1&{name}=x") for name in ("since", "until")),
    Case("GET", "/containers/running/top?ps_args=-o nosuch"),
    Case("GET", "/containers/running/top?ps_args=--nosuch"),
    Case("GET", "/containers/running/top?ps_args=-o cmd"),
    Case("GET", "/containers/json?limit=x"),
    Case("GET", "/events?since=x&until=1"),
    Case("GET", "/events?until=x"),
    Case("POST", "/commit?container=nosuch"),
    Case("POST", "/commit?container=running&repo=A%20B"),
    Case("POST", "/commit?container=running&changes=NOSUCH%20x"),
    Case("POST", "/images/busybox/tag?repo=A%20B"),
]
_FILES = [
    *(Case("GET", f"/containers/running/archive?{query}") for query in ("", "path=", "path=/nosuch")),
    Case("GET", "/containers/running/archive?path=/etc/passwd/x"),
    Case("PUT", "/containers/running/archive?path=", b""),
    Case("PUT", "/containers/running/archive?path=/nosuch", b""),
    Case("PUT", "/containers/running/archive?path=/etc/passwd", b""),
    Case("PUT", "/containers/running/archive?path=/tmp", b"garbage" * 100),
    Case("POST", "/images/load", b"garbage"),
    Case("POST", "/images/create?fromSrc=-", b"garbage" * 100),
]
_FILTERS = [
    *_filters(
        "/containers/json?all=1", "{", "[]", '{"nosuch":["x"]}', '{"status":["x"]}', '{"exited":["x"]}'
    ),
    *_filters("/containers/json?all=1", '{"before":["nosuch"]}', '{"since":["nosuch"]}', '{"name":"x"}'),
    *_filters("/containers/json?all=1", '{"health":["x"]}', '{"publish":["x"]}', '{"expose":["x"]}'),
    *_filters("/containers/json?all=1", '{"is-task":["x"]}'),
    *_filters("/containers/prune", "{", '{"nosuch":["x"]}', '{"until":["x"]}', '{"until":["1","2"]}'),
    *_filters("/images/json", "{", '{"nosuch":["x"]}'),
    *_filters("/events?until=1", "{", '{"nosuch":["x"]}'),
]
_CASES = {str(case): case for case in (*_UNKNOWN, *_STATES, *_VALUES, *_FILES, *_FILTERS)}

NEWER = "as Docker 28 says it, or answers to it, where 20.10 does otherwise"
FAULT = "what is the client's fault is never 500: Docker 28 has mended most of these"
GO = "20.10 passes on what Go's decoders say; ours names the parameter, the filter or the key, and it is never 500"
MISPRINT = "20.10 lacks a blank"
VERSIONS = "ours speaks 1.24 to 1.52, as Docker 28 and 29 do"
METHODS = "a path that is there with other methods is 405, as HTTP has it; Docker says 404"
LINKS = "links between containers that exist are not removed: there is no such thing here"
OTHERWISE: dict[str, tuple[int, str, str]] = {
    "POST /containers/exited/wait?condition=x": (400, 'invalid condition: "x"', NEWER),
    'POST /containers/create b\'{"Image": "busybox"}{}\'': (400, "unexpected content after JSON", NEWER),
    "POST /images/load b'garbage'": (200, "the archive of images cannot be read: truncated header", GO),
    'GET /events?until=1&filters={"nosuch":["x"]}': (
        400,
        "invalid filter 'nosuch': known are config, container, daemon, endpoint, event, image, label, network, node, "
        "plugin, sandbox, scope, secret, service, type, volume",
        "Docker takes filters of events that it does not know, and passes by them",
    ),
    "POST /containers/nosuch/kill": (404, "cannot kill container: nosuch: No such container: nosuch", NEWER),
    "GET /images/nosuch/json": (404, "No such image: nosuch:latest", NEWER),
    "POST /containers/json": (405, "page not found", METHODS),
    "GET /v9.99/info": (
        400,
        "client version 9.99 is too new. Maximum supported API version is 1.52",
        VERSIONS,
    ),
    "GET /v1.10/info": (
        400,
        "client version 1.10 is too old. Minimum supported API version is 1.24, "
        "please upgrade your client to a newer version",
        VERSIONS,
    ),
    "POST /containers/created/unpause": (409, "Container <id> is not paused", FAULT),
    "POST /containers/exited/unpause": (409, "Container <id> is not paused", FAULT),
    "POST /containers/running/unpause": (409, "Container <id> is not paused", FAULT),
    "POST /containers/created/kill": (
        409,
        "cannot kill container: created: Container <id> is not running",
        NEWER,
    ),
    "POST /containers/exited/kill": (
        409,
        "cannot kill container: exited: Container <id> is not running",
        NEWER,
    ),
    "DELETE /containers/running": (
        409,
        'cannot remove container "running": container is running: stop the container before removing or force remove',
        NEWER,
    ),
    "DELETE /containers/paused": (
        409,
        'cannot remove container "paused": container is paused: stop the container before removing or force remove',
        NEWER,
    ),
    "DELETE /containers/created?link=1": (
        501,
        "links cannot be removed: make the container again without it",
        LINKS,
    ),
    "POST /containers/running/kill?signal=NOSUCH": (
        400,
        "cannot kill container: running: invalid signal: NOSUCH",
        NEWER,
    ),
    "POST /containers/running/kill?signal=SIGNOSUCH": (
        400,
        "cannot kill container: running: invalid signal: SIGNOSUCH",
        NEWER,
    ),
    "POST /containers/running/kill?signal=0": (
        400,
        "cannot kill container: running: invalid signal: 0",
        NEWER,
    ),
    "POST /containers/running/kill?signal=99": (
        400,
        "cannot kill container: running: invalid signal: 99",
        NEWER,
    ),
    "POST /containers/running/kill?signal=9x": (
        400,
        "cannot kill container: running: invalid signal: 9x",
        NEWER,
    ),
    "POST /containers/running/stop?t=x": (400, "invalid value for t: 'x': it must be a number", GO),
    "POST /containers/running/exec {'Cmd': ['true'], 'DetachKeys': 'bad-key'}": (
        400,
        "Invalid detach keys (bad-key) provided",
        GO,
    ),
    "POST /containers/running/resize?h=x&w=1": (400, "invalid value for h: 'x': it must be a number", GO),
    "POST /containers/running/resize": (400, "h is required: it must be a number", GO),
    "POST /containers/running/update {'RestartPolicy': {'Name': 'x'}}": (
        400,
        "invalid restart policy: unknown policy 'x'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'",
        NEWER,
    ),
    "POST /containers/create b'{'": (400, "invalid JSON: unexpected end of the text", GO),
    "POST /containers/create b'[]'": (400, "invalid JSON: expected object, got array", GO),
    "POST /containers/create b''": (400, "invalid JSON: got EOF while reading request body", GO),
    "POST /containers/create b'{\"Image\": 5}'": (
        400,
        "invalid JSON: Image: expected string, got integer",
        GO,
    ),
    'POST /containers/create b\'{"Image": "busybox"}\'': (
        400,
        "unsupported Content-Type header (text/plain): must be 'application/json'",
        NEWER,
    ),
    "POST /containers/running/exec b'{'": (400, "invalid JSON: unexpected end of the text", GO),
    "POST /containers/running/exec b'5'": (400, "invalid JSON: expected object, got integer", GO),
    "POST /containers/running/exec b''": (400, "invalid JSON: got EOF while reading request body", GO),
    "POST /containers/running/exec b'null'": (400, "invalid JSON: expected object, got null", GO),
    "POST /containers/running/update b'{'": (400, "invalid JSON: unexpected end of the text", GO),
    "POST /containers/running/update b'5'": (400, "invalid JSON: expected object, got integer", GO),
    "POST /containers/running/update b''": (400, "invalid JSON: got EOF while reading request body", GO),
    "POST /networks/bridge/connect b'{'": (400, "invalid JSON: unexpected end of the text", GO),
    "POST /networks/bridge/connect b''": (400, "invalid JSON: got EOF while reading request body", GO),
    "GET /containers/running/logs?stdout=1&since=x": (
        400,
        "invalid time 'x': give seconds since 1970, a date, or a duration such as 10m",
        GO,
    ),
    "GET /containers/running/logs?stdout=1&until=x": (
        400,
        "invalid time 'x': give seconds since 1970, a date, or a duration such as 10m",
        GO,
    ),
    "GET /containers/json?limit=x": (400, "invalid value for limit: 'x': it must be a number", GO),
    "GET /events?since=x&until=1": (
        400,
        "invalid time 'x': give seconds since 1970, a date, or a duration such as 10m",
        GO,
    ),
    "GET /events?until=x": (
        400,
        "invalid time 'x': give seconds since 1970, a date, or a duration such as 10m",
        GO,
    ),
    "POST /commit?container=running&repo=A%20B": (
        400,
        "invalid reference format: repository name must be lowercase",
        FAULT,
    ),
    "POST /images/busybox/tag?repo=A%20B": (
        400,
        "invalid reference format: repository name must be lowercase",
        FAULT,
    ),
    "GET /containers/running/archive?": (400, "bad parameter: path cannot be empty", MISPRINT),
    "GET /containers/running/archive?path=": (400, "bad parameter: path cannot be empty", MISPRINT),
    "GET /containers/running/archive?path=/etc/passwd/x": (
        400,
        "/etc/passwd/x in container running: not a directory",
        GO,
    ),
    "PUT /containers/running/archive?path= b''": (400, "bad parameter: path cannot be empty", MISPRINT),
    "PUT /containers/running/archive?path=/etc/passwd b''": (
        400,
        "extraction point is not a directory",
        FAULT,
    ),
    "PUT /containers/running/archive?path=/tmp b'garbagegarbagegarbagegarbagegarbagegarbagegarbagegarbageg": (
        400,
        "the archive cannot be read: invalid header",
        GO,
    ),
    "POST /images/create?fromSrc=- b'garbagegarbagegarbagegarbagegarbagegarbagegarbagegarbageg": (
        400,
        "the archive cannot be read: invalid header",
        GO,
    ),
    "GET /containers/json?all=1&filters={": (400, "invalid filters '{': they must be a JSON object", GO),
    "GET /containers/json?all=1&filters=[]": (400, "invalid filters '[]': they must be a JSON object", GO),
    'GET /containers/json?all=1&filters={"nosuch":["x"]}': (
        400,
        "invalid filter 'nosuch': known are ancestor, before, exited, expose, health, id, "
        "is-task, isolation, label, name, network, publish, since, status, volume",
        GO,
    ),
    'GET /containers/json?all=1&filters={"status":["x"]}': (400, "invalid filter 'status=x'", GO),
    'GET /containers/json?all=1&filters={"exited":["x"]}': (400, "invalid filter 'exited=x'", GO),
    'GET /containers/json?all=1&filters={"before":["nosuch"]}': (404, "No such container: nosuch", GO),
    'GET /containers/json?all=1&filters={"since":["nosuch"]}': (404, "No such container: nosuch", GO),
    'GET /containers/json?all=1&filters={"name":"x"}': (
        400,
        "invalid values of filter 'name': give a list of strings",
        GO,
    ),
    'GET /containers/json?all=1&filters={"health":["x"]}': (400, "invalid filter 'health=x'", GO),
    'GET /containers/json?all=1&filters={"publish":["x"]}': (
        400,
        "invalid filter 'publish=x': give a port as 80, 80/udp or 80-90/tcp",
        GO,
    ),
    'GET /containers/json?all=1&filters={"expose":["x"]}': (
        400,
        "invalid filter 'expose=x': give a port as 80, 80/udp or 80-90/tcp",
        GO,
    ),
    'GET /containers/json?all=1&filters={"is-task":["x"]}': (400, "invalid filter 'is-task=x'", GO),
    "POST /containers/prune?filters={": (400, "invalid filters '{': they must be a JSON object", GO),
    'POST /containers/prune?filters={"nosuch":["x"]}': (
        400,
        "invalid filter 'nosuch': known are label, label!, until",
        GO,
    ),
    'POST /containers/prune?filters={"until":["x"]}': (
        400,
        "invalid time 'x': give seconds since 1970, a date, or a duration such as 10m",
        GO,
    ),
    'POST /containers/prune?filters={"until":["1","2"]}': (
        400,
        "more than one until filter specified",
        FAULT,
    ),
    "GET /images/json?filters={": (400, "invalid filters '{': they must be a JSON object", GO),
    'GET /images/json?filters={"nosuch":["x"]}': (
        400,
        "invalid filter 'nosuch': known are before, dangling, label, reference, since, until",
        GO,
    ),
    "GET /events?until=1&filters={": (400, "invalid filters '{': they must be a JSON object", GO),
}
"""What is answered otherwise: status, words, and why."""


@pytest.mark.parametrize("name", _CASES)
def test_a_wrong_request_is_refused_as_docker_does(name: str, states: Pair) -> None:
    ours, theirs = states.ask(*_CASES[name])
    answers = [(answer.status, normalised(answer.message)) for answer in (ours, theirs)]

    if name in OTHERWISE:
        status, words, _ = OTHERWISE[name]
        assert answers[0] == (status, words)
        assert answers[0] != answers[1], "it is like Docker's by now: take it out of the list"
    else:
        assert answers[0] == answers[1]
