"""Our packing of set elements, against pyroute2's decoder, fixed bytes, and itself."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg

from cnm.errors import InvalidParameter
from cnm.firewall import sets
from cnm.kernel.nft_elements import DELETE_ELEMENT, NEW_ELEMENT, pack, unpack
from cnm.kernel.state import FirewallElement
from tests.unit.strategies import firewall_elements


def decoded(payload: bytes) -> Any:
    """By pyroute2, behind a netlink header."""
    message = nft_set_elem_list_msg(struct.pack("=IHHII", 16 + len(payload), NEW_ELEMENT, 0, 1, 0) + payload)
    message.decode()
    return message


@given(firewall_elements())
def test_what_is_packed_is_unpacked(element: FirewallElement) -> None:
    (message,) = pack(NEW_ELEMENT, 0, [element])

    assert list(unpack(element.set, message.payload)) == [element]


@given(st.lists(firewall_elements(), min_size=1, max_size=30))
def test_elements_of_one_set_share_a_message(many: list[FirewallElement]) -> None:
    messages = pack(NEW_ELEMENT, 0, many)

    assert len(messages) == len({element.set for element in many})
    found = [
        e
        for m, s in zip(messages, dict.fromkeys(e.set for e in many), strict=True)
        for e in unpack(s, m.payload)
    ]
    assert sorted(map(repr, found)) == sorted(map(repr, many))


@given(firewall_elements())
def test_pyroute2_reads_table_set_and_key(element: FirewallElement) -> None:
    (message,) = pack(NEW_ELEMENT, 0, [element])

    read = decoded(message.payload)

    assert read.get_attr("NFTA_SET_ELEM_LIST_TABLE") == "cnm"
    assert read.get_attr("NFTA_SET_ELEM_LIST_SET") == element.set.name
    (only,) = read.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS")
    assert only.get_attr("NFTA_SET_ELEM_KEY") is not None
    assert (only.get_attr("NFTA_SET_ELEM_DATA") is not None) == element.set.is_map


def test_pyroute2_reads_a_verdict_and_its_chain() -> None:
    (message,) = pack(NEW_ELEMENT, 0, [FirewallElement(sets.TO, ("ipv4", "cnm-1"), ("goto to_nat",))])

    (only,) = decoded(message.payload).get_attr("NFTA_SET_ELEM_LIST_ELEMENTS")
    verdict = only.get_attr("NFTA_SET_ELEM_DATA").get_attr("NFTA_DATA_VERDICT")

    assert verdict.get_attr("NFTA_VERDICT_CHAIN") == "to_nat"


def test_a_concatenated_key_is_padded_field_by_field() -> None:
    (message,) = pack(NEW_ELEMENT, 0, [FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp", 80))])

    assert bytes.fromhex("0a0000020600000000500000") in message.payload


def test_a_single_field_is_not_padded() -> None:
    (message,) = pack(NEW_ELEMENT, 0, [FirewallElement(sets.ROUTING, ("ipv6",))])

    assert message.payload.endswith(struct.pack("=HH", 5, 1) + b"\x0a\0\0\0")


def test_a_vni_is_three_bytes_behind_its_port() -> None:
    (message,) = pack(NEW_ELEMENT, 0, [FirewallElement(sets.CLEAR_VNIS, (4789, 0xABCDEF))])

    assert message.payload.endswith(struct.pack("=HH", 12, 1) + bytes.fromhex("12b50000abcdef00"))


def test_a_deletion_carries_the_key_only() -> None:
    element = FirewallElement(sets.PUBLISH_ANY4, ("tcp", 80), ("10.0.0.2", 8080))

    (message,) = pack(DELETE_ELEMENT, 0, [element])

    (only,) = decoded(message.payload).get_attr("NFTA_SET_ELEM_LIST_ELEMENTS")
    assert only.get_attr("NFTA_SET_ELEM_DATA") is None


def test_many_elements_are_split_into_messages_that_an_attribute_can_hold() -> None:
    many = [FirewallElement(sets.PUBLISH_ANY6, ("tcp", port), ("fd00::2", port)) for port in range(1, 5001)]

    messages = pack(NEW_ELEMENT, 0, many)

    assert len(messages) > 1
    assert all(len(message.payload) < 65536 for message in messages)
    assert [e for message in messages for e in unpack(sets.PUBLISH_ANY6, message.payload)] == many


@pytest.mark.parametrize(
    "element",
    [
        FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp")),
        FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp", 65536)),
        FirewallElement(sets.OPEN4, ("10.0.0.2", "tcp", "http")),
        FirewallElement(sets.OPEN4, ("10.0.0.256", "tcp", 80)),
        FirewallElement(sets.OPEN4, ("fd00::2", "tcp", 80)),
        FirewallElement(sets.OPEN4, ("10.0.0.2", "quic", 80)),
        FirewallElement(sets.SAME, ("a-name-of-sixteen", "cnm-1")),
        FirewallElement(sets.SAME, ("", "cnm-1")),
        FirewallElement(sets.GUARD4, ("cv1", "02:42:0a", "10.0.0.2")),
        FirewallElement(sets.ROUTING, ("arp",)),
        FirewallElement(sets.CLEAR_VNIS, (4789, 2**24)),
        FirewallElement(sets.CLEAR_VNIS, (4789, -1)),
        FirewallElement(sets.SNAT4, ("cnm-1",), ("fd00::2",)),
        FirewallElement(sets.PORTS, ("cv1",)),
        FirewallElement(sets.PORTS, ("cv1",), ("goto",)),
        FirewallElement(sets.PORTS, ("cv1",), ("reject",)),
    ],
    ids=lambda e: f"{e.set.name} {e.key} {e.value}",
)
def test_an_element_that_does_not_fit_its_set_is_refused(element: FirewallElement) -> None:
    with pytest.raises(InvalidParameter):
        pack(NEW_ELEMENT, 0, [element])
