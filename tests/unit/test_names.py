"""Checked strings, and the names and addresses that we make up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm import names
from cnm.errors import InvalidParameter
from cnm.mac import derived_mac, generate_mac
from cnm.model import new_id

Check = Callable[[str], None]


@pytest.mark.parametrize("check", [names.check_network, names.check_endpoint])
@pytest.mark.parametrize("name", ["web", "a", "test@#$", "größe", "x" * 255, "a b"])
def test_names_of_networks_and_endpoints_may_be_almost_anything(check: Check, name: str) -> None:
    check(name)


@pytest.mark.parametrize("check", [names.check_network, names.check_endpoint])
@pytest.mark.parametrize("name", ["", " ", " web", "web ", "a/b", "a\nb", "\x1b[0m", "\u202eabc", "x" * 256])
def test_names_that_break_references_or_terminals_are_refused(check: Check, name: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        check(name)

    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["box", "b1", "B_2.x-y", "0a", "x" * 255])
def test_sandboxes_are_named_like_containers(name: str) -> None:
    names.check_sandbox(name)


@pytest.mark.parametrize("name", ["", "b", "-box", ".box", "a b", "a/b", "größe", "box\n", "x" * 256])
def test_other_sandbox_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter) as refusal:
        names.check_sandbox(name)

    assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["eth0", "x", "a" * 15, "br-lan", "vlan.10", "größe0"])
def test_interface_names_follow_linux(name: str) -> None:
    names.check_interface(name)


@pytest.mark.parametrize(
    "name", ["", "a" * 16, "ü" * 8, "a b", "a/b", "a:b", "a\tb", ".", "..", "lo", "a\0b"]
)
def test_other_interface_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        names.check_interface(name)


@pytest.mark.parametrize("text", ["02:42:AC:12:00:02", "02-42-ac-12-00-02", "02:42:ac:12:00:02"])
def test_mac_addresses_become_lower_case_with_colons(text: str) -> None:
    assert names.parse_mac(text) == "02:42:ac:12:00:02"


@pytest.mark.parametrize(
    "text", ["", "02:42:ac:12:00", "02:42:ac:12:00:02:03", "0242ac120002", "02:42:ac:12:00:0g",
             "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:42:ac:12:00:02\n"],
)  # fmt: skip
def test_other_mac_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^invalid MAC address: "):
        names.parse_mac(text)


def test_an_endpoint_s_mac_is_docker_s_from_its_ipv4_address() -> None:
    assert generate_mac("172.18.0.2/16", "fd00::2/64") == "02:42:ac:12:00:02"


@given(st.ip_addresses(v=6), st.ip_addresses(v=6))
def test_macs_of_ipv6_endpoints_follow_from_the_address(one: object, other: object) -> None:
    mac = generate_mac("", f"{one}/64")

    assert names.parse_mac(mac) == mac
    assert mac == generate_mac("", f"{one}/80")
    assert (mac == generate_mac("", f"{other}/64")) == (one == other)


@given(st.text())
def test_derived_macs_are_local_unicast_and_stay_the_same(name: str) -> None:
    mac = derived_mac("06:42", name)

    assert names.parse_mac(mac) == mac == derived_mac("06:42", name)
    assert int(mac[:2], 16) & 3 == 2


def test_ids_are_64_hex_digits_whose_beginning_is_no_number() -> None:
    ids = {new_id() for _ in range(500)}

    assert len(ids) == 500
    assert all(len(i) == 64 and int(i, 16) and not i[:12].isdecimal() for i in ids)
