"""What tunnels are to be there, from what nodes announce; and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cnm.cluster.records import Node, decode, encode
from cnm.cluster.tunnel_config import (
    OwnEnd,
    TunnelConfig,
    TunnelEnd,
    TunnelPeer,
    check,
    interface_name,
    tunnel_peer,
    with_peers,
)
from cnm.cluster.wireguard_keys import generate_private_key, public_key
from cnm.errors import InvalidParameter

OWN, KEY = generate_private_key(), generate_private_key()
NODE = Node(
    name="n2",
    address="192.0.2.2",
    transport="10.99.0.2",
    wireguard_key=public_key(KEY),
    wireguard_port=51820,
    wireguard_generation=3,
)
PEER = TunnelPeer("n2", "192.0.2.2", "10.99.0.2", (TunnelEnd(3, public_key(KEY), 51820),))
CONFIG = TunnelConfig("10.99.0.1", "10.99.0.0/16", 1500, (OwnEnd(3, 0, OWN, 51820),), (PEER,))


def test_a_node_has_one_end_and_two_while_keys_are_replaced() -> None:
    rotating = Node(
        **{field: getattr(NODE, field) for field in NODE.__struct_fields__}
        | {"next_wireguard_key": "next", "next_wireguard_port": 51821, "next_wireguard_generation": 4}
    )

    assert tunnel_peer(NODE, NODE.transport) == PEER
    assert tunnel_peer(rotating, NODE.transport) == replace(
        PEER, ends=(*PEER.ends, TunnelEnd(4, "next", 51821))
    )


def test_a_node_that_cannot_encrypt_is_no_peer() -> None:
    assert tunnel_peer(Node(name="n3", address="192.0.2.3"), "") is None


def test_a_node_that_announces_the_address_of_another_is_no_peer() -> None:
    assert tunnel_peer(NODE, "10.99.0.3") is None


def test_a_record_of_an_older_version_says_nothing_of_generations() -> None:
    record = decode(b'{"name":"n2","address":"192.0.2.2","later":1}', Node)

    assert (record.wireguard_generation, record.next_wireguard_key) == (0, "")
    assert decode(encode(NODE), Node) == NODE


def test_names_fit_and_differ_between_clusters_nodes_and_slots() -> None:
    names = {interface_name(c, n, s) for c in ("c1", "c2") for n in ("n1", "n2" * 40) for s in (0, 1)}

    assert len(names) == 8
    assert {(len(name), name[:2]) for name in names} == {(14, "cw")}


def test_a_configuration_shows_no_private_key() -> None:
    assert OWN not in repr(CONFIG)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (replace(CONFIG, ends=()), "tunnels need one key, or two"),
        (replace(CONFIG, ends=CONFIG.ends * 2), "slots and generations of their own"),
        (replace(CONFIG, ends=(OwnEnd(3, 2, KEY, 1),)), "slots of keys are 0 and 1"),
        (replace(CONFIG, ends=(OwnEnd(3, 0, KEY, 1),)), "of this node: enrol it anew"),
        (replace(CONFIG, ends=(OwnEnd(3, 0, "key", 1),)), "32 bytes in base64"),
        (replace(CONFIG, ends=(OwnEnd(3, 0, KEY, 1), OwnEnd(3, 1, KEY, 2))), "generations of their own"),
        (
            replace(CONFIG, pool="fd99::/64"),
            "fd99::/64 is of another family than transport address 10.99.0.1",
        ),
        (replace(CONFIG, transport="n1"), "n1 is neither an address nor a subnet"),
        (replace(CONFIG, peers=(replace(PEER, address="host"),)), "host is neither an address"),
        (replace(CONFIG, peers=(replace(PEER, ends=(TunnelEnd(3, "", 1),)),)), "32 bytes in base64"),
        (
            replace(CONFIG, peers=(replace(PEER, transport="10.99.0.1"),)),
            "node n2 has 10.99.0.1 of this node: enrol it anew",
        ),
        (
            replace(CONFIG, peers=(PEER, replace(PEER, node="n3", transport="10.99.0.3"))),
            "of node n2: enrol it anew",
        ),
        (replace(CONFIG, transport="fd99::1", pool="fd99::/64", peers=(), mtu=1359), "leaves no 1280 bytes"),
    ],
)
def test_what_could_not_be_set_is_refused(wrong: TunnelConfig, why: str) -> None:
    with pytest.raises(InvalidParameter, match=why):
        check(wrong)


def test_what_can_be_set_is_not() -> None:
    check(CONFIG)
    check(replace(CONFIG, transport="fd99::1", pool="fd99::/64", peers=(), mtu=1360))


def test_of_nodes_that_do_not_go_together_those_that_were_there_before_stay() -> None:
    thief = replace(PEER, node="n0", transport="10.99.0.3")

    config, wrong = with_peers(CONFIG, [thief, PEER], [PEER])

    assert config.peers == (PEER,)
    assert wrong == [
        f"there is no tunnel to node n0: node n0 has {public_key(KEY)} of node n2: enrol it anew"
    ]


@pytest.mark.parametrize(
    "end", [TunnelEnd(3, public_key(KEY), 0), TunnelEnd(1 << 20, public_key(KEY), 51820)]
)
def test_a_port_or_a_generation_that_is_none_is_refused(end: TunnelEnd) -> None:
    with pytest.raises(InvalidParameter, match="node n2 announces port"):
        check(replace(CONFIG, peers=(replace(PEER, ends=(end,)),)))
