"""Port specifications: Docker's grammar and its errors, recorded from docker 28.2, which lets two pass that we refuse.

`80/tcp/udp` and port 0 of a container mean nothing, so they are errors here.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.cli.publish import port_request, published, summary
from cnm.errors import InvalidParameter


@pytest.mark.parametrize(
    ("spec", "request_"),
    [
        ("80", {"Protocol": "tcp", "ContainerPort": 80}),
        ("80/udp", {"Protocol": "udp", "ContainerPort": 80}),
        ("80/SCTP", {"Protocol": "sctp", "ContainerPort": 80}),
        ("80/", {"Protocol": "tcp", "ContainerPort": 80}),
        (":80", {"Protocol": "tcp", "ContainerPort": 80}),
        ("0:80", {"Protocol": "tcp", "ContainerPort": 80}),
        ("8080:80", {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8080}),
        ("0080:80", {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 80}),
        ("8000-8010:80", {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8000, "HostPortEnd": 8010}),
        (
            "8000-8010:80-90",
            {
                "Protocol": "tcp",
                "ContainerPort": 80,
                "ContainerPortEnd": 90,
                "HostPort": 8000,
                "HostPortEnd": 8010,
            },
        ),
        ("80-90", {"Protocol": "tcp", "ContainerPort": 80, "ContainerPortEnd": 90}),
        ("127.0.0.1:80:81", {"Protocol": "tcp", "ContainerPort": 81, "HostPort": 80, "HostIp": "127.0.0.1"}),
        ("127.0.0.1::80", {"Protocol": "tcp", "ContainerPort": 80, "HostIp": "127.0.0.1"}),
        ("[::1]:80:81", {"Protocol": "tcp", "ContainerPort": 81, "HostPort": 80, "HostIp": "::1"}),
        ("::1:80:81", {"Protocol": "tcp", "ContainerPort": 81, "HostPort": 80, "HostIp": "::1"}),
        ("[2001:DB8::0]::81", {"Protocol": "tcp", "ContainerPort": 81, "HostIp": "2001:db8::"}),
        ("[]:80:81", {"Protocol": "tcp", "ContainerPort": 81, "HostPort": 80}),
        ("target=80", {"Protocol": "tcp", "ContainerPort": 80}),
        ("published=8080,target=80,protocol=udp", {"Protocol": "udp", "ContainerPort": 80, "HostPort": 8080}),
        ("published=8080,target=80,mode=host", {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8080}),
    ],
)
def test_spec_is_read_as_docker_reads_it(spec: str, request_: dict[str, Any]) -> None:
    assert port_request(spec) == request_


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "no port specified: <empty>"),
        (":", "no port specified: :<empty>"),
        ("8080:", "no port specified: 8080:<empty>"),
        ("80:/tcp", "no port specified: 80:/tcp<empty>"),
        ("a:80", "invalid hostPort: a"),
        ("70000:80", "invalid hostPort: 70000"),
        ("90-80:80", "invalid hostPort: 90-80"),
        ("80-:80", "invalid hostPort: 80-"),
        ("-80:80", "invalid hostPort: -80"),
        ("+80:80", "invalid hostPort: +80"),
        ("0-5:80", "invalid hostPort: 0-5"),
        ("1.2.3.4:80", "invalid hostPort: 1.2.3.4"),
        ("80:a", "invalid containerPort: a"),
        ("80:70000", "invalid containerPort: 70000"),
        ("80:80-", "invalid containerPort: 80-"),
        ("80:0", "invalid containerPort: 0"),
        (" 80", "invalid containerPort:  80"),
        ("0x50", "invalid containerPort: 0x50"),
        ("۸۰", "invalid containerPort: ۸۰"),
        ("9" * 5000, f"invalid containerPort: {'9' * 5000}"),
        ("80/foo", "invalid proto: foo"),
        ("80/tcp/udp", "invalid proto: tcp/udp"),
        ("8000-8010:80-91", "invalid ranges specified for container and host Ports: 80-91 and 8000-8010"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("host:80:80", "invalid IP address: host"),
        ("[fe80::1%eth0]:80:80", "invalid IP address: fe80::1%eth0"),
        ("80:80/tcp:1", "invalid IP address: 80"),
        ("[::1:80:80", "invalid IP address [::1: missing ']' in address"),
        ("[::]:80", "invalid IP address [:: missing ']' in address"),
        ("foo=1", "no port specified: :/tcp<empty>"),
        ("target=80,x", "invalid publish opts format (should be name=value but got 'x')"),
        ("=80", "invalid publish opts format (should be name=value but got '=80')"),
    ],
)
def test_wrong_spec_is_refused_in_dockers_words(spec: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        port_request(spec)

    assert str(caught.value) == message


ports = st.integers(1, 65535)
addresses = st.one_of(st.just(""), st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    start = draw(ports)
    count = draw(st.integers(1, 20))
    request: dict[str, Any] = {
        "Protocol": draw(st.sampled_from(["tcp", "udp", "sctp"])),
        "ContainerPort": start,
        "ContainerPortEnd": min(65535, start + count - 1),
    }
    host = draw(st.one_of(st.just(0), st.integers(1, 65535 - count)))
    if host:
        request["HostPort"] = host
        request["HostPortEnd"] = host + request["ContainerPortEnd"] - start
    address = draw(addresses)
    if address:
        request["HostIp"] = address
    return request


def written(request: dict[str, Any]) -> str:
    def ports(key: str) -> str:
        start, end = request.get(key, 0), request.get(f"{key}End", 0)
        return "" if not start else str(start) if end == start else f"{start}-{end}"

    address = request.get("HostIp", "")
    if ":" in address:
        address = f"[{address}]"
    return f"{address}:{ports('HostPort')}:{ports('ContainerPort')}/{request['Protocol']}"


@given(requests())
def test_every_request_can_be_written_and_is_read_back(request: dict[str, Any]) -> None:
    spec = written(request).removeprefix(":")

    read = port_request(spec)

    read.setdefault("ContainerPortEnd", read["ContainerPort"])
    if "HostPort" in read:
        read.setdefault("HostPortEnd", read["HostPort"])
    assert read == request


@given(st.text(st.sampled_from("0189-:/[].tcpudp=,% ٣"), max_size=24))
def test_any_text_is_either_a_valid_request_or_refused(spec: str) -> None:
    try:
        request = port_request(spec)
    except InvalidParameter:
        return
    assert 1 <= request["ContainerPort"] <= request.get("ContainerPortEnd", 65535) <= 65535
    assert 0 <= request.get("HostPort", 0) <= request.get("HostPortEnd", 65535) <= 65535
    assert request["Protocol"] in ("tcp", "udp", "sctp")
    if "HostIp" in request:
        ip_address(request["HostIp"])


def test_port_without_an_address_is_shown_for_both_families() -> None:
    port = {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 8080, "HostIp": "", "Count": 1}

    assert published(port) == [("80/tcp", "0.0.0.0:8080"), ("80/tcp", "[::]:8080")]
    assert summary(port) == "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"


def test_range_is_listed_port_by_port_and_summed_up_as_a_range() -> None:
    port = {"Protocol": "udp", "ContainerPort": 80, "HostPort": 8080, "HostIp": "::1", "Count": 2}

    assert published(port) == [("80/udp", "[::1]:8080"), ("81/udp", "[::1]:8081")]
    assert summary(port) == "[::1]:8080-8081->80-81/udp"


def test_port_that_is_not_bound_has_no_host_side() -> None:
    port = {"Protocol": "tcp", "ContainerPort": 80, "HostPort": 0, "HostIp": "", "Count": 1}

    assert published(port) == [("80/tcp", "")]
    assert summary(port) == "80/tcp"
