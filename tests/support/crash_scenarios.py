"""What the crash harness kills: every verb on something worth breaking, and start-up with something to mend."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnm.controller import Controller
from cnm.endpoint import EndpointRequest, PortRequest, Protocol
from cnm.network import IpamConfig, NetworkRequest
from netns_fixtures.namespace import Namespace

Step = Callable[[Controller], object]

GIVEN_NAMESPACE = Path("/run/given")
HOST_INTERFACES = ("eth0-far", "eth0", "docker0", "cnm-0123456789a", "cv0123456789ab")
"""In the order of their making; the last three are other people's, some of which are named as ours would be."""
PORTS = (
    PortRequest(container_port=80, container_port_end=82, host_port=8080, host_port_end=8082),
    PortRequest(protocol=Protocol.UDP, container_port=53, host_port=5353),
)
MORE_PORTS = (PortRequest(container_port=443, host_port=8443),)
HOST_PORTS = (8080, 8081, 8082, 5353, 8443)
"""Whether these can be bound is a part of what is compared."""


@dataclass(frozen=True)
class Scenario:
    """The process is killed at each call of `verb`, after `setup`.

    `between` are steps whose outcome is whole, too: what is made of several verbs may stop between two of them.
    Where `start_up` is set, the start-up that follows is killed instead: `verb` was cut off at `cut` of its calls
    (1.0: it came to its end), the machine has rebooted, or nothing was ever there (`fresh`).
    `names`: with a resolver, which takes its time to start; what concerns no sandbox that is answered does without.
    """

    name: str
    verb: Step
    setup: Sequence[Step] = ()
    between: Sequence[Step] = ()
    start_up: bool = False
    cut: float = 1.0
    reboot: bool = False
    fresh: bool = False
    names: bool = False


def network(name: str, **request: Any) -> Step:
    return lambda c: c.create_network(NetworkRequest(name=name, **request))


def delete_network(name: str) -> Step:
    return lambda c: c.delete_network(name)


def sandbox(name: str, netns: str = "") -> Step:
    return lambda c: c.create_sandbox(name, netns)


def delete_sandbox(name: str, force: bool = False) -> Step:
    return lambda c: c.delete_sandbox(name, force=force)


def endpoint(net: str, name: str, **request: Any) -> Step:
    return lambda c: c.create_endpoint(net, EndpointRequest(name=name, **request))


def connect(net: str, box: str, **request: Any) -> Step:
    return lambda c: c.connect(net, box, EndpointRequest(**request))


def publish(ref: str, ports: Sequence[PortRequest]) -> Step:
    return lambda c: c.publish(ref, ports)


def given_namespace(_controller: Controller) -> None:
    Namespace.create(GIVEN_NAMESPACE)


def damage(controller: Controller) -> None:
    """What another program, or an administrator, may do to what is ours."""
    port = next(e for e in controller.endpoints("dual") if e.name == "other").id[:12]
    bridge = controller.network("plain").id[:11]
    namespace = controller.sandbox("third").netns
    for command in (
        f"ip link delete cv{port}",
        f"ip address flush dev cnm-{bridge}",
        f"ip link set cnm-{bridge} down",
        "nft flush set inet cnm masq",
        "nft delete table bridge cnm",
        f"umount {namespace}",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)


def first_use_of_bridge_only(controller: Controller) -> None:
    made = controller.create_endpoint("bridge", EndpointRequest(name="first"))
    controller.delete_endpoint(made.id)


def forwarding_by(count: int) -> Step:
    """The host's first interfaces forward. They go on when the last network is gone; the firewall drops all of it."""

    def throw(_controller: Controller) -> None:
        for interface in HOST_INTERFACES[:count]:
            Path(f"/proc/sys/net/ipv4/conf/{interface}/forwarding").write_text("1")

    return throw


def nothing(_controller: Controller) -> None:
    pass


_DUAL = network("dual", enable_ipv6=True, labels={"tier": "web"})
_PLAIN = network("plain", ipam_config=(IpamConfig(subnet="192.168.77.0/24", gateway="192.168.77.1"),))
_INHABITED = (
    *(_DUAL, _PLAIN, sandbox("box"), sandbox("other")),
    *(connect("plain", "box", aliases=("db",)), connect("dual", "other", ports=MORE_PORTS)),
)
_BOX_IN_BOTH = (*_INHABITED, connect("dual", "box", ports=PORTS))
_LAN = network(
    "lan",
    driver="macvlan",
    enable_ipv6=True,
    options={"parent": "eth0"},
    ipam_config=(IpamConfig(subnet="198.51.100.0/24", ip_range="198.51.100.128/25", gateway="198.51.100.1"),),
)
_NO_ICC = {"com.docker.network.bridge.enable_icc": "false"}

VERBS = (
    Scenario("network create", network("new"), _INHABITED),
    Scenario(
        "network create, first of all",
        network("new"),
        between=[forwarding_by(count) for count in range(1, len(HOST_INTERFACES) + 1)],
    ),
    Scenario("network create, dual", network("new", enable_ipv6=True, options=_NO_ICC), _INHABITED),
    Scenario("network create, internal", network("new", internal=True, enable_ipv6=True), _INHABITED),
    Scenario(
        "first use of bridge",
        endpoint("bridge", "first"),
        _INHABITED,
        between=[first_use_of_bridge_only],
    ),
    Scenario("network rm", delete_network("idle"), (*_INHABITED, network("idle", enable_ipv6=True))),
    Scenario("network rm, the last", delete_network("dual"), (_DUAL,)),
    Scenario(
        "network prune",
        lambda c: c.prune_networks(lambda _network: False),
        (*_INHABITED, network("idle"), network("unused", enable_ipv6=True)),
        between=[delete_network("idle"), delete_network("unused")],
    ),
    Scenario("sandbox create", sandbox("new"), _INHABITED),
    Scenario("sandbox create, given", sandbox("new", str(GIVEN_NAMESPACE)), (*_INHABITED, given_namespace)),
    Scenario("sandbox rm", delete_sandbox("third"), (*_INHABITED, sandbox("third"))),
    Scenario("sandbox rm --force", delete_sandbox("box", force=True), _BOX_IN_BOTH, names=True),
    Scenario("endpoint create", endpoint("dual", "spare", ports=PORTS), _INHABITED),
    Scenario("endpoint rm", lambda c: c.delete_endpoint("dual/spare"), (*_INHABITED, endpoint("dual", "spare"))),
    Scenario("endpoint rm --force", lambda c: c.delete_endpoint("dual/box", force=True), _BOX_IN_BOTH, names=True),
    Scenario(
        "endpoint join",
        lambda c: c.join("dual/spare", "box"),
        (*_INHABITED, endpoint("dual", "spare", ports=PORTS)),
        names=True,
    ),
    Scenario("endpoint leave", lambda c: c.leave("dual/box"), _BOX_IN_BOTH, names=True),
    Scenario("network connect", connect("dual", "box", ports=PORTS), _INHABITED, names=True),
    Scenario(
        "network connect, given",
        connect("dual", "new", ifname="up0"),
        (*_INHABITED, given_namespace, sandbox("new", str(GIVEN_NAMESPACE))),
        names=True,
    ),
    Scenario("network disconnect", lambda c: c.disconnect("dual", "box"), _BOX_IN_BOTH, names=True),
    Scenario(
        "network disconnect, given",
        lambda c: c.disconnect("dual", "new", wait=True),
        (*_INHABITED, given_namespace, sandbox("new", str(GIVEN_NAMESPACE)), connect("dual", "new", ifname="up0")),
        names=True,
    ),
    Scenario("network connect, macvlan", connect("lan", "box"), (*_INHABITED, _LAN)),
    Scenario(
        "network disconnect, macvlan",
        lambda c: c.disconnect("lan", "box"),
        (*_INHABITED, _LAN, connect("lan", "box")),
    ),
    Scenario("port add", publish("dual/other", PORTS), _INHABITED),
    Scenario("port add, relayed", publish("plain/box", PORTS), _INHABITED),
    Scenario("port rm", lambda c: c.unpublish("dual/box", PORTS), _BOX_IN_BOTH),
    Scenario(
        "port rm, relayed",
        lambda c: c.unpublish("plain/box", PORTS),
        (*_INHABITED, publish("plain/box", PORTS)),
    ),
    Scenario("doctor --repair", lambda c: c.repair(), (*_INHABITED, sandbox("third"), damage), names=True),
)  # fmt: skip


def _start_up(name: str, **changes: Any) -> Scenario:
    """A start-up after the verb of that name was cut off."""
    verb = next(scenario for scenario in VERBS if scenario.name == name)
    return replace(verb, name=f"start-up after {name}", start_up=True, between=(), **changes)


START_UPS = (
    Scenario("first start-up", nothing, start_up=True, fresh=True),
    Scenario("start-up", nothing, _BOX_IN_BOTH, start_up=True, names=True),
    Scenario("start-up after a reboot", nothing, _BOX_IN_BOTH, start_up=True, reboot=True, names=True),
    _start_up("network create, dual", cut=0.5),
    _start_up("network rm", cut=0.5),
    _start_up("sandbox create", cut=0.6),
    _start_up("sandbox rm --force", cut=0.5),
    _start_up("network connect", cut=0.6),
    _start_up("network disconnect", cut=0.6),
    _start_up("network connect, macvlan", cut=0.6),
)

SCENARIOS = {scenario.name: scenario for scenario in (*VERBS, *START_UPS)}
