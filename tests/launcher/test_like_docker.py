"""The same requests to the launcher and to a real dockerd 20.10: what they answer is the same, but for what is listed.

Where Docker 28 answers otherwise than 20.10, the newest is what ours is like, and the list says so.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.dockerd import PROGRAMS, start_dockerd
from tests.support.engine_pair import ABSENT, Pair, ask, attach_and_leave, differences, keys, normalised
from tests.support.launcher import Launcher
from tests.support.launcher_root import make_root, pack
from tests.support.small_containers import eventually
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


# Who attaches


@pytest.mark.parametrize("said", [b"word\n", b""])
def test_who_speaks_and_leaves_before_the_start_is_heard_and_ends_the_input(said: bytes, pair: Pair) -> None:
    asked = {"Image": "busybox", "Cmd": ["sh", "-c", "cat; exit 5"], "OpenStdin": True, "StdinOnce": True}
    made = [each["Id"] for each in pair.do("POST", "/containers/create", asked)]
    for place, ident in zip(pair, made, strict=True):
        attach_and_leave(place, ident, said)
    time.sleep(1.5)  # for which they may look whether the client is there

    assert [_ended(place, ident) for place, ident in zip(pair, made, strict=True)] == [(5, said)] * 2


def _ended(place: str, ident: str) -> tuple[int, bytes]:
    """A container's code and its output, without the frame's head, once it was started and has ended."""
    path = f"/containers/{ident}"
    try:
        assert ask(place, "POST", f"{path}/start").status == 204
        eventually(lambda: not ask(place, "GET", f"{path}/json").body["State"]["Running"])
        code = ask(place, "GET", f"{path}/json").body["State"]["ExitCode"]
        return code, (ask(place, "GET", f"{path}/logs?stdout=1").body or "").encode()[8:]
    finally:
        ask(place, "DELETE", f"{path}?force=1")


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
    *(
        Case("POST", "/containers/create", {"HostConfig": {"LogConfig": log}, "Image": "busybox"})
        for log in (
            {"Config": {"nosuch": "1"}},
            {"Type": "local", "Config": {"tag": "1"}},
            {"Config": {"mode": "x"}},
            {"Config": {"max-buffer-size": "1m"}},
            {"Config": {"mode": "non-blocking", "max-buffer-size": "x"}},
        )
    ),
    Case("POST", "/containers/create", {"HostConfig": {"StorageOpt": {"size": "1G"}}, "Image": "busybox"}),
    Case("POST", "/networks/nosuch/disconnect", {"Container": "exited"}),
    Case("POST", "/networks/nosuch/disconnect", {"Container": "running", "Force": True}),
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
OTHERWISE: dict[str, tuple[int, str, str]] = {
    "POST /containers/create {'HostConfig': {'StorageOpt': {'size': '1G'}}, 'Image': 'bu": (
        400,
        "--storage-opt is supported only for overlay over xfs with 'pquota' mount option",
        FAULT,
    ),
    "POST /networks/nosuch/disconnect {'Container': 'exited'}": (
        409,
        "container <id> is not connected to the network nosuch",
        FAULT,
    ),
    "POST /networks/nosuch/disconnect {'Container': 'running', 'Force': True}": (
        409,
        "container <id> is not connected to the network nosuch",
        FAULT,
    ),
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
        409,
        "Conflict, cannot remove the default link name of the container",
        FAULT,
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
        500,
        "lstat /etc/passwd/x: not a directory",
        "the path in the container; dockerd tells the one on the host",
    ),
    "PUT /containers/running/archive?path= b''": (400, "bad parameter: path cannot be empty", MISPRINT),
    "PUT /containers/running/archive?path=/etc/passwd b''": (
        400,
        "extraction point is not a directory",
        FAULT,
    ),
    "PUT /containers/running/archive?path=/tmp b'garbagegarbagegarbagegarbagegarbagegarbagegarbagegarbageg": (
        400,
        "Error processing tar file: archive/tar: invalid tar header",
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


# Right ones


class Lives(NamedTuple):
    """What both have been through, in the containers `full`, `made`, `ended`, `still` and `lived`."""

    pair: Pair
    begun: float
    ended: float


_FULL = (
    *(
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:9090:90/udp",
        "--expose",
        "70",
        "-v",
        "/usr:/mnt:ro",
        "--tmpfs",
        "/t",
    ),
    *("--label", "x=y", "--health-cmd", "true", "--health-interval", "1h", "-m", "64m", "--cpus", "0.5"),
    *("--network", "net1", "--network-alias", "al", "--ip", "10.77.0.9", "--hostname", "box", "-e", "A=b"),
)
_MADE = (
    *("-it", "--restart", "on-failure:3", "--mount", "type=bind,source=/usr,target=/mnt,readonly"),
    *("--mount", "type=tmpfs,target=/t", "--dns", "192.0.2.1", "--add-host", "h:192.0.2.2"),
    *("--cap-add", "NET_ADMIN", "--init", "--stop-signal", "INT", "--ulimit", "nofile=100:200"),
)
_SLEEP = ("busybox", "sleep", "1000")
_STEPS = (
    ("network", "create", "net1", "--subnet", "10.77.0.0/24", "--label", "a=b"),
    ("run", "-d", "--name", "full", *_FULL, *_SLEEP),
    ("create", "--name", "made", *_MADE, "busybox", "sh", "-c", "echo 'a b'"),
    ("run", "--name", "ended", "busybox", "sh", "-c", "echo x"),
    ("run", "-d", "--name", "still", *_SLEEP),
    ("pause", "still"),
    ("run", "-d", "--name", "lived", *_SLEEP),
    ("exec", "full", "touch", "/new"),
    ("exec", "full", "rm", "/data/file"),
    ("network", "connect", "bridge", "full"),
    ("network", "disconnect", "bridge", "full"),
    ("rename", "lived", "other"),
    ("rename", "other", "lived"),
    ("pause", "lived"),
    ("unpause", "lived"),
    ("stop", "-t", "0", "lived"),
    ("start", "lived"),
    ("restart", "-t", "0", "lived"),
    ("kill", "-s", "USR1", "full"),
    ("update", "--cpus", "0.7", "full"),
    ("commit", "-m", "said", "ended", "committed"),
    ("cp", "full:/etc/passwd", "-"),
    ("export", "full"),
    ("top", "full"),
    ("rm", "-f", "lived"),
)


@pytest.fixture(scope="module")
def lives(pair: Pair) -> Lives:
    for socket in pair:
        for line in ask(socket, "GET", "/containers/json?all=1").body:
            ask(socket, "DELETE", f"/containers/{line['Id']}?force=1")
    begun = time.time()
    for step in _STEPS:
        pair.docker(*step)
    ended = time.time()
    return Lives(pair, begun, ended)


def _unlisted(found: Mapping[str, object], listed: Mapping[str, str]) -> dict[str, object]:
    """What of the differences no pattern of the list explains."""
    return {
        path: pair for path, pair in found.items() if not any(re.fullmatch(each, path) for each in listed)
    }


PLACES = "each daemon has its own places"
INSPECTED = {
    r"GraphDriver\.Data\..*": PLACES,
    r"(Hostname|Hosts|ResolvConf)Path": f"{PLACES}; ours are there while it runs",
    r"LogPath": PLACES,
    r"State\.Pid": "two processes",
    r"HostConfig\.CgroupParent": "ours keeps the default with the container, whose cgroup stays when that is changed",
    r"HostConfig\.MaskedPaths\.\d+": "Docker 28 masks more",
    r"HostConfig\.NetworkMode": "Docker 28 says bridge, where 20.10 has default",
    r"HostConfig\.Runtime": "known from the beginning; in 20.10 from the first start on",
    r"NetworkSettings\.SandboxKey": PLACES,
    r"NetworkSettings\.SandboxID": "the sandbox goes with the process; 20.10 shows what it was",
    r"NetworkSettings\.Networks\.\w+\.(DNSNames(\.\d)?|GwPriority)": "Docker 28 has them",
}


@pytest.mark.parametrize("name", ["full", "made", "ended", "still"])
def test_inspect_is_like_docker_s(name: str, lives: Lives) -> None:
    answers = lives.pair.do("GET", f"/v1.41/containers/{name}/json")
    for answer in answers:
        answer["Mounts"].sort(key=lambda mount: mount["Destination"])  # Docker's have no order
    found = differences(*answers)

    assert _unlisted(found, INSPECTED) == {}


LISTED = {
    r"(HostConfig\.NetworkMode|NetworkSettings\.Networks\.\w+\.(DNSNames(\.\d)?|GwPriority))": "as inspected",
    r"NetworkSettings\.Networks\.\w+\.Aliases(\.\d)?": "Docker 28 lists them, too",
    r"Created|Status": "times",
    r"SizeRootFs|SizeRw": "other file systems",
}


def test_ps_is_like_docker_s(lives: Lives) -> None:
    ours, theirs = lives.pair.do("GET", "/containers/json?all=1&size=1")
    names = [[line["Names"][0] for line in lines] for lines in (ours, theirs)]
    assert names == [["/still", "/ended", "/made", "/full"]] * 2

    for line, other in zip(ours, theirs, strict=True):
        for each in (line, other):
            each["Mounts"].sort(key=lambda mount: mount["Destination"])  # Docker's have no order
            each["Ports"].sort(key=lambda port: (port["PrivatePort"], port.get("IP", "")))
        assert _unlisted(differences(line, other), LISTED) == {}
        assert (
            re.sub(r"\d+|Less than a|[Aa]bout an?", "N", line["Status"]).split()[0]
            == other["Status"].split()[0]
        )


IMAGES = {
    r"Container|Parent": "Docker 28 has them no more",
    r"ContainerConfig(\..*)?": "of the image, not of the container that it was made from",
    r"GraphDriver\.Data(\..*)?|DockerVersion": PLACES,
    r"Size|VirtualSize": "counted by other file systems",
}


def test_an_image_is_like_docker_s(lives: Lives) -> None:
    found = differences(*lives.pair.do("GET", "/images/committed/json"))
    assert _unlisted(found, IMAGES) == {}

    ours, theirs = lives.pair.do("GET", "/images/committed/history")
    assert [(step["CreatedBy"], step["Comment"], step["Tags"]) for step in ours][:1] == [
        (step["CreatedBy"], step["Comment"], step["Tags"]) for step in theirs
    ][:1]
    assert len(ours) == len(theirs)


def test_processes_and_changes_are_like_docker_s(lives: Lives) -> None:
    ours, theirs = lives.pair.do("GET", "/containers/full/top")
    assert ours["Titles"] == theirs["Titles"]
    assert (
        [row[-1] for row in ours["Processes"]] == [row[-1] for row in theirs["Processes"]] == ["sleep 1000"]
    )
    for name in ("full", "ended"):
        mine, others = (
            answer if answer is None else {(each["Path"], each["Kind"]) for each in answer}
            for answer in lives.pair.do("GET", f"/containers/{name}/changes")
        )
        assert mine == others


COUNTED = {
    r"memory_stats\.stats\..*": "all that this kernel's memory.stat has",
    r"memory_stats\.failcnt": "20.10 leaves out a 0",
    r"blkio_stats\.io_service(d|_bytes)_recursive(\..*)?": "where there was no input or output yet",
}


def test_stats_have_docker_s_keys(lives: Lives) -> None:
    for name in ("full", "made"):
        ours, theirs = lives.pair.do("GET", f"/containers/{name}/stats?stream=0")
        found = dict.fromkeys(keys(ours) ^ keys(theirs))
        assert _unlisted(found, COUNTED) == {}


DESCRIBED = {
    r"DriverStatus\..*|DriverStatus": "the overlay's details are dockerd's",
    r"(Containerd|Runc|Init)Commit\.Expected": "Docker 28 has it no more",
    r"Plugins\.(Log|Volume)(\.\*)?": "not listed here",
    r"RegistryConfig(\..*)?|SystemStatus": "no registries yet",
    r"Runtimes\..*": "other runtimes",
    r"Warnings(\.\*)?": "cnmd's",
    r"Components\.\*\.Details\..*": "of Go, and of containerd",
}


@pytest.mark.parametrize("path", ["/info", "/version"])
def test_the_daemon_is_described_by_docker_s_keys(path: str, lives: Lives) -> None:
    ours, theirs = lives.pair.do("GET", path)

    assert _unlisted(dict.fromkeys(keys(ours) ^ keys(theirs)), DESCRIBED) == {}


ENTERED = {
    r"\w+\.Pid": "two processes",
    r"after\.CanRemove": "true once it has ended, which dockerd notices a while later",
}


def test_an_exec_is_shown_as_docker_shows_it(lives: Lives) -> None:
    shown = []
    for socket in lives.pair:
        made = ask(
            socket, "POST", "/containers/full/exec", {"Cmd": ["sh", "-c", "exit 3"], "AttachStdout": True}
        )
        before = ask(socket, "GET", f"/exec/{made.body['Id']}/json").body
        ask(socket, "POST", f"/exec/{made.body['Id']}/start", {"Tty": False})
        after = ask(socket, "GET", f"/exec/{made.body['Id']}/json").body
        shown.append({"before": before, "after": after})

    assert _unlisted(differences(*shown), ENTERED) == {}


def test_waiting_tells_the_code(lives: Lives) -> None:
    ours, theirs = lives.pair.do("POST", "/containers/ended/wait")

    assert differences(ours, theirs) == {"Error": (ABSENT, None)}  # Docker 28 leaves it out, too


def _told(lives: Lives, kind: str) -> list[list[tuple[Any, ...]]]:
    """Of both: what happened, to whom, and the names of what is told of it."""
    told = []
    for socket in lives.pair:
        filters = '{"type":["' + kind + '"]}'
        content = ask(
            socket, "GET", f"/events?since={lives.begun:.6f}&until={lives.ended:.6f}&filters={filters}"
        ).body
        lines = [json.loads(line) for line in content.splitlines()]
        told.append(
            [
                (
                    each["Action"],
                    each["Actor"]["Attributes"].get("name"),
                    *sorted(each["Actor"]["Attributes"]),
                )
                for each in lines
            ]
        )
    return told


def test_containers_events_and_their_order_are_docker_s(lives: Lives) -> None:
    ours, theirs = _told(lives, "container")

    assert ours == theirs


def test_networks_events_are_docker_s(lives: Lives) -> None:
    """cnmd tells them before the container's own, dockerd behind them, and some twice."""
    ours, theirs = _told(lives, "network")

    assert {event[:2] for event in ours} == {event[:2] for event in theirs}
    assert {attribute for event in ours for attribute in event[2:]} - {
        attribute for event in theirs for attribute in event[2:]
    } == {"endpoint"}
