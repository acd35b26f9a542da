"""The packet table, cell by cell: who reaches whom, in which gateway mode, over what."""

from __future__ import annotations

from functools import partial

import pytest

from tests.packet.lab import (
    FAMILIES,
    FAR,
    GIVEN,
    HOST,
    HOST_AT_FAR,
    LOOPBACK,
    MODES,
    NETWORKS,
    OPEN,
    OUTSIDE,
    PASS_SECONDS,
    PROTOCOLS,
    TRANSPORTS,
    UNOPENED,
    Lab,
    Probe,
    assert_all_dropped,
    assert_all_pass,
    networks,
    ports_of,
    reaches,
    to_containers,
)

COLUMNS = pytest.mark.parametrize("mode", MODES)
TRANSLATING = pytest.mark.parametrize("mode", ["nat", "unprotected"])


def opened(mode: str, protocol: str) -> tuple[int, ...]:
    """Ports that a container shows to strangers at its own address."""
    if mode == "unprotected":
        return ports_of(protocol)
    return (0 if protocol == "icmp" else OPEN,) if mode == "routed" else ()


def strangers(
    lab: Lab, mode: str, protocol: str, version: int, sources: list[str]
) -> tuple[dict[str, Probe], dict[str, Probe]]:
    """Probes of the containers of a mode from other networks' `b`s or machines: what must pass, and what not."""
    passing: dict[str, Probe] = {}
    dropped: dict[str, Probe] = {}
    for source in sources:
        own = source.removesuffix("-b")
        host = lab.topology.hosts[source]
        for name in networks(modes=(mode,), version=version):
            for port in ports_of(protocol) if name != own else ():
                address = lab.address(name, "a", version)
                shut_in = own in NETWORKS and NETWORKS[own].internal
                passes = port in opened(mode, protocol) and not shut_in
                seconds = {"seconds": PASS_SECONDS} if passes else {}
                probe = partial(reaches, host, protocol, address, port, **seconds)
                (passing if passes else dropped)[f"{source} to {name}-a port {port}"] = probe
    return passing, dropped


# The same network


@PROTOCOLS
@FAMILIES
@COLUMNS
def test_with_icc_a_sibling_reaches_every_port(lab: Lab, mode: str, version: int, protocol: str) -> None:
    probes: dict[str, Probe] = {}
    for name in networks(modes=(mode,), version=version, icc=True):
        probes |= to_containers(lab, lab.box(name, "b"), [name], protocol, version, PASS_SECONDS)

    assert_all_pass(probes)


@PROTOCOLS
@FAMILIES
@COLUMNS
def test_without_icc_a_sibling_reaches_no_port_at_the_address_of_the_container(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    probes: dict[str, Probe] = {}
    for name in networks(modes=(mode,), version=version, icc=False):
        probes |= to_containers(lab, lab.box(name, "b"), [name], protocol, version)

    assert_all_dropped(lab, probes)


# Strangers at a container's own address


@PROTOCOLS
@FAMILIES
@COLUMNS
def test_another_network_reaches_at_a_container_what_the_mode_opens(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    sources = [f"{name}-b" for name in networks(version=version)]

    passing, dropped = strangers(lab, mode, protocol, version, sources)

    if passing:
        assert_all_pass(passing)
    if dropped:
        assert_all_dropped(lab, dropped)


@PROTOCOLS
@FAMILIES
@COLUMNS
def test_outside_reaches_directly_at_a_container_what_the_mode_opens(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    passing, dropped = strangers(lab, mode, protocol, version, ["outside"])

    if passing:
        assert_all_pass(passing)
    if dropped:
        assert_all_dropped(lab, dropped)


@PROTOCOLS
@FAMILIES
def test_a_trusted_interface_reaches_every_port_of_its_network_and_no_other(
    lab: Lab, version: int, protocol: str
) -> None:
    trusting = to_containers(lab, lab.far, ["given"], protocol, version, PASS_SECONDS)
    others = networks(modes=("nat", "internal", "isolated"), version=version)
    rest = to_containers(lab, lab.far, [n for n in others if n != "given"], protocol, version)

    assert_all_pass(trusting)
    assert_all_dropped(lab, rest)


@PROTOCOLS
@FAMILIES
@COLUMNS
def test_the_host_reaches_every_port_unless_it_has_no_address_there(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    names = networks(modes=(mode,), version=version)

    if mode == "isolated":
        assert_all_dropped(lab, to_containers(lab, lab.host, names, protocol, version))
    else:
        assert_all_pass(to_containers(lab, lab.host, names, protocol, version, PASS_SECONDS))


# Published ports


@TRANSPORTS
@FAMILIES
@TRANSLATING
def test_outside_reaches_a_published_port_and_its_source_is_seen(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    ask = lab.outside.connect_tcp if protocol == "tcp" else lab.outside.send_udp
    for name in networks(modes=(mode,), version=version):
        for port in (NETWORKS[name].any_port, NETWORKS[name].one_port):
            outcome = ask(HOST[version], port, timeout=PASS_SECONDS)

            assert outcome.payload == f"{name}-a".encode(), (name, port)
            assert outcome.seen == outcome.local
            assert outcome.served == (lab.address(name, "a", version), OPEN)


@TRANSPORTS
@FAMILIES
def test_a_port_of_one_host_address_is_not_reached_at_another(lab: Lab, version: int, protocol: str) -> None:
    probes = {
        name: partial(reaches, lab.far, protocol, HOST_AT_FAR[version], NETWORKS[name].one_port)
        for name in networks(modes=("nat", "unprotected"), version=version)
    }

    assert_all_dropped(lab, probes)


@TRANSPORTS
@FAMILIES
def test_a_routed_network_binds_no_port_of_the_host(lab: Lab, version: int, protocol: str) -> None:
    port = NETWORKS["routed"].any_port
    probes = {
        "outside": partial(reaches, lab.outside, protocol, HOST[version], port),
        "host": partial(reaches, lab.host, protocol, LOOPBACK[version], port),
    }

    assert_all_dropped(lab, probes)


@pytest.mark.parametrize("mode", ["internal", "isolated"])
def test_an_internal_network_publishes_nothing(lab: Lab, mode: str) -> None:
    (endpoint,) = lab.daemon.ask("GET", f"/cnm/v1/endpoints?network={mode}&sandbox={mode}-a")

    status, answer = lab.daemon.request(
        "POST",
        f"/cnm/v1/endpoints/{endpoint['Id']}/ports",
        {"Ports": [{"ContainerPort": 80, "HostPort": 8099}]},
    )

    assert (status, answer["message"]) == (
        400,
        f"ports cannot be published on network {mode}: it is internal",
    )


@TRANSPORTS
@FAMILIES
@TRANSLATING
def test_the_host_reaches_a_published_port_at_its_own_addresses(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    probes: dict[str, Probe] = {}
    for name in networks(modes=(mode,), version=version):
        net = NETWORKS[name]
        for address, port in (
            (LOOPBACK[version], net.any_port),
            (LOOPBACK[version], net.loopback_port),
            (HOST[version], net.any_port),
            (HOST[version], net.one_port),
            (net.gateway(version), net.any_port),
        ):
            probes[f"{address} {port}"] = partial(reaches, lab.host, protocol, address, port, PASS_SECONDS)

    assert_all_pass(probes)


@TRANSPORTS
@FAMILIES
@TRANSLATING
@pytest.mark.parametrize("client", ["own", "sibling"])
def test_hairpin_a_network_reaches_its_own_published_port(
    lab: Lab, client: str, mode: str, version: int, protocol: str
) -> None:
    probes: dict[str, Probe] = {}
    for name in networks(modes=(mode,), version=version):
        box = lab.box(name, "a" if client == "own" else "b")
        for address in (HOST[version], HOST_AT_FAR[version], NETWORKS[name].gateway(version)):
            probes[f"{name} by {address}"] = partial(
                reaches, box, protocol, address, NETWORKS[name].any_port, PASS_SECONDS
            )

    assert_all_pass(probes)


@TRANSPORTS
@FAMILIES
@TRANSLATING
def test_hairpin_another_network_reaches_a_published_port(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    clients = networks(modes=("nat", "unprotected", "routed"), version=version)
    probes = {
        f"{client}-b to {name} by {address}": partial(
            reaches, lab.box(client, "b"), protocol, address, NETWORKS[name].any_port, PASS_SECONDS
        )
        for name in networks(modes=(mode,), version=version)
        for client in clients
        for address in (HOST[version], NETWORKS[client].gateway(version))
        if client != name
    }

    assert_all_pass(probes)


@TRANSPORTS
@FAMILIES
def test_an_internal_network_reaches_no_published_port_of_another(
    lab: Lab, version: int, protocol: str
) -> None:
    probes = {
        f"{client}-b to {name} by {address}": partial(
            reaches, lab.box(client, "b"), protocol, address, NETWORKS[name].any_port
        )
        for name in networks(modes=("nat", "unprotected"), version=version)
        for client in networks(modes=("internal", "isolated"), version=version)
        for address in (HOST[version], NETWORKS[client].gateway(version))
    }

    assert_all_dropped(lab, probes)


@TRANSPORTS
@FAMILIES
def test_a_port_published_on_loopback_is_reached_from_nowhere_else(
    lab: Lab, version: int, protocol: str
) -> None:
    sources = [f"{name}-{letter}" for name in networks(version=version) for letter in "ab"]
    probes: dict[str, Probe] = {}
    for name in ("nat", "nat-no-icc", "unprotected"):
        for source in ("outside", *sources):
            host = lab.topology.hosts[source]
            for address in (HOST[version], NETWORKS[name].gateway(version)):
                probes[f"{source} to {name} by {address}"] = partial(
                    reaches, host, protocol, address, NETWORKS[name].loopback_port
                )

    assert_all_dropped(lab, probes)


# Leaving


@TRANSPORTS
@FAMILIES
@COLUMNS
def test_containers_leave_with_the_address_that_the_mode_gives(
    lab: Lab, mode: str, version: int, protocol: str
) -> None:
    for name in networks(modes=(mode,), version=version):
        box = lab.box(name, "b")
        ask = box.connect_tcp if protocol == "tcp" else box.send_udp
        outcome = ask(OUTSIDE[version], UNOPENED, timeout=PASS_SECONDS)

        if NETWORKS[name].internal:
            assert outcome.error == "Network is unreachable", name
            continue
        assert outcome.seen is not None, name
        wanted = GIVEN[version] if name == "given" else HOST[version]
        assert outcome.seen[0] == (lab.address(name, "b", version) if mode == "routed" else wanted), name


@FAMILIES
@COLUMNS
def test_containers_ping_the_world_unless_their_network_is_internal(
    lab: Lab, mode: str, version: int
) -> None:
    probes = {
        f"{name} to {address}": partial(reaches, lab.box(name, "b"), "icmp", address, 0, PASS_SECONDS)
        for name in networks(modes=(mode,), version=version)
        for address in (OUTSIDE[version], FAR[version])
        if name != "given" or address in OUTSIDE.values()
    }

    if mode in ("internal", "isolated"):
        assert_all_dropped(lab, probes)
    else:
        assert_all_pass(probes)


@TRANSPORTS
def test_each_family_has_a_mode_of_its_own(lab: Lab, protocol: str) -> None:
    name = f"mixed-{protocol}"
    lab.daemon.create_network(
        name, EnableIPv6=True, Options={"com.docker.network.bridge.gateway_mode_ipv6": "routed"}
    )
    lab.sandbox(f"{name}-a")
    port = {"Protocol": protocol, "ContainerPort": OPEN, "HostPort": 8099}
    lab.endpoints[f"{name}-a"] = lab.daemon.connect(name, f"{name}-a", Ports=[port])
    inside = {version: lab.address(name, "a", version) for version in (4, 6)}
    for version in (4, 6):
        lab.outside.run(["ip", "route", "replace", inside[version], "via", HOST[version]])

    assert reaches(lab.outside, protocol, HOST[4], 8099, PASS_SECONDS)
    assert reaches(lab.outside, protocol, inside[6], OPEN, PASS_SECONDS)
    dropped = {
        "IPv4 directly": partial(reaches, lab.outside, protocol, inside[4], OPEN),
        "IPv6 unopened": partial(reaches, lab.outside, protocol, inside[6], UNOPENED),
    }
    if not lab.br_netfilter:  # with it the relay, meant for [::1], listens on every address of the host
        dropped["IPv6 by the host"] = partial(reaches, lab.outside, protocol, HOST[6], 8099)
    assert_all_dropped(lab, dropped)
    lab.daemon.ask("DELETE", f"/cnm/v1/sandboxes/{name}-a?force=1")
    lab.daemon.ask("DELETE", f"/networks/{name}")


def test_the_host_is_as_cnmd_wants_it_after_all_this(lab: Lab) -> None:
    assert lab.daemon.findings() == []
