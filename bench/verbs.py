"""One verb at a time, each round beside the floor of the same verb, and some rounds beside other programs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import ExitStack

from bench.client import Client, request
from bench.floor import Attachment, Floor, new_namespace
from bench.peers import Dockerd, Netavark
from bench.samples import Samples
from bench.stage import PORT, Stage, connecting, disconnecting

_REAP_EVERY = 20
PARALLEL = 64


def measure(stage: Stage, samples: Samples, *, rounds: int, peer_rounds: int) -> list[str]:
    """Why peers are missing, one line each. The parts of a round come in an order that chance decides."""
    order = random.Random(1)
    stage.create_network("net")
    with ExitStack() as stack:
        floor = Floor()
        stack.callback(floor.close)
        dockerd = stack.enter_context(Dockerd.running())
        netavark = stack.enter_context(Netavark.ready())
        for number in range(rounds):
            parts: list[Callable[[], None]] = [
                lambda: _floor_round(floor, samples),
                lambda number=number: _round(stage, samples, number),  # type: ignore[misc]
            ]
            if number % max(rounds // peer_rounds, 1) == 0:
                parts += [lambda: dockerd.measure(samples), lambda: netavark.measure(samples)]
            order.shuffle(parts)
            for part in parts:
                part()
            if number % _REAP_EVERY == 0:
                floor.reap()
        return [peer.missing for peer in (dockerd, netavark) if peer.missing]


def _round(stage: Stage, samples: Samples, number: int) -> None:
    send = stage.client.send
    box, net = f"box{number}", f"net{number}"
    ports = {"Ports": [{"ContainerPort": 81, "HostPort": 8081}]}
    endpoint = f"/cnm/v1/endpoints/net%2F{box}/ports"
    for name, message in (
        ("ping", request("GET", "/_ping")),
        ("sandbox create", request("POST", "/cnm/v1/sandboxes", {"Name": box})),
        ("attach", connecting("net", box, Ports=[PORT])),
        ("publish", request("POST", endpoint, ports)),
        ("unpublish", request("DELETE", endpoint, ports)),
        ("detach", disconnecting("net", box)),
        ("sandbox delete", request("DELETE", f"/cnm/v1/sandboxes/{box}")),
        ("network create", request("POST", "/networks/create", {"Name": net})),
        ("network delete", request("DELETE", f"/networks/{net}")),
    ):
        samples.time(name, send, message)


def _floor_round(floor: Floor, samples: Samples) -> None:
    namespace = samples.time("floor sandbox create", new_namespace)
    endpoint = floor.endpoint(namespace)
    samples.time("floor attach", floor.attach, endpoint)
    samples.time("floor detach", floor.detach, endpoint)
    os.close(namespace)
    network = floor.network()
    samples.time("floor network create", floor.create_network, network)
    samples.time("floor network delete", floor.delete_network, network)


def measure_many_ports(stage: Stage, samples: Samples, *, rounds: int, ports: int = 1000) -> None:
    """All ports of one dual-stack endpoint in one request, beside their elements and sockets alone."""
    stage.create_network("dual", EnableIPv6=True)
    stage.create_sandbox("many")
    stage.connect("dual", "many")
    last = {"ContainerPortEnd": 1000 + ports - 1, "HostPortEnd": 20000 + ports - 1}
    body = {"Ports": [{"ContainerPort": 1000, "HostPort": 20000, **last}]}
    publishing = request("POST", "/cnm/v1/endpoints/dual%2Fmany/ports", body)
    withdrawing = request("DELETE", "/cnm/v1/endpoints/dual%2Fmany/ports", body)
    floor = Floor()
    endpoint = floor.endpoint(0, ports, (4, 6))
    for _ in range(rounds):
        samples.time("publish 1,000", stage.client.send, publishing)
        samples.time("floor publish 1,000", _publish_at_floor, floor, endpoint, ports)
        samples.time("unpublish 1,000", stage.client.send, withdrawing)
        samples.time("floor unpublish 1,000", _unpublish_at_floor, floor, endpoint)
    floor.close()


def _publish_at_floor(floor: Floor, endpoint: Attachment, ports: int) -> None:
    floor.hold(20000, ports)
    floor.publish(endpoint)


def _unpublish_at_floor(floor: Floor, endpoint: Attachment) -> None:
    floor.let_go()
    floor.unpublish(endpoint)


def measure_parallel(stage: Stage, samples: Samples, *, rounds: int) -> None:
    """From the first of 64 requests to the last answer, each on a connection of its own, beside 64 at the floor."""
    boxes = [f"parallel{number}" for number in range(PARALLEL)]
    for box in boxes:
        stage.create_sandbox(box)
    stage.create_network("wide")
    clients = [Client(stage.daemon.socket) for _ in boxes]
    floor = Floor()
    ports = [{"ContainerPort": 80, "HostPort": 9000 + number} for number in range(PARALLEL)]
    attaching = [connecting("wide", box, Ports=[port]) for box, port in zip(boxes, ports, strict=True)]
    detaching = [disconnecting("wide", box) for box in boxes]
    for _ in range(rounds):
        samples.time("64 attaches", _all_at_once, clients, attaching)
        samples.time("64 detaches", _all_at_once, clients, detaching)
        endpoints = [floor.endpoint(new_namespace()) for _ in boxes]
        samples.time("floor 64 attaches", list, map(floor.attach, endpoints))
        samples.time("floor 64 detaches", list, map(floor.detach, endpoints))
        for endpoint in endpoints:
            os.close(endpoint.namespace)
        floor.reap()
    floor.close()
    for client in clients:
        client.close()


def _all_at_once(clients: list[Client], messages: list[bytes]) -> None:
    for client, message in zip(clients, messages, strict=True):
        client.begin(message)
    for client, message in zip(clients, messages, strict=True):
        client.finish(message)
