"""Docker commands as text, for scenarios that read like a shell script."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from tests.support.fake_dockerd.daemon import FakeDockerd
from tests.support.fake_dockerd.errors import DockerError
from tests.support.fake_dockerd.model import Attachment, Subnet


def docker(dockerd: FakeDockerd, command: str) -> None:
    """Runs `docker …` of the few commands that concern networks; calls are recorded under its text.

    A command with several objects goes on after a failure. Raises DockerError and ProtocolViolation.
    """
    words = shlex.split(command)[1:]
    verb = " ".join(words[:2]) if words[0] == "network" else words[0]
    with dockerd.step(command):
        _VERBS[verb](dockerd, words[len(verb.split()) :])


def _network_create(dockerd: FakeDockerd, words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-d", "--driver", default="bridge")
    parser.add_argument("--ipam-driver", default="default")
    for flag in ("--subnet", "--gateway", "--ip-range", "--aux-address", "--ipam-opt", "-o", "--label"):
        parser.add_argument(flag, action="append", default=[])
    for flag in ("--internal", "--ipv6", "--attachable"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("--ipv4", default="true")
    parser.add_argument("name")
    flags = parser.parse_args(words)
    dockerd.network_create(
        flags.name,
        driver=flags.driver,
        ipam_driver=flags.ipam_driver,
        subnets=_subnets(flags),
        options=_pairs(flags.o),
        ipam_options=_pairs(flags.ipam_opt),
        internal=flags.internal,
        ipv4=flags.ipv4 == "true",
        ipv6=flags.ipv6,
    )


def _subnets(flags: argparse.Namespace) -> list[Subnet]:
    """The client sorts gateways, ranges and auxiliary addresses to the subnets that contain them."""
    auxiliary = _pairs(flags.aux_address)

    def within(pool: str, address: str) -> bool:
        return ip_address(address.partition("/")[0]) in ip_network(pool)

    return [
        Subnet(
            pool=pool,
            ip_range=next((r for r in flags.ip_range if within(pool, r)), ""),
            gateway=next((g for g in flags.gateway if within(pool, g)), ""),
            auxiliary={name: ip for name, ip in auxiliary.items() if within(pool, ip)},
        )
        for pool in flags.subnet
    ]


def _pairs(texts: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def _run(dockerd: FakeDockerd, words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--name", "--ip", "--ip6", "--mac-address", "--restart", "--hostname"):
        parser.add_argument(flag, default="")
    for flag in ("--network", "-p", "--expose", "--label", "--network-alias", "--dns"):
        parser.add_argument(flag, action="append", default=[])
    for flag in ("-d", "--rm", "-P"):
        parser.add_argument(flag, action="store_true")
    parser.add_argument("image")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    flags = parser.parse_args(words)
    plain = Attachment(flags.ip, flags.ip6, flags.mac_address)
    networks = dict(_attachment(text, plain) for text in flags.network)
    name = flags.name or f"nameless_{len(dockerd.containers)}"
    try:
        dockerd.run(
            name,
            networks,
            ports=flags.p,
            expose=flags.expose,
            dns=flags.dns,
            publish_all=flags.P,
            restart_always=flags.restart == "always",
        )
    finally:
        if flags.rm:
            dockerd.rm(name)


def _attachment(text: str, plain: Attachment) -> tuple[str, Attachment]:
    """`--network NAME` or `--network name=NAME,ip=…,mac-address=…,driver-opt=…,gw-priority=…`."""
    if "=" not in text:
        return text, plain
    pairs = [part.partition("=")[::2] for part in text.split(",")]
    fields = dict(pairs)
    options = _pairs([value for key, value in pairs if key == "driver-opt"])
    return fields["name"], Attachment(
        fields.get("ip", ""),
        fields.get("ip6", ""),
        fields.get("mac-address", ""),
        options,
        int(fields.get("gw-priority", 0)),
    )


def _connect(dockerd: FakeDockerd, words: list[str]) -> None:
    parser = argparse.ArgumentParser()
    for flag in ("--ip", "--ip6"):
        parser.add_argument(flag, default="")
    for flag in ("--alias", "--driver-opt"):
        parser.add_argument(flag, action="append", default=[])
    parser.add_argument("network")
    parser.add_argument("container")
    flags = parser.parse_args(words)
    options = _pairs(flags.driver_opt)
    dockerd.connect(flags.network, flags.container, Attachment(flags.ip, flags.ip6, driver_options=options))


def _disconnect(dockerd: FakeDockerd, words: list[str]) -> None:
    network, container = [word for word in words if word != "-f"]
    dockerd.disconnect(network, container)


def _each(verb: Callable[[FakeDockerd, str], None]) -> Callable[[FakeDockerd, list[str]], None]:
    """Commands with objects alone, and flags that change no call."""

    def run(dockerd: FakeDockerd, words: list[str]) -> None:
        failures = []
        for name in [w for w in words if not w.startswith("-") and not w.isdigit()]:
            try:
                verb(dockerd, name)
            except DockerError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    return run


_VERBS: dict[str, Callable[[FakeDockerd, list[str]], None]] = {
    "network create": _network_create,
    "network connect": _connect,
    "network disconnect": _disconnect,
    "network rm": _each(FakeDockerd.network_rm),
    "run": _run,
    "start": _each(FakeDockerd.start),
    "restart": _each(FakeDockerd.restart),
    "stop": _each(FakeDockerd.stop),
    "kill": _each(FakeDockerd.stop),
    "rm": _each(FakeDockerd.rm),
}
