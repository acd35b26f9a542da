"""Whatever is wrong with a request, the daemon says so in one line with Docker's status, and changes nothing."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.cnmd import Cnmd, running

NETWORKS = "/networks/create"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cnmd]:
    subprocess.run(["ip", "link", "add", "foreign0", "type", "bridge"], check=True)
    with running(tmp_path_factory.mktemp("cnmd")) as cnmd:
        cnmd.create_network("web", IPAM={"Config": [{"Subnet": "10.20.0.0/24"}]})
        cnmd.create_network("tiny", IPAM={"Config": [{"Subnet": "10.21.0.0/31"}]})
        cnmd.create_network("inner", Internal=True)
        cnmd.create_network("plain", EnableIPv6=False)
        for name in ("box", "other"):
            cnmd.create_sandbox(name)
        cnmd.connect("web", "box", Ports=[{"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8080}])
        cnmd.ask("POST", "/cnm/v1/endpoints", {"Network": "plain", "Name": "loose"})
        cnmd.ask("POST", "/cnm/v1/endpoints", {"Network": "tiny", "Name": "last"})
        yield cnmd
    subprocess.run(["ip", "link", "del", "foreign0"], check=True)


def everything(daemon: Cnmd) -> str:
    """All that can be asked for, and the links of the host, as one comparable text."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    names = sorted(line.split(":")[1] for line in links.splitlines())
    found = [daemon.ask("GET", path) for path in ("/networks", "/cnm/v1/sandboxes", "/cnm/v1/endpoints")]
    return json.dumps([*found, names], sort_keys=True)


def network(name: str = "new", **fields: Any) -> tuple[str, str, Any]:
    return "POST", NETWORKS, {"Name": name, **fields}


def subnet(text: str, **fields: Any) -> tuple[str, str, Any]:
    return network(IPAM={"Config": [{"Subnet": text, **fields}]})


def option(key: str, value: str) -> tuple[str, str, Any]:
    return network(Options={key: value})


def connect(where: str, sandbox: str, **config: Any) -> tuple[str, str, Any]:
    return "POST", f"/networks/{where}/connect", {"Container": sandbox, "EndpointConfig": config}


def publish(**port: Any) -> tuple[str, str, Any]:
    return (
        "POST",
        "/cnm/v1/endpoints/web%2Fbox/ports",
        {"Ports": [{"Protocol": "tcp", "ContainerPort": 81, **port}]},
    )


def sandbox(name: str, **fields: Any) -> tuple[str, str, Any]:
    return "POST", "/cnm/v1/sandboxes", {"Name": name, **fields}


BRIDGE = "com.docker.network.bridge."

CASES = {
    # Names and missing things
    "network-without-a-name": (network(""), 400, "name"),
    "network-name-with-a-slash": (network("a/b"), 400, "a/b"),
    "network-twice": (network("web"), 409, "network with name web already exists"),
    "predefined-network": (network("host"), 403, "host"),
    "unknown-driver": (network(Driver="nosuch"), 404, 'could not find network driver "nosuch"'),
    "unknown-ipam-driver": (network(IPAM={"Driver": "nosuch"}), 404, '"nosuch"'),
    "second-host-network": (network(Driver="host"), 403, "only one instance"),
    "missing-network": (("GET", "/networks/nosuch", None), 404, "network nosuch not found"),
    "missing-network-deleted": (("DELETE", "/networks/nosuch", None), 404, "network nosuch not found"),
    "missing-network-connected": (connect("nosuch", "box"), 404, "nosuch"),
    "missing-sandbox": (("GET", "/cnm/v1/sandboxes/nosuch", None), 404, "sandbox nosuch not found"),
    "missing-sandbox-connected": (connect("web", "nosuch"), 404, "nosuch"),
    "missing-endpoint": (("GET", "/cnm/v1/endpoints/web%2Fnosuch", None), 404, "nosuch"),
    "sandbox-name": (sandbox("a b"), 400, "a b"),
    "sandbox-twice": (sandbox("box"), 409, "box"),
    "sandbox-hostname": (sandbox("new", Hostname="a b"), 400, "invalid hostname 'a b'"),
    "sandbox-dns": (
        sandbox("new", Dns=["10.0.0.300"]),
        400,
        "IP address is not correctly formatted: 10.0.0.300",
    ),
    "sandbox-dns-search": (sandbox("new", DnsSearch=["a\nb"]), 400, "is not a valid domain"),
    "sandbox-dns-option": (sandbox("new", DnsOptions=["a b"]), 400, "invalid DNS option 'a b'"),
    "sandbox-extra-host": (sandbox("new", ExtraHosts=["db"]), 400, 'bad format for add-host: "db"'),
    "sandbox-extra-host-address": (
        sandbox("new", ExtraHosts=["db:10.0.0.300"]),
        400,
        'invalid IP address in add-host: "10.0.0.300"',
    ),
    # Subnets, gateways, ranges
    "subnet-no-cidr": (subnet("10.30.0.0"), 400, "10.30.0.0"),
    "subnet-nonsense": (subnet("10.300.0.0/24"), 400, "10.300.0.0/24"),
    "subnet-host-bits": (subnet("10.30.0.5/24"), 400, "it should be 10.30.0.0/24"),
    "subnet-overlap": (subnet("10.20.0.128/25"), 403, "overlap"),
    "subnet-of-the-loopback": (subnet("127.0.0.0/16"), 400, "loopback"),
    "subnet-of-multicast": (subnet("224.0.0.0/24"), 400, "multicast"),
    "subnet-link-local": (
        network(EnableIPv6=True, IPAM={"Config": [{"Subnet": "fe80::/64"}]}),
        400,
        "link-local",
    ),
    "two-subnets": (
        network(IPAM={"Config": [{"Subnet": "10.30.0.0/24"}, {"Subnet": "10.31.0.0/24"}]}),
        400,
        "multiple subnets",
    ),
    "gateway-outside": (subnet("10.30.0.0/24", Gateway="10.31.0.1"), 400, "10.31.0.1"),
    "gateway-nonsense": (subnet("10.30.0.0/24", Gateway="first"), 400, "first"),
    "range-outside": (subnet("10.30.0.0/24", IPRange="10.31.0.0/25"), 400, "10.31.0.0/25"),
    "auxiliary-outside": (
        subnet("10.30.0.0/24", AuxiliaryAddresses={"a": "10.31.0.1"}),
        400,
        "auxiliary address a",
    ),
    "no-family": (network(EnableIPv4=False), 400, "IPv4 or IPv6"),
    # Options
    "unknown-option": (option("nosuch", "1"), 400, "nosuch"),
    "option-not-built": (option("com.docker.network.advertise_addr_nmsgs", "1"), 501, "advertise_addr_nmsgs"),
    "mtu-text": (option("com.docker.network.driver.mtu", "big"), 400, "com.docker.network.driver.mtu"),
    "mtu-negative": (option("com.docker.network.driver.mtu", "-1"), 400, "com.docker.network.driver.mtu"),
    "icc-text": (option(BRIDGE + "enable_icc", "maybe"), 400, "enable_icc"),
    "gateway-mode": (option(BRIDGE + "gateway_mode_ipv4", "fast"), 400, "gateway_mode_ipv4"),
    "gateway-mode-internal": (option(BRIDGE + "gateway_mode_ipv4", "internal"), 400, "gateway_mode_ipv4"),
    "isolated-not-internal": (option(BRIDGE + "gateway_mode_ipv4", "isolated"), 400, "internal"),
    "bridge-name-too-long": (option(BRIDGE + "name", "a-name-that-is-too-long"), 400, "name"),
    "foreign-bridge": (option(BRIDGE + "name", "foreign0"), 409, "foreign0 exists and is not ours"),
    "host-binding": (option(BRIDGE + "host_binding_ipv4", "here"), 400, "host_binding_ipv4"),
    "config-only": (network(ConfigOnly=True), 501, "config"),
    "ingress": (network(Ingress=True), 501, "ingress"),
    # Endpoints
    "endpoint-address-nonsense": (
        connect("web", "other", IPAMConfig={"IPv4Address": "10.20.0.300"}),
        400,
        "10.20.0.300",
    ),
    "endpoint-address-outside": (
        connect("web", "other", IPAMConfig={"IPv4Address": "10.9.0.1"}),
        400,
        "10.9.0.1",
    ),
    "endpoint-address-taken": (
        connect("web", "other", IPAMConfig={"IPv4Address": "10.20.0.2"}),
        403,
        "Address already in use",
    ),
    "endpoint-address-on-bridge": (
        connect("bridge", "other", IPAMConfig={"IPv4Address": "172.18.0.9"}),
        400,
        "user-defined networks only",
    ),
    "aliases-on-bridge": (connect("bridge", "other", Aliases=["a"]), 400, "user-defined networks"),
    "mac-nonsense": (connect("web", "other", MacAddress="02:42"), 400, "02:42"),
    "mac-multicast": (connect("web", "other", MacAddress="01:00:5e:00:00:01"), 400, "unicast"),
    "interface-name-too-long": (
        connect("web", "other", IfName="an-interface-name"),
        400,
        "an-interface-name",
    ),
    "endpoint-option-unknown": (connect("web", "other", DriverOpts={"nosuch": "1"}), 400, "nosuch"),
    "links": (connect("web", "other", Links=["box:"]), 400, "link"),
    "link-local-addresses": (
        connect("web", "other", IPAMConfig={"LinkLocalIPs": ["169.254.1.1"]}),
        501,
        "link-local",
    ),
    "connected-twice": (connect("web", "box"), 403, "connected to network web already"),
    "host-network": (connect("host", "other"), 400, "cannot connect container to host network"),
    "none-beside-another": (connect("none", "box"), 400, "private (none) mode"),
    "not-connected": (("POST", "/networks/web/disconnect", {"Container": "other"}), 404, "not connected"),
    "network-in-use": (("DELETE", "/networks/web", None), 403, "has active endpoints"),
    "predefined-deleted": (("DELETE", "/networks/bridge", None), 403, "pre-defined network"),
    "sandbox-in-use": (("DELETE", "/cnm/v1/sandboxes/box", None), 409, "web"),
    "endpoint-in-use": (("DELETE", "/cnm/v1/endpoints/web%2Fbox", None), 409, "leave it first"),
    "endpoint-joined-twice": (
        ("POST", "/cnm/v1/endpoints/web%2Fbox/join", {"Sandbox": "other"}),
        403,
        "already",
    ),
    "endpoint-twice": (("POST", "/cnm/v1/endpoints", {"Network": "plain", "Name": "loose"}), 403, "loose"),
    "leave-without-join": (("POST", "/cnm/v1/endpoints/plain%2Floose/leave", {}), 409, "in no sandbox"),
    "pool-exhausted": (connect("tiny", "other"), 503, "no available IPv4 addresses"),
    # Ports
    "port-taken": (publish(HostPort=8080), 409, "port is already allocated"),
    "port-too-large": (publish(HostPort=70000), 400, "70000"),
    "port-negative": (publish(HostPort=-1), 400, "host port -1"),
    "container-port-zero": (publish(ContainerPort=0), 400, "container port 0"),
    "port-protocol": (publish(Protocol="icmp"), 400, "icmp"),
    "port-address-nonsense": (publish(HostPort=8081, HostIp="here"), 400, "here"),
    "port-address-not-ours": (publish(HostPort=8081, HostIp="192.0.2.77"), 400, "192.0.2.77"),
    "port-on-internal": (
        connect("inner", "other", Ports=[{"ContainerPort": 80, "HostPort": 8082}]),
        400,
        "internal",
    ),
    "port-not-published": (
        (
            "DELETE",
            "/cnm/v1/endpoints/web%2Fbox/ports",
            {"Ports": [{"Protocol": "tcp", "ContainerPort": 99}]},
        ),
        404,
        "99",
    ),
    # Namespaces
    "namespace-missing": (sandbox("given", NetnsPath="/run/netns/nosuch"), 400, "/run/netns/nosuch"),
    "namespace-relative": (sandbox("given", NetnsPath="run/netns/x"), 400, "absolute"),
    "namespace-a-file": (sandbox("given", NetnsPath="/etc/hostname"), 400, "/etc/hostname"),
    "namespace-of-the-host": (sandbox("given", NetnsPath="/proc/self/ns/net"), 400, "the host's own"),
    "namespace-of-mounts": (sandbox("given", NetnsPath="/proc/self/ns/mnt"), 400, "/proc/self/ns/mnt"),
    # Bodies
    "broken-json": (("POST", NETWORKS, b'{"Name": '), 400, "invalid JSON"),
    "text-after-json": (("POST", NETWORKS, b'{"Name": "a"} more'), 400, "unexpected content after JSON"),
    "empty-body": (("POST", NETWORKS, b""), 400, ""),
    "a-list-for-a-body": (("POST", NETWORKS, b"[]"), 400, "invalid JSON"),
    "wrong-type": (("POST", NETWORKS, {"Name": 7}), 400, "Name"),
    "wrong-type-inside": (("POST", NETWORKS, {"Name": "a", "Labels": {"b": 1}}), 400, "Labels"),
    "unknown-path": (("GET", "/nosuch", None), 404, "page not found"),
    "too-new-a-version": (("GET", "/v9.99/networks", None), 400, "too new"),
    "unknown-filter": (("GET", "/networks?filters=%7B%22nosuch%22%3A%5B%221%22%5D%7D", None), 400, "nosuch"),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_request_is_refused_in_one_line_and_changes_nothing(
    daemon: Cnmd, case: tuple[tuple[str, str, Any], int, str]
) -> None:
    (method, path, body), wanted_status, wanted_words = case
    before = everything(daemon)

    status, answer = daemon.request(method, path, body)

    assert (status, list(answer)) == (wanted_status, ["message"]), answer
    assert wanted_words in answer["message"]
    assert "\n" not in answer["message"]
    assert everything(daemon) == before


def test_nothing_was_leaked_and_nothing_logged_as_a_failure(daemon: Cnmd) -> None:
    assert daemon.findings() == []
    assert "Traceback" not in daemon.log
    assert "internal error" not in daemon.log


WORDS = {
    "unknown-command": (("network", "nosuch"), 2),
    "unknown-flag": (("network", "create", "--nosuch", "a"), 2),
    "missing-operand": (("network", "create"), 2),
    "missing-network": (("network", "inspect", "nosuch"), 1),
    "one-of-two-missing": (("network", "rm", "nosuch", "web"), 1),
    "bad-port": (("port", "add", "box", "99999:80"), 1),
    "bad-protocol": (("network", "connect", "-p", "80:80/nosuch", "web", "other"), 1),
    "range-without-subnet": (("network", "create", "--ip-range", "10.0.0.0/24", "a"), 1),
    "bad-template": (("network", "ls", "--format", "{{.Nosuch}}"), 1),
}


@pytest.mark.parametrize(("words", "code"), WORDS.values(), ids=WORDS)
def test_command_line_says_what_is_wrong_without_a_traceback(
    daemon: Cnmd, words: tuple[str, ...], code: int
) -> None:
    done = daemon.cnmctl(*words)

    assert done.returncode == code
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr + done.stdout


def test_daemon_that_is_not_there_is_named_with_the_remedy(daemon: Cnmd, tmp_path: Path) -> None:
    absent = Cnmd(tmp_path)

    done = absent.cnmctl("network", "ls")

    assert done.returncode == 1
    assert absent.socket in done.stderr
    assert len(done.stderr.splitlines()) == 1
