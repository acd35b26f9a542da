"""Bodies become records, and what is wrong with one is told by its key."""

from __future__ import annotations

import pytest

from cnm.errors import InvalidParameter
from cnm.wire import codec, control, engine
from cnm.wire.keys import docker_key


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "invalid JSON: unexpected end of the text"),
        (b"nonsense", "invalid JSON: invalid character (byte 4)"),
        (b'{"Name": "\xff"}', "invalid JSON: the text is not UTF-8"),
        (b'{"Name": "a"} and more', "unexpected content after JSON"),
        (b'{"Name": "a"}{"Name": "b"}', "unexpected content after JSON"),
        (b"[]", "invalid JSON: expected object, got array"),
        (b"null", "invalid JSON: expected object, got null"),
        (b'{"Name": 7}', "invalid JSON: Name: expected string, got integer"),
        (b'{"Internal": "yes"}', "invalid JSON: Internal: expected boolean, got string"),
        (
            b'{"IPAM": {"Config": [{"Subnet": 7}]}}',
            "invalid JSON: IPAM.Config[0].Subnet: expected string, got integer",
        ),
        (b'{"Options": {"k": true}}', "invalid JSON: Options[...]: expected string, got boolean"),
    ],
)
def test_a_wrong_body_is_refused_by_key_and_expectation(body: bytes, message: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        codec.decode(body, engine.NetworkCreate)

    assert str(refused.value) == message


def test_a_body_nested_without_end_is_refused() -> None:
    with pytest.raises(InvalidParameter, match="nested too deeply"):
        codec.decode(b'{"Unknown": ' + b"[" * 100_000, engine.NetworkCreate)


def test_a_missing_key_is_named_with_its_place() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: Ports\[0\]\.ContainerPort is required$"):
        codec.decode(b'{"Ports": [{"HostPort": 80}]}', control.PortsRequest)


def test_docker_bodies_ignore_unknown_keys_as_docker_does() -> None:
    record = codec.decode(b'{"Name": "web", "CheckDuplicate": true}', engine.NetworkCreate)

    assert record.name == "web"


def test_own_bodies_refuse_unknown_keys_by_name() -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid JSON: unknown key 'Sandbocks'$"):
        codec.decode(b'{"Sandbox": "s", "Sandbocks": "t"}', control.EndpointJoin)


def test_null_stands_for_not_given() -> None:
    record = codec.decode(
        b'{"Name": "web", "Driver": null, "IPAM": null, "Labels": null}', engine.NetworkCreate
    )

    assert (record.driver, record.ipam, record.labels) == (None, None, None)


def test_an_empty_body_counts_as_an_empty_object() -> None:
    assert codec.decode(b"", control.EndpointLeave) == control.EndpointLeave(wait=False)


def test_a_record_survives_the_way_out_and_in() -> None:
    record = engine.EndpointSettings(
        ipam_config=engine.EndpointIpamConfig(ipv4_address="10.0.0.2"),
        aliases=["db"],
        ports=[engine.PortRequest(container_port=80, host_ip="::1")],
    )

    assert codec.decode(codec.encode(record), engine.EndpointSettings) == record


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("enable_ipv4", "EnableIPv4"),
        ("ip_range", "IPRange"),
        ("ipam_config", "IPAMConfig"),
        ("auxiliary_addresses", "AuxiliaryAddresses"),
        ("link_local_ips", "LinkLocalIPs"),
        ("gw_priority", "GwPriority"),
        ("endpoint_id", "EndpointID"),
    ],
)
def test_keys_are_spelt_as_docker_spells_them(field: str, key: str) -> None:
    assert docker_key(field) == key
