"""The launcher killed before, during and after whatever a verb does outside: the next one undoes it, or takes it up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from tests.support.launcher_crashes import OTHERS, Forks, die_at_points
from tests.support.launcher_left import left
from tests.support.small_containers import eventually
from tests.support.unpacked import lacking

_BODY = {"Image": "busybox", "Cmd": ["sleep", "1000"]}
_ENDED = "exited"
_AT = {"IPAMConfig": {"IPv4Address": OTHERS.replace("0/24", "77")}}
"""On the network `other`."""


class Case(NamedTuple):
    """A verb of the engine on the container `one`, which is brought to a state first."""

    verb: str
    arguments: tuple[Any, ...]
    before: tuple[tuple[str, str], ...]
    """Requests, method and path."""
    afterwards: frozenset[str]
    """States that are right when the verb was cut off; "" for a container that is not there."""
    done: str
    """The state after the verb, which is asked for again."""
    removes_itself: bool = False
    host: Mapping[str, Any] = MappingProxyType({})
    """Of its HostConfig."""


_CREATE = ("POST", "/containers/create?name=one")
_START = ("POST", "/containers/one/start")
_RUNNING = (_CREATE, _START)
_PAUSED = (*_RUNNING, ("POST", "/containers/one/pause"))
_PEER = ("POST", "/containers/create?name=peer")
_START_PEER = ("POST", "/containers/peer/start")
_ALL = {"UsernsMode": "private:200000:65536", "IpcMode": "shareable", "Links": ["peer:db"]}
_CRUN = {"Runtime": "crun"}
_EXITED = (*_RUNNING, ("POST", "/containers/one/kill"))

CASES = {
    "create": Case("create", ("one", _BODY), (), frozenset({"", "created"}), "created"),
    "start": Case("run", ("one",), (_CREATE,), frozenset({"created", "running"}), "running"),
    "start again": Case("run", ("one",), _EXITED, frozenset({_ENDED, "running"}), "running"),
    "stop": Case("stop", ("one", 0), _RUNNING, frozenset({"running", _ENDED}), _ENDED),
    "kill": Case("kill", ("one",), _RUNNING, frozenset({"running", _ENDED}), _ENDED),
    "rm -f": Case("remove", ("one",), _RUNNING, frozenset({"running", _ENDED, ""}), ""),
    "rm -f paused": Case("remove", ("one",), _PAUSED, frozenset({"paused", "running", _ENDED, ""}), ""),
    "rm": Case("remove", ("one",), _EXITED, frozenset({_ENDED, ""}), ""),
    "start --rm": Case(
        "run", ("one",), (_CREATE,), frozenset({"created", "running", ""}), "running", removes_itself=True
    ),
    "end of --rm": Case("kill", ("one",), _RUNNING, frozenset({"running", ""}), "", removes_itself=True),
    "rename": Case("rename", ("one", "two"), _RUNNING, frozenset({"running"}), "running"),
    "pause": Case("pause", ("one",), _RUNNING, frozenset({"running", "paused"}), "paused"),
    "unpause": Case("unpause", ("one",), _PAUSED, frozenset({"running", "paused"}), "running"),
    "update": Case("update", ("one", {"PidsLimit": 77}), _RUNNING, frozenset({"running"}), "running"),
    "restart": Case("restart", ("one", 0), _RUNNING, frozenset({"running", _ENDED}), "running"),
    "start with all": Case(
        "run",
        ("one",),
        (_PEER, _START_PEER, _CREATE),
        frozenset({"created", "running"}),
        "running",
        host=_ALL,
    ),
    "stop with all": Case(
        "stop", ("one", 0), (_PEER, _START_PEER, *_RUNNING), frozenset({"running", _ENDED}), _ENDED, host=_ALL
    ),
    "rm -f with all": Case(
        "remove", ("one",), (_PEER, _START_PEER, *_RUNNING), frozenset({"running", _ENDED, ""}), "", host=_ALL
    ),
    "start of crun": Case(
        "run", ("one",), (_CREATE,), frozenset({"created", "running"}), "running", host=_CRUN
    ),
    "stop of crun": Case("stop", ("one", 0), _RUNNING, frozenset({"running", _ENDED}), _ENDED, host=_CRUN),
    "rm -f of crun": Case("remove", ("one",), _RUNNING, frozenset({"running", _ENDED, ""}), "", host=_CRUN),
    "connect": Case("connect", ("other", "one", _AT), _RUNNING, frozenset({"running"}), "running"),
    "disconnect": Case("disconnect", ("bridge", "one"), _RUNNING, frozenset({"running"}), "running"),
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", CASES)
def test_a_launcher_killed_within(tidy: Forks, name: str) -> None:
    case = CASES[name]
    if case.host == _CRUN and (reason := lacking("crun")):
        pytest.skip(reason)

    points = die_at_points(lambda at: _play(tidy, case, at))

    assert len(points) > 2


def _play(forks: Forks, case: Case, at: int) -> dict[str, Any]:
    """Die there, look, do it again, remove: nothing is left. The answer is how it died."""
    forks.serve()
    for method, path in case.before:
        forks.done(
            method, path, _BODY if (method, path) == _PEER else _body(case) if "/create?" in path else None
        )
    forks.kill()
    options = {"force": True} if case.verb in ("remove", "disconnect") else {}
    played = forks.ask(verb=case.verb, arguments=case.arguments, options=options, at=at)
    where = f"{case.verb} died at {at}: {played['points'][-2:]}"
    forks.serve()
    name = _name(forks)
    assert _state(forks, name) in (case.afterwards if played["died"] else {case.done}), (
        f"{where}\n{forks.log}"
    )
    _again(forks, case, where)
    forks.clear()
    assert left(forks.launcher) == [], f"{where}\n{forks.log}"
    forks.kill()
    return played


def _body(case: Case) -> dict[str, Any]:
    return {**_BODY, "HostConfig": {"AutoRemove": case.removes_itself, **case.host}}


def _name(forks: Forks) -> str:
    """Of the container that is not the peer, "" where there is none."""
    found = [str(each["Names"][0]) for each in forks.done("GET", "/containers/json?all=1")]
    names = [name.removeprefix("/") for name in found if name != "/peer"]
    assert len(names) <= 1
    return names[0] if names else ""


def _state(forks: Forks, name: str) -> str:
    """Docker's word, checked by what the processes say."""
    if not name:
        return ""
    state = forks.done("GET", f"/containers/{name}/json")["State"]
    is_there = state["Pid"] and Path(f"/proc/{state['Pid']}").exists()
    assert bool(is_there) == state["Running"], state
    return str(state["Status"])


_PATHS = {
    "create": ("POST", "/containers/create?name=one", _BODY),
    "run": ("POST", "/containers/one/start", None),
    "stop": ("POST", "/containers/one/stop?t=0", None),
    "kill": ("POST", "/containers/one/kill", None),
    "remove": ("DELETE", "/containers/one?force=1", None),
    "rename": ("POST", "/containers/one/rename?name=two", None),
    "pause": ("POST", "/containers/one/pause", None),
    "unpause": ("POST", "/containers/one/unpause", None),
    "update": ("POST", "/containers/one/update", {"PidsLimit": 77}),
    "restart": ("POST", "/containers/one/restart?t=0", None),
    "connect": ("POST", "/networks/other/connect", {"Container": "one", "EndpointConfig": _AT}),
    "disconnect": ("POST", "/networks/bridge/disconnect", {"Container": "one"}),
}
_DONE_BEFORE = {"remove": 404, "rename": 404, "connect": 403} | dict.fromkeys(
    ("create", "kill", "pause", "unpause", "disconnect"), 409
)
"""What is answered where the verb was wholly done when the launcher died."""


def _again(forks: Forks, case: Case, where: str) -> None:
    """It succeeds, or says that it was done before; then it is."""
    method, path, body = _PATHS[case.verb]
    status, answer = forks.request(method, path, body)
    if case.removes_itself and status == 404:
        assert _name(forks) == "", where
        return
    done_before = _DONE_BEFORE.get(case.verb)
    assert status < 400 or status == done_before, f"{where}: again: {status} {answer}\n{forks.log}"
    eventually(
        lambda: _state(forks, _name(forks)) == case.done
    )  # what removes itself does so behind the answer
    name = _name(forks)
    if case.verb == "rename":
        (sandbox,) = forks.launcher.cnmd.ask("GET", "/cnm/v1/sandboxes")
        assert (name, sandbox["Name"]) == ("two", "two"), where
    if case.verb in ("connect", "disconnect"):
        networks = forks.done("GET", f"/containers/{name}/json")["NetworkSettings"]["Networks"]
        assert sorted(networks) == (["bridge", "other"] if case.verb == "connect" else []), where
    if case.verb == "connect":
        assert networks["other"]["IPAMConfig"] == _AT["IPAMConfig"], where
        assert networks["other"]["IPAddress"] == _AT["IPAMConfig"]["IPv4Address"], where
    if case.verb == "update":
        assert {path.read_text().strip() for path in _pids_limits(forks)} == {"77"}, where


def _pids_limits(forks: Forks) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{forks.launcher.cgroup}/*/pids.max"))
