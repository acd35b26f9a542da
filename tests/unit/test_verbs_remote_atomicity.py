"""Verbs on another program's networks happen whole or not at all, here and in that program, whatever step fails."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cnm.endpoint import Endpoint
from cnm.errors import CnmError
from cnm.kernel.state import Link, LinkKind, Sysctl
from cnm.network import IpamConfig, Network
from tests.support.scripted_plugin import Kept, ScriptedPlugin, error, scripted_plugin
from tests.unit.test_verbs_atomicity import BY_HALVES, Case, Step, connect, endpoint, sandbox
from tests.unit.verbs_stage import Stage, tcp


def far(name: str = "far", subnet: str = "") -> Step:
    config = (IpamConfig(subnet=subnet),) if subnet else ()
    return lambda stage: stage.network(name, driver="lp", ipam_driver="lp", ipam_config=config)


PORTS = (tcp(80, 8080),)
BOX = (far("far", "10.9.0.0/24"), far("near", "10.10.0.0/24"), sandbox("box"))

CASES = {
    "create a network": Case(far("new")),
    "delete a network": Case(lambda s: s.controller.delete_network("far"), BOX),
    "create an endpoint": Case(endpoint("far", "e", ports=PORTS), BOX),
    "delete an endpoint": Case(lambda s: s.controller.delete_endpoint("far/e"), (*BOX, endpoint("far", "e"))),
    "join": Case(lambda s: s.controller.join("far/e", "box"), (*BOX, endpoint("far", "e", ports=PORTS))),
    "leave": Case(lambda s: s.controller.leave("far/box"), (*BOX, connect("far", "box", ports=PORTS))),
    "connect": Case(connect("far", "box", ports=PORTS), BOX),
    "connect what becomes the way out": Case(
        connect("far", "box", gw_priority=5), (*BOX, connect("near", "box"))
    ),
    "disconnect the way out": Case(
        lambda s: s.controller.disconnect("far", "box"),
        (*BOX, connect("near", "box"), connect("far", "box", gw_priority=5)),
    ),
    "publish": Case(lambda s: s.controller.publish("far/box", PORTS), (*BOX, connect("far", "box"))),
    "unpublish": Case(
        lambda s: s.controller.unpublish("far/box", PORTS), (*BOX, connect("far", "box", ports=PORTS))
    ),
}
REFUSABLE = (
    *("CreateNetwork", "CreateEndpoint", "Join"),
    *("ProgramExternalConnectivity", "RevokeExternalConnectivity"),
    *("RequestPool", "RequestAddress"),
)


@contextmanager
def staged(setup: tuple[Step, ...]) -> Iterator[tuple[Stage, ScriptedPlugin]]:
    with TemporaryDirectory() as place, scripted_plugin(Path(place) / "plugins" / "lp.sock") as plugin:
        stage = Stage(Path(place))
        plugin.make_link = lambda name: stage.links().setdefault(
            name, Link(name, LinkKind.VETH, "06:00:00:00:00:01", up=False)
        )
        plugin.drop_link = lambda name: stage.links().pop(name, None)
        plugin.join_answer = {"StaticRoutes": [{"Destination": "0.0.0.0/0", "NextHop": "10.9.0.1"}]}
        for step in setup:
            step(stage)
        stage.faults.reset()
        plugin.calls.clear()
        try:
            yield stage, plugin
        finally:
            stage.end()


def kept_by(plugin: ScriptedPlugin) -> Kept:
    """Without its links, which stay with an endpoint that was joined once."""
    return replace(copy.deepcopy(plugin.kept), links={})


def numbers(kept: Kept) -> list[int]:
    """How much the plugin has of each kind; ids are by chance."""
    return [len(value) for value in vars(kept).values()]


def picture(stage: Stage) -> dict[str, list[str]]:
    """Without the links that are the plugin's affair: those that it has on the host while nobody is joined by them."""
    seen = stage.picture()
    seen["links"] = [link for link in seen["links"] if not link.startswith("('', Link(name='sp")]
    return seen


def outcome(stage: Stage, plugin: ScriptedPlugin) -> object:
    return (
        sorted(n.name for n in stage.controller.networks()),
        sorted(
            (e.name, e.state, e.ipv4, e.ifname, e.attachment is None) for e in stage.controller.endpoints()
        ),
        sorted(n.name for n in stage.store.load(Network)),
        sorted((e.name, e.state) for e in stage.store.load(Endpoint)),
        numbers(kept_by(plugin)),
        sorted(plugin.kept.programmed.values()),
        [
            f for f in stage.controller.doctor() if not isinstance(f.wanted, Sysctl)
        ],  # of the plugin's links on the host
    )


@pytest.mark.parametrize("name", CASES)
def test_a_fault_at_any_step_of_ours_leaves_the_plugin_as_it_was(name: str) -> None:
    case = CASES[name]
    with staged(case.setup) as (stage, plugin):
        case.verb(stage)
        steps, wanted = list(stage.faults.calls), outcome(stage, plugin)
    assert steps

    for at in range(len(steps)):
        for after in (False, True) if steps[at] in BY_HALVES else (False,):
            with staged(case.setup) as (stage, plugin):
                before, kept = picture(stage), kept_by(plugin)
                stage.faults.reset(at, after=after)
                try:
                    case.verb(stage)
                except CnmError:
                    stage.faults.reset()
                    assert picture(stage) == before, (steps[at], at, after)
                    assert kept_by(plugin) == kept, (steps[at], at, after)
                    case.verb(stage)
                else:
                    stage.faults.reset()
                    stage.restart()  # finishes what the verb could only log
                assert outcome(stage, plugin) == wanted, (steps[at], at, after)


@pytest.mark.parametrize("name", CASES)
def test_a_plugin_that_refuses_any_call_leaves_all_as_it_was(name: str) -> None:
    case = CASES[name]
    with staged(case.setup) as (stage, plugin):
        case.verb(stage)
        calls, wanted = [call.method for call in plugin.calls], outcome(stage, plugin)

    for method in sorted({call for call in calls if call.partition(".")[2] in REFUSABLE}):
        with staged(case.setup) as (stage, plugin):
            before, kept = picture(stage), kept_by(plugin)
            plugin.script(method, error("no"))
            try:
                case.verb(stage)
            except CnmError:
                assert picture(stage) == before, method
                assert kept_by(plugin) == kept, method
                case.verb(stage)
            assert outcome(stage, plugin) == wanted or _only_logged(name, method), method


def _only_logged(name: str, method: str) -> bool:
    """Whoever leaves has left, even if nobody can be told to be the way out after him."""
    return name.startswith(("leave", "disconnect")) and method.endswith("ExternalConnectivity")


@pytest.mark.parametrize("name", CASES)
def test_a_daemon_that_starts_after_a_verb_finds_what_the_verb_left(name: str) -> None:
    with staged(CASES[name].setup) as (stage, plugin):
        CASES[name].verb(stage)
        wanted = outcome(stage, plugin)

        stage.restart()

        assert outcome(stage, plugin) == wanted
