"""The fake dockerd is held against recorded traffic of the real one: the same command causes the same calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_dockerd import DockerError, FakeDockerd
from tests.support.fake_dockerd.commands import docker
from tests.support.minimal_plugin import MinimalPlugin, serve
from tests.support.transcripts import NAMES, Step, Transcript, load

Shape = tuple[Any, ...]

_SEVERAL_AT_ONCE = ("daemon-", "docker rm -f")
"""In these steps dockerd works on containers in parallel, or on networks in the order of a map."""
_TAKEN = [ip_network(f"10.{n}.0.0/24") for n in range(77, 81)]
"""Routes of the host on which d20 was recorded."""
_FAILING = {
    "d29-failjoin": {"/NetworkDriver.Join"},
    "d29-failendpoint": {"/NetworkDriver.CreateEndpoint"},
}


class Names:
    """What the ids of one side stand for, so that the calls of two sides can be compared."""

    def __init__(self) -> None:
        self._networks: dict[str, str] = {}
        self._pools: dict[str, str] = {}

    def learn(self, step: str, path: str, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """Takes note of what a call names: networks and pools by the network that is created."""
        name = step.split()[-1] if step.startswith("docker network create") else ""
        if path == "/NetworkDriver.CreateNetwork":
            self._networks[request["NetworkID"]] = name
        if path == "/IpamDriver.RequestPool" and (name or answer["PoolID"] not in self._pools):
            self._pools[answer["PoolID"]] = name or f"again {request['Pool']}"

    def shape(self, path: str, request: dict[str, Any]) -> Shape:
        """What of a call the plugin's choices and dockerd's random numbers do not touch, in the order of its keys."""
        return path, *(self._part(key, value) for key, value in request.items())

    def network_of(self, path: str, request: dict[str, Any]) -> str:
        """The network that an endpoint of this call is in."""
        if path == "/IpamDriver.RequestAddress":
            return self._pools[request["PoolID"]]
        return self._networks.get(request.get("NetworkID", ""), "")

    def _part(self, key: str, value: Any) -> Any:
        match key:
            case "NetworkID":
                return key, self._networks[value]
            case "PoolID":
                return key, self._pools[value]
            case "IPv4Data" | "IPv6Data":
                return key, *(tuple(data) for data in value)
            case "Interface":
                return key, *((inner, bool(text)) for inner, text in value.items())
            case "Options" if value is not None:
                return key, *((inner, _comparable(inner, option)) for inner, option in value.items())
            case "Address" | "Pool" | "EndpointID" | "SandboxKey":
                return key, bool(value)
            case _:
                return key, repr(value)


def _comparable(key: str, value: Any) -> str:
    if key == "com.docker.network.endpoint.macaddress":
        return "a MAC address"
    if key == "com.docker.network.endpoint.name" and "_" in value:
        return "a name made up"
    return repr(sorted(map(repr, value)) if isinstance(value, list) else value)


def _recorded_plugin(transcript: Transcript) -> MinimalPlugin:
    """Answers errors where the recorded plugin did."""
    replays = "replay" in transcript.name
    plugin = MinimalPlugin(
        requires_mac=replays, requires_replay=replays, checks_gateways="gwalloc" in transcript.name
    )
    failing = _FAILING.get(transcript.name, set())
    plugin.tamper = lambda path, _request, right: {"Err": "on purpose"} if path in failing else right
    return plugin


@contextmanager
def _dockerd_like(transcript: Transcript, folder: Path) -> Iterator[FakeDockerd]:
    def overlaps(pool: str) -> bool:
        return transcript.name == "d20" and ip_network(pool) in _TAKEN

    socket = folder / "lp.sock"
    with serve(_recorded_plugin(transcript), socket):
        dockerd = FakeDockerd(
            transcript.version, socket, name="lp", netns=folder / "netns", overlaps=overlaps
        )
        yield dockerd
        dockerd.daemon_kill()


def _act(dockerd: FakeDockerd, step: str) -> None:
    """Commands that failed when they were recorded fail here too."""
    with suppress(DockerError):
        if step.startswith("docker "):
            docker(dockerd, step)
        elif step.startswith("daemon-stop"):
            dockerd.daemon_stop(live_restore=step == "daemon-stop (live-restore)")
        else:
            if "SIGKILL" in step:
                dockerd.daemon_kill()
            dockerd.daemon_start(live_restore="live-restore" in step)


def _join_like(dockerd: FakeDockerd, names: Names, step: Step) -> None:
    """Lets a starting container join its networks in the order of the recording, which was random."""
    joined = [
        names.network_of(c.path, c.request) for c in step.calls if _begins_endpoint(c.path) and c.request
    ]
    dockerd.order = lambda wanted: sorted(wanted, key=lambda n: joined.index(n) if n in joined else 99)


def _begins_endpoint(path: str) -> bool:
    return path in ("/IpamDriver.RequestAddress", "/NetworkDriver.CreateEndpoint")


@pytest.mark.parametrize("name", NAMES)
def test_every_command_causes_the_recorded_calls(name: str, tmp_path: Path) -> None:
    transcript, real, ours = load(name), Names(), Names()
    with _dockerd_like(transcript, tmp_path) as dockerd:
        for step in transcript.steps:
            for recorded in step.calls:
                real.learn(step.text, recorded.path, recorded.request or {}, recorded.answer)
            _join_like(dockerd, real, step)
            seen = len(dockerd.calls)

            _act(dockerd, step.text)

            made = dockerd.calls[seen:]
            for call in made:
                ours.learn(step.text, call.path, call.request or {}, call.answer or {})
            expected = [real.shape(recorded.path, recorded.request or {}) for recorded in step.calls]
            found = [ours.shape(call.path, call.request or {}) for call in made]
            if step.text.startswith(_SEVERAL_AT_ONCE):
                assert Counter(found) == Counter(expected), step.text
            else:
                assert found == expected, step.text
