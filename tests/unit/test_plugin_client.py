"""Plugins are asked as dockerd asks them: headers, retries, errors of every kind, activation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cnm.errors import CnmError, InvalidParameter, NotFound
from cnm.wire.plugin import EndpointRef, Failure, Joined, NetworkCapabilities
from cnm.wire.plugin_client import (
    HURRIED,
    NotImplementedByPlugin,
    Plugin,
    PluginAway,
    PluginRefused,
    Plugins,
)
from cnm.wire.plugin_discovery import Places, PluginAddress
from cnm.wire.plugin_retry import RealClock, pause_before
from cnm.wire.plugin_transport import Answer, TooLate, TransportError
from tests.support.clocks import FakeClock
from tests.support.scripted_plugin import Reply, ScriptedPlugin, error, scripted_plugin

JOIN = "NetworkDriver.Join"
REF = EndpointRef(network_id="n", endpoint_id="e")


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[ScriptedPlugin]:
    with scripted_plugin(tmp_path / "run" / "x.sock") as made:
        yield made


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def plugins(tmp_path: Path, clock: FakeClock) -> Iterator[Plugins]:
    made = Plugins(
        Places(socket_dirs=(str(tmp_path / "run"),), spec_dirs=(str(tmp_path / "etc"),)), clock, 2.0
    )
    yield made
    made.close()


class Fickle:
    """A transport that fails as it is told to, and then answers."""

    def __init__(self, *outcomes: CnmError | Answer) -> None:
        self.outcomes = list(outcomes)
        self.posts: list[tuple[str, bytes, float]] = []

    def post(self, path: str, body: bytes, seconds: float) -> Answer:
        self.posts.append((path, body, seconds))
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(outcome, CnmError):
            raise outcome
        return outcome

    def close(self) -> None: ...


def over(transport: Fickle, clock: FakeClock) -> Plugin:
    return Plugin(PluginAddress(name="x", scheme="unix", path="/x"), transport, clock)


REFUSED = TransportError("cannot be reached: connection refused")

# What goes over the wire


def test_a_call_is_dockerds(plugins: Plugins, plugin: ScriptedPlugin) -> None:
    plugins.call("x", "NetworkDriver.Leave", REF, Failure)

    call = plugin.calls[-1]
    assert call.method == "NetworkDriver.Leave"
    assert call.raw == b'{"NetworkID":"n","EndpointID":"e"}\n'
    assert call.headers["Accept"] == "application/vnd.docker.plugins.v1.2+json"
    assert call.headers["Host"] == "plugin.moby.localhost"
    assert "Content-Type" not in call.headers


def test_a_call_without_arguments_has_an_empty_body(plugins: Plugins, plugin: ScriptedPlugin) -> None:
    plugins.call("x", "NetworkDriver.GetCapabilities", None, NetworkCapabilities)

    assert [call.raw for call in plugin.calls] == [b"", b""]
    assert [call.headers["Content-Length"] for call in plugin.calls] == ["0", "0"]


def test_a_connection_is_kept(plugins: Plugins, plugin: ScriptedPlugin) -> None:
    for _ in range(3):
        plugins.call("x", "NetworkDriver.Leave", REF, Failure)

    assert len(plugin._server.open if plugin._server else ()) == 1


def test_a_restarted_plugin_gets_the_whole_call_on_a_new_connection(
    plugins: Plugins, plugin: ScriptedPlugin, clock: FakeClock
) -> None:
    plugins.call("x", "NetworkDriver.Leave", REF, Failure)
    plugin.stop()
    plugin.start()

    plugins.call("x", "NetworkDriver.Leave", REF, Failure)

    assert plugin.calls[-1].raw == b'{"NetworkID":"n","EndpointID":"e"}\n'
    assert plugin.asked("Plugin.Activate") == ["Plugin.Activate"]
    assert clock.pauses == []


def test_a_plugin_that_hangs_up_is_asked_again_with_the_whole_body(
    plugins: Plugins, plugin: ScriptedPlugin, clock: FakeClock
) -> None:
    plugin.script("NetworkDriver.Leave", Reply(hang_up="before"), Reply(hang_up="before"))

    plugins.call("x", "NetworkDriver.Leave", REF, Failure)

    assert {call.raw for call in plugin.calls if call.method == "NetworkDriver.Leave"} == {
        b'{"NetworkID":"n","EndpointID":"e"}\n'
    }


# Answers


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (error("out of luck"), "plugin x: NetworkDriver.Join: out of luck"),
        (error("out of luck", "Error"), "plugin x: NetworkDriver.Join: out of luck"),
        (error("out of luck", "err"), "plugin x: NetworkDriver.Join: out of luck"),
        (error("out of luck", status=500), "plugin x: NetworkDriver.Join: out of luck"),
        (error("out of luck", "Error", 400), "plugin x: NetworkDriver.Join: out of luck"),
        (Reply(b"so much\n\nis wrong", 500), "plugin x: NetworkDriver.Join: so much is wrong"),
        (Reply(b'{"message": "no"}', 500), 'plugin x: NetworkDriver.Join: {"message": "no"}'),
        (Reply(b"", 503), "plugin x: NetworkDriver.Join: HTTP status 503"),
        (Reply(b""), "unexpected end"),
        (Reply(b"<html>"), "the answer cannot be read: invalid JSON"),
        (Reply(b"[]"), "the answer cannot be read: invalid JSON: expected object"),
        (Reply(b'{"Gateway": 1}'), "the answer cannot be read: invalid JSON: Gateway: expected string"),
        (Reply(b'{"Gateway": "10.0.0.1"}', hang_up="midway"), "NetworkDriver.Join: the answer breaks off"),
    ],
)
def test_an_error_is_one_line_that_names_plugin_and_call(
    plugins: Plugins, plugin: ScriptedPlugin, clock: FakeClock, reply: Reply, words: str
) -> None:
    plugin.script(JOIN, reply)

    with pytest.raises(PluginRefused) as refusal:
        plugins.call("x", JOIN, REF, Joined)

    assert words in str(refusal.value)
    assert str(refusal.value).startswith("plugin x: NetworkDriver.Join: ")
    assert "\n" not in str(refusal.value)
    assert clock.pauses == []  # only what was not reached is tried again


def test_a_call_that_the_plugin_does_not_know_has_an_error_of_its_own(
    plugins: Plugins, plugin: ScriptedPlugin
) -> None:
    with pytest.raises(NotImplementedByPlugin, match="404 page not found"):
        plugins.call("x", "NetworkDriver.Sing", REF, Failure)


def test_answers_are_read_as_go_reads_them(plugins: Plugins, plugin: ScriptedPlugin) -> None:
    plugin.script(
        JOIN,
        Reply(
            b'{"interfacename": {"SRCNAME": "v", "dstprefix": "eth", "new": 1}, "gateway": null, "Extra": {},'
            b'"staticRoutes": [{"destination": "10.0.0.0/8", "routetype": 1, "NextHop": null}, null]}'
        ),
        Reply(b"null"),
        Reply(b"{}"),
    )

    first, second, third = (plugins.call("x", JOIN, REF, Joined) for _ in range(3))

    assert first.interface_name is not None
    assert (first.interface_name.src_name, first.interface_name.dst_prefix) == ("v", "eth")
    assert first.static_routes is not None
    assert [(r.destination, r.route_type) for r in first.static_routes] == [("10.0.0.0/8", 1), ("", 0)]
    assert second == third == Joined()


# Time


def test_dockers_schedule() -> None:
    assert [pause_before(retry) for retry in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_plugin_that_is_not_reached_is_tried_by_the_schedule_and_then_given_up(clock: FakeClock) -> None:
    transport = Fickle(REFUSED)

    with pytest.raises(
        PluginAway, match=r"plugin x: NetworkDriver\.Join: cannot be reached: connection refused"
    ):
        over(transport, clock).call(JOIN, REF, Joined)

    assert clock.pauses == [1, 2, 4, 8]  # 16 more would make 31 s
    assert len(transport.posts) == 5
    assert {body for _, body, _ in transport.posts} == {b'{"NetworkID":"n","EndpointID":"e"}\n'}


def test_time_that_a_failing_attempt_takes_counts(clock: FakeClock) -> None:
    transport = Fickle(REFUSED)
    clock.meanwhile = lambda: setattr(clock, "time", clock.time + 10)

    with pytest.raises(PluginAway):
        over(transport, clock).call(JOIN, REF, Joined)

    assert clock.pauses == [1, 2, 4]  # 37 s have gone


def test_a_plugin_that_comes_back_is_answered_for(clock: FakeClock) -> None:
    transport = Fickle(REFUSED, REFUSED, Answer(200, b"{}"))

    assert over(transport, clock).call(JOIN, REF, Joined) == Joined()
    assert clock.pauses == [1, 2]


def test_nobody_waits_while_the_daemon_ends() -> None:
    clock = RealClock()
    clock.close()

    with pytest.raises(PluginAway):
        Plugin(PluginAddress(name="x", scheme="unix"), Fickle(REFUSED), clock).call(JOIN, REF, Joined)


def test_an_answer_that_is_too_late_is_not_waited_for_again(clock: FakeClock) -> None:
    transport = Fickle(TooLate("late"))

    with pytest.raises(PluginAway, match="no answer within 60 s"):
        over(transport, clock).call(JOIN, REF, Joined)

    assert len(transport.posts) == 1


@pytest.mark.parametrize("failure", [REFUSED, TooLate("late")])
def test_who_just_failed_to_answer_is_asked_in_a_hurry_until_it_answers(
    clock: FakeClock, failure: CnmError
) -> None:
    transport = Fickle(failure)
    plugin = over(transport, clock)
    with pytest.raises(PluginAway):
        plugin.call(JOIN, REF, Joined)
    before = len(transport.posts)

    with pytest.raises(PluginAway):
        plugin.call("NetworkDriver.Leave", REF, Failure)
    assert [seconds for *_, seconds in transport.posts[before:]] == [5.0]

    transport.outcomes = [Answer(200, b"{}")]
    plugin.call("NetworkDriver.Leave", REF, Failure)
    plugin.call("NetworkDriver.Leave", REF, Failure)
    assert [seconds for *_, seconds in transport.posts[-2:]] == [5.0, 60.0]


def test_a_plugin_that_hangs_costs_the_time_limit(tmp_path: Path, plugin: ScriptedPlugin) -> None:
    plugins = Plugins(Places(socket_dirs=(str(tmp_path / "run"),)), RealClock(), 0.2)
    plugin.script(JOIN, Reply(delay=2.0))
    began = time.monotonic()

    with pytest.raises(PluginAway, match=r"no answer within 0\.2 s"):
        plugins.call("x", JOIN, REF, Joined)

    assert time.monotonic() - began < 1.5


def test_a_plugin_that_dribbles_costs_no_more(tmp_path: Path) -> None:
    """Each byte is in time, the answer is not."""
    import socket

    path = tmp_path / "x.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def dribble() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000:
                        connection.send(bytes([byte]))
                        time.sleep(0.02)
                except OSError:
                    return

        thread = threading.Thread(target=dribble)
        thread.start()
        plugins = Plugins(Places(socket_dirs=(str(tmp_path),)), RealClock(), 0.3)
        with pytest.raises(PluginAway, match="no answer within"):
            plugins.get("x", "NetworkDriver")
        thread.join()


def test_a_plugin_that_hangs_does_not_take_all_threads(clock: FakeClock) -> None:
    class Hanging(Fickle):
        def post(self, path: str, body: bytes, seconds: float) -> Answer:
            arrived.release()
            going_on.wait(10)
            return super().post(path, body, seconds)

    arrived, going_on = threading.Semaphore(0), threading.Event()
    plugin = over(Hanging(Answer(200, b"{}")), clock)
    threads = [threading.Thread(target=plugin.call, args=(JOIN, REF, Joined)) for _ in range(8)]
    for thread in threads:
        thread.start()
        assert arrived.acquire(timeout=5)
    clock.time += 6

    with pytest.raises(PluginAway, match="8 calls wait for its answer already"):
        plugin.call(JOIN, REF, Joined)

    going_on.set()
    for thread in threads:
        thread.join()
    assert plugin.call(JOIN, REF, Joined) == Joined()


# Activation


def test_a_plugin_is_activated_once(plugins: Plugins, plugin: ScriptedPlugin) -> None:
    first = plugins.get("x", "NetworkDriver")

    assert plugins.get("x", "IpamDriver") is first
    assert plugin.asked() == ["Plugin.Activate"]


def test_callers_at_the_same_time_wait_for_one_activation(plugins: Plugins, plugin: ScriptedPlugin) -> None:
    plugin.script("Plugin.Activate", Reply(b'{"Implements": ["NetworkDriver"]}', delay=0.2))

    got = _at_once(8, lambda: plugins.get("x", "NetworkDriver"))

    assert len(set(map(id, got))) == 1
    assert plugin.asked() == ["Plugin.Activate"]


def test_who_is_in_a_hurry_does_not_wait_for_the_activation_that_others_wait_for(
    tmp_path: Path, plugin: ScriptedPlugin
) -> None:
    going_on, begun = threading.Event(), threading.Event()

    class Hanging(Fickle):
        def post(self, path: str, body: bytes, seconds: float) -> Answer:
            begun.set()
            going_on.wait(10)
            return super().post(path, body, seconds)

    transport = Hanging(Answer(200, b'{"Implements": ["VolumeDriver"]}'))
    places = Places(socket_dirs=(str(tmp_path / "run"),))
    plugins = Plugins(places, RealClock(), 0.2, transport=lambda _address: transport)
    patient = threading.Thread(target=plugins.get, args=("x", "VolumeDriver"))
    patient.start()
    assert begun.wait(10)

    with pytest.raises(PluginAway, match=r"^plugin x: Plugin\.Activate: no answer within 0\.2 s"):
        plugins.get("x", "VolumeDriver", HURRIED)

    assert patient.is_alive()
    going_on.set()
    patient.join(10)
    assert plugins.get("x", "VolumeDriver", HURRIED).name == "x"


def test_a_failed_activation_is_every_waiters_and_not_remembered(
    plugins: Plugins, plugin: ScriptedPlugin
) -> None:
    plugin.script("Plugin.Activate", Reply(b'{"Err": "not today"}', delay=0.2))

    failures = _at_once(4, lambda: _failure(lambda: plugins.get("x", "NetworkDriver")))

    assert set(failures) == {"plugin x: Plugin.Activate: not today"}
    assert plugins.get("x", "NetworkDriver").name == "x"
    assert plugin.asked() == ["Plugin.Activate"] * 2


def test_a_plugin_of_another_kind_is_refused(plugins: Plugins, plugin: ScriptedPlugin) -> None:
    plugin.implements = ("VolumeDriver",)

    with pytest.raises(
        InvalidParameter,
        match="plugin x does not implement the requested driver: requested implementation=NetworkDriver, "
        "it has VolumeDriver",
    ):
        plugins.get("x", "NetworkDriver")


def test_a_name_never_heard_of_is_looked_for_once(plugins: Plugins, clock: FakeClock) -> None:
    """A misspelt name is answered at once."""
    with pytest.raises(NotFound):
        plugins.get("y", "NetworkDriver")

    assert clock.pauses == []


def test_a_plugin_that_something_needs_is_waited_for(
    plugins: Plugins, clock: FakeClock, tmp_path: Path
) -> None:
    late: list[ScriptedPlugin] = []
    clock.meanwhile = lambda: late or late.append(ScriptedPlugin(tmp_path / "run" / "y.sock"))
    plugins.expect("y")

    assert plugins.get("y", "NetworkDriver").name == "y"
    assert clock.pauses == [1]
    late[0].stop()


def test_a_plugin_that_something_needs_is_given_up_by_the_schedule(
    plugins: Plugins, clock: FakeClock
) -> None:
    plugins.expect("y")

    with pytest.raises(NotFound):
        plugins.get("y", "NetworkDriver")

    assert clock.pauses == [1, 2, 4, 8]


def test_a_plugin_that_came_back_elsewhere_is_found_there(
    plugins: Plugins, plugin: ScriptedPlugin, tmp_path: Path
) -> None:
    plugins.call("x", "NetworkDriver.Leave", REF, Failure)
    plugin.stop()
    with scripted_plugin(tmp_path / "elsewhere.sock") as other:
        (tmp_path / "etc").mkdir()
        (tmp_path / "etc" / "x.spec").write_text(f"unix://{other.path}")
        with pytest.raises(PluginAway):
            plugins.call("x", "NetworkDriver.Leave", REF, Failure)

        plugins.call("x", "NetworkDriver.Leave", REF, Failure)

        assert other.asked() == ["Plugin.Activate", "Leave"]


def _at_once(number: int, call: Callable[[], object]) -> list[object]:
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _failure(call: Callable[[], object]) -> str:
    with pytest.raises(CnmError) as refusal:
        call()
    return str(refusal.value)
