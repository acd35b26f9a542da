"""Replays recorded traffic against a plugin: the recorded requests, with what that plugin itself chose put in.

    report = play(load("d29"), socket, keys=tmp_path / "netns", keep_option=ours, refuses=two_subnets_of_a_family)
    report.check()

The plugin under test chooses other pool ids, pools and addresses than the recorded one did, so every text of a later
request that the recorded plugin had chosen is replaced by what stands for it here. The order of calls is that of the
recording.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

from tests.support.fake_dockerd.answers import LinkExists, accept_any_link, check, check_reachable, read
from tests.support.fake_dockerd.client import PluginClient, encode
from tests.support.fake_dockerd.errors import PluginError, ProtocolViolation
from tests.support.fake_dockerd.ledger import Ledger
from tests.support.fake_dockerd.versions import VERSIONS
from tests.support.transcripts import Recorded, Step, Transcript

_GENERIC = "com.docker.network.generic"
_INJECTED = "on purpose"
_CREATES = {"CreateEndpoint", "Join", "ProgramExternalConnectivity", "RequestAddress"}
_NEEDED = {"Implements", "Scope", "LocalDefaultAddressSpace", "PoolID", "Pool", "Address", "InterfaceName"}
"""Keys that an answer must have where the recorded one had them; the others depend on what the plugin can do."""

KeepOption = Callable[[str, str], bool]
"""Gets a path and the key of an option that is the user's own: `-o`, `--ipam-opt`, `--driver-opt`."""
Refuses = Callable[[Recorded], bool]
"""Gets a recorded CreateNetwork or RequestPool; true where the plugin under test must answer an error."""


class Injected(enum.Enum):
    """What becomes of a call whose recorded answer was an error on purpose; what dockerd did then follows anyway."""

    SKIPPED = enum.auto()
    """It is not sent: the plugin failed before it did anything."""
    SENT = enum.auto()
    """It is sent, and the answer does not count: dockerd never saw the success."""


class Verdict(enum.Enum):
    """How an answer compares with the recorded one."""

    FINE = enum.auto()
    """Answered without an error, or with one where the recorded plugin had one too, or had one alone."""
    EXPECTED_ERROR = enum.auto()
    """An error that the caller has announced, or that follows from one."""
    UNEXPECTED_ERROR = enum.auto()
    """An error, although the recorded plugin answered fine."""
    UNEXPECTED_SUCCESS = enum.auto()
    """No error, although the caller has announced one."""
    VIOLATION = enum.auto()
    """Against the rules that the fake dockerd holds every answer to."""


@dataclass(frozen=True)
class Exchange:
    """One call as it was sent; `error` is the plugin's text or the rule that it broke."""

    step: str
    path: str
    request: dict[str, Any] | None
    answer: dict[str, Any] | None
    verdict: Verdict
    error: str = ""
    lacking: frozenset[str] = frozenset()
    """Keys that the recorded answer had and this one must have too."""

    def __str__(self) -> str:
        return f"{self.step}\n    {self.path} {self.request}\n    {self.verdict.name}: {self.error}"


@dataclass
class Report:
    """Everything that was sent."""

    exchanges: list[Exchange] = field(default_factory=list)

    def of(self, *verdicts: Verdict) -> list[Exchange]:
        """The exchanges with one of these verdicts."""
        return [exchange for exchange in self.exchanges if exchange.verdict in verdicts]

    @property
    def faults(self) -> list[Exchange]:
        """What a plugin must not do."""
        bad = self.of(Verdict.UNEXPECTED_ERROR, Verdict.UNEXPECTED_SUCCESS, Verdict.VIOLATION)
        return bad + [exchange for exchange in self.exchanges if exchange.lacking]

    def check(self) -> None:
        """Raises AssertionError listing the faults."""
        assert not self.faults, "\n".join(f"{e} {set(e.lacking) or ''}" for e in self.faults)


def keep_all(_path: str, _key: str) -> bool:
    """All options are sent as they were recorded."""
    return True


def refuses_nothing(_call: Recorded) -> bool:
    """The plugin under test takes all networks of the recording."""
    return False


def null_ipam(call: Recorded) -> bool:
    """A network with `--ipam-driver null`: no addresses."""
    return any(data["AddressSpace"] == "null" for data in _pools(call))


def two_subnets_of_a_family(call: Recorded) -> bool:
    """A network with several subnets of one family."""
    request = call.request or {}
    return any(len(request.get(key) or []) > 1 for key in ("IPv4Data", "IPv6Data"))


def ipv6_only(call: Recorded) -> bool:
    """A network without IPv4."""
    return call.path.endswith(".CreateNetwork") and not (call.request or {}).get("IPv4Data")


def _pools(call: Recorded) -> list[dict[str, Any]]:
    request = call.request or {}
    return [*(request.get("IPv4Data") or []), *(request.get("IPv6Data") or [])]


def make_empty_file(key: Path) -> None:
    """A sandbox key that exists and is no namespace."""
    key.parent.mkdir(parents=True, exist_ok=True)
    key.touch()


def play(
    transcript: Transcript,
    socket: str | Path,
    *,
    keys: Path,
    keep_option: KeepOption = keep_all,
    refuses: Refuses = refuses_nothing,
    injected: Injected = Injected.SKIPPED,
    make_key: Callable[[Path], None] = make_empty_file,
    link_exists: LinkExists = accept_any_link,
) -> Report:
    """Sends the whole recording and compares the answers.

    keys          directory that sandbox keys are in; where the real key existed at Join, `make_key` makes it first
    keep_option   false drops an option, since the recorded plugin took any
    refuses       announces errors. What depends on a refused network or pool is sent all the same: what creates
                  something must fail then, what removes something may. A network whose pool was refused is not created
    injected      see Injected

    Raises TransportError where the plugin does not answer at all.
    """
    client = PluginClient(str(socket), VERSIONS[transcript.version].host)
    player = _Player(transcript, client, keys, keep_option, refuses, injected, make_key, link_exists)
    try:
        for step in transcript.steps:
            player.play(step)
    finally:
        client.close()
    return player.report


@dataclass
class _Player:
    transcript: Transcript
    client: PluginClient
    keys: Path
    keep_option: KeepOption
    refuses: Refuses
    injected: Injected
    make_key: Callable[[Path], None]
    link_exists: LinkExists
    report: Report = field(default_factory=Report)

    def __post_init__(self) -> None:
        self._texts = _Texts()
        self._ledger = Ledger()
        self._addresses: dict[str, tuple[str, str]] = {}
        self._refused: set[str] = set()
        self._needless: str = ""
        self._step = ""

    def play(self, step: Step) -> None:
        self._step = step.text
        pool_refused = False
        for call in step.calls:
            if pool_refused and call.path == "/NetworkDriver.CreateNetwork":
                self._refused.add((call.request or {})["NetworkID"])
            elif not self._is_left_out(call):
                exchange = self._exchange(call)
                self.report.exchanges.append(exchange)
                failed = exchange.verdict is Verdict.EXPECTED_ERROR
                pool_refused |= failed and call.path == "/IpamDriver.RequestPool"

    def _is_left_out(self, call: Recorded) -> bool:
        """Errors on purpose, and the release of a pool that only the recorded plugin's refusal made dockerd ask for."""
        if call.failed and _INJECTED in str(call.answer):
            return self.injected is Injected.SKIPPED
        pool, self._needless = self._needless, ""
        return (
            call.path == "/IpamDriver.ReleasePool" and bool(pool) and (call.request or {})["PoolID"] == pool
        )

    def _exchange(self, call: Recorded) -> Exchange:
        request = self._request(call)
        if call.path == "/NetworkDriver.Join" and self._key_exists():
            self.make_key(Path((request or {})["SandboxKey"]))
        try:
            answer = read(call.path, self.client.post(call.path, encode(request)))
        except PluginError as error:
            verdict = self._verdict(call, failed=True)
            return Exchange(self._step, call.path, request, None, verdict, error.message)
        except ProtocolViolation as violation:
            return Exchange(self._step, call.path, request, None, Verdict.VIOLATION, str(violation))
        return self._judge(call, request, answer)

    def _key_exists(self) -> bool:
        connecting = self._step.startswith("docker network connect")
        return connecting or VERSIONS[self.transcript.version].key_exists_at_start

    def _judge(self, call: Recorded, request: dict[str, Any] | None, answer: dict[str, Any]) -> Exchange:
        verdict, text = self._verdict(call, failed=False), ""
        try:
            self._check(call, request, answer)
        except ProtocolViolation as violation:
            verdict, text = Verdict.VIOLATION, str(violation)
        lacking: frozenset[str] = frozenset()
        if not call.failed:
            self._texts.learn(call, answer)
            lacking = frozenset(key for key in _NEEDED & set(call.answer or {}) if not answer.get(key))
        elif call.path == "/IpamDriver.RequestAddress":
            self._needless = (call.request or {})["PoolID"]
        return Exchange(self._step, call.path, request, answer, verdict, text, lacking)

    def _check(self, call: Recorded, request: dict[str, Any] | None, answer: dict[str, Any]) -> None:
        check(call.path, request, answer, self.link_exists)
        asked = request or {}
        if call.path == "/NetworkDriver.CreateEndpoint":
            given, added = asked["Interface"], answer.get("Interface") or {}
            ipv4, ipv6 = (given[key] or added.get(key) or "" for key in ("Address", "AddressIPv6"))
            self._addresses[asked["EndpointID"]] = ipv4, ipv6
        elif call.path == "/NetworkDriver.Join":
            check_reachable(call.path, answer, self._addresses.get(asked["EndpointID"], ("", "")))
        again = self._step.startswith("daemon-start") and _is_replayed(asked)
        self._ledger.note(call.path, request, answer, again=again)

    def _verdict(self, call: Recorded, *, failed: bool) -> Verdict:
        must_fail, may_fail = self._expectation(call)
        if failed and (must_fail or may_fail):
            return Verdict.EXPECTED_ERROR
        if must_fail:
            return Verdict.UNEXPECTED_SUCCESS
        return Verdict.UNEXPECTED_ERROR if failed and not call.failed else Verdict.FINE

    def _expectation(self, call: Recorded) -> tuple[bool, bool]:
        """(must fail, may fail). A refusal that is announced makes its network or pool a refused one."""
        request = call.request or {}
        method = call.path.rpartition(".")[2]
        if method in ("CreateNetwork", "RequestPool") and self.refuses(call):
            self._refused.add(request.get("NetworkID") or call.answer["PoolID"])
            return True, True
        named = {request.get("NetworkID", ""), request.get("PoolID", "")}
        depends = bool(named & self._refused) and method != "CreateNetwork"
        return depends and method in _CREATES, depends

    def _request(self, call: Recorded) -> dict[str, Any] | None:
        if call.request is None:
            return None
        request: dict[str, Any] = self._texts.put_in(call.request)
        if "SandboxKey" in request:
            request["SandboxKey"] = str(self.keys / Path(request["SandboxKey"]).name)
        options = request.get("Options")
        if options and call.path in ("/NetworkDriver.CreateNetwork", "/NetworkDriver.GwAllocCheck"):
            options[_GENERIC] = self._kept(call.path, options[_GENERIC])
        elif options and call.path in ("/NetworkDriver.CreateEndpoint", "/IpamDriver.RequestPool"):
            request["Options"] = self._kept(call.path, options)
        return request

    def _kept(self, path: str, options: dict[str, Any]) -> dict[str, Any]:
        """Options of dockerd's own always stay."""
        return {
            key: value
            for key, value in options.items()
            if not isinstance(value, str) or self.keep_option(path, key)
        }


def _is_replayed(request: dict[str, Any]) -> bool:
    """Whether a RequestAddress of a starting dockerd asks for what a plugin gave out before."""
    return bool(request.get("Address")) and "com.docker.network.endpoint.name" not in (
        request.get("Options") or {}
    )


class _Texts:
    """What the recorded plugin chose, and what stands for it here."""

    def __init__(self) -> None:
        self._ours: dict[str, str] = {}

    def put_in(self, value: Any) -> Any:
        """A copy of `value` in which every text that was chosen by the recorded plugin is ours."""
        if isinstance(value, dict):
            return {key: self.put_in(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.put_in(inner) for inner in value]
        return self._ours.get(value, value) if isinstance(value, str) else value

    def learn(self, call: Recorded, answer: dict[str, Any]) -> None:
        """Takes note of an answer beside the recorded one."""
        for key in ("LocalDefaultAddressSpace", "GlobalDefaultAddressSpace", "PoolID"):
            if key in call.answer and key in answer:
                self._ours[call.answer[key]] = answer[key]
        with contextlib.suppress(ValueError, KeyError):  # an answer that breaks a rule teaches nothing
            if call.path == "/IpamDriver.RequestPool":
                theirs, ours = ip_network(call.answer["Pool"]), ip_network(answer["Pool"])
                self._ours |= {call.answer["Pool"]: str(ours), str(theirs): str(ours)}
            elif call.path == "/IpamDriver.RequestAddress":
                their, our = ip_interface(call.answer["Address"]), ip_interface(answer["Address"])
                self._ours |= {str(their): str(our), str(their.ip): str(our.ip)}
