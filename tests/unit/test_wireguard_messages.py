"""What WireGuard devices are told and what they answer: generic netlink against pyroute2, and the text of the UAPI."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink import ctrlmsg
from pyroute2.netlink.generic.wireguard import wgmsg

from cnm.errors import InvalidParameter
from cnm.kernel import generic_netlink, wireguard_netlink, wireguard_uapi
from cnm.kernel.netlink import Message, Request, attribute, nested, text
from cnm.kernel.wireguard_records import DeviceChange, PeerStatus, WireGuardDevice, WireGuardPeer
from tests.unit.strategies import wireguard_keys, wireguard_peers

FAMILY = 29
KEY, OTHER_KEY = (base64.b64encode(bytes((number,)) * 32).decode() for number in (7, 9))


def decoded(kind: type, request: Request) -> Any:
    """The request as pyroute2 reads it from the wire."""
    header = struct.pack("=IHHII", 16 + len(request.payload), request.kind, request.flags, 1, 0)
    message = kind(header + request.payload)
    message.decode()
    return message


def attrs(message: Any, name: str) -> Any:
    """A key comes as bytes of base64 text."""
    value = message.get_attr(name)
    if isinstance(value, dict) and "key" in value:
        value = value["value"]
    return value.decode() if isinstance(value, bytes) else value


@given(
    st.lists(wireguard_peers(), min_size=1, max_size=5),
    wireguard_keys(),
    st.integers(0, 65535),
    st.booleans(),
)
def test_pyroute2_reads_what_a_device_is_set_to(
    peers: list[WireGuardPeer], key: str, port: int, replace: bool
) -> None:
    change = DeviceChange(key, port, peers, replace=replace)

    (request,) = wireguard_netlink.set_requests(FAMILY, "cw0123456789a0", change)
    message = decoded(wgmsg, request)

    assert (request.kind, message["cmd"]) == (FAMILY, 1)
    assert message.get_attr("WGDEVICE_A_IFNAME") == "cw0123456789a0"
    assert attrs(message, "WGDEVICE_A_PRIVATE_KEY") == key
    assert message.get_attr("WGDEVICE_A_LISTEN_PORT") == port
    assert message.get_attr("WGDEVICE_A_FLAGS") == (1 if replace else None)
    assert [as_peer(read) for read in message.get_attr("WGDEVICE_A_PEERS")] == peers
    assert {read.get_attr("WGPEER_A_FLAGS") for read in message.get_attr("WGDEVICE_A_PEERS")} == {2}


def as_peer(read: Any) -> WireGuardPeer:
    """A peer as pyroute2 understands it."""
    endpoint = read.get_attr("WGPEER_A_ENDPOINT")
    preshared = attrs(read, "WGPEER_A_PRESHARED_KEY")
    return WireGuardPeer(
        attrs(read, "WGPEER_A_PUBLIC_KEY"),
        (endpoint["addr"], endpoint["port"]) if endpoint else None,
        tuple(allowed["addr"] for allowed in read.get_attr("WGPEER_A_ALLOWEDIPS") or ()),
        read.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL"),
        "" if base64.b64decode(preshared) == bytes(32) else preshared,
    )


def test_what_is_not_given_is_not_touched() -> None:
    (request,) = wireguard_netlink.set_requests(FAMILY, "cw0", DeviceChange())

    message = decoded(wgmsg, request)

    assert [name for name, _value in message["attrs"]] == ["WGDEVICE_A_IFNAME"]


def test_peers_are_removed_before_others_are_set() -> None:
    change = DeviceChange(peers=[WireGuardPeer(KEY)], remove=[OTHER_KEY])

    (request,) = wireguard_netlink.set_requests(FAMILY, "cw0", change)
    read = decoded(wgmsg, request).get_attr("WGDEVICE_A_PEERS")

    assert [(attrs(peer, "WGPEER_A_PUBLIC_KEY"), peer.get_attr("WGPEER_A_FLAGS")) for peer in read] == [
        (OTHER_KEY, 1),
        (KEY, 2),
    ]


def test_many_peers_are_split_into_messages_of_which_only_the_first_replaces() -> None:
    peers = [
        WireGuardPeer(
            base64.b64encode(number.to_bytes(32)).decode(),
            allowed_ips=(f"10.0.{number // 256}.{number % 256}/32",),
        )
        for number in range(1, 1001)
    ]

    requests = list(wireguard_netlink.set_requests(FAMILY, "cw0", DeviceChange(KEY, 1, peers, replace=True)))
    messages = [decoded(wgmsg, request) for request in requests]

    assert all(len(request.payload) < 65536 for request in requests)
    assert [message.get_attr("WGDEVICE_A_FLAGS") for message in messages] == [1, None, None, None, None]
    assert [as_peer(p) for message in messages for p in message.get_attr("WGDEVICE_A_PEERS")] == peers


def encoded(**fields: Any) -> Message:
    """An answer of the kernel's as pyroute2 packs it."""
    message = wgmsg()
    message["cmd"], message["version"] = 0, 1
    message["attrs"] = list(fields.items())
    message.encode()
    return Message(FAMILY, bytes(message.data[16:]))


def test_an_answer_that_pyroute2_packed_is_read() -> None:
    peer = {
        "attrs": [
            ("WGPEER_A_PUBLIC_KEY", {"value": OTHER_KEY}),
            ("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", 25),
            ("WGPEER_A_RX_BYTES", 1234),
            ("WGPEER_A_TX_BYTES", 5678),
        ]
    }
    message = encoded(
        WGDEVICE_A_IFNAME="cw0",
        WGDEVICE_A_LISTEN_PORT=51820,
        WGDEVICE_A_PRIVATE_KEY={"value": KEY},
        WGDEVICE_A_PEERS=[peer],
    )

    device = wireguard_netlink.parse([message])

    assert device == WireGuardDevice(
        "cw0",
        KEY,
        51820,
        {OTHER_KEY: PeerStatus(WireGuardPeer(OTHER_KEY, keepalive=25), received=1234, sent=5678)},
    )


@given(wireguard_peers(), st.integers(0, 2**40), st.integers(0, 999_999_999))
def test_what_is_packed_for_the_kernel_is_read_back_from_it(
    peer: WireGuardPeer, seconds: int, nanoseconds: int
) -> None:
    (request,) = wireguard_netlink.set_requests(FAMILY, "cw0", DeviceChange(KEY, 7, [peer]))
    device = wireguard_netlink.parse([Message(FAMILY, request.payload)])

    assert device.private_key == KEY
    assert device.peers[peer.public_key].peer == peer

    handshake = attribute(6, struct.pack("=qq", seconds, nanoseconds))
    times = nested(8, nested(0, attribute(1, base64.b64decode(KEY)), handshake))
    (status,) = wireguard_netlink.parse(
        [Message(FAMILY, generic_netlink.HEADER.pack(0, 1) + text(2, "cw0") + times)]
    ).peers.values()
    assert status.last_handshake == pytest.approx(seconds + nanoseconds / 1e9)


def test_a_peer_that_goes_on_in_the_next_message_is_one() -> None:
    first, second = (
        next(
            wireguard_netlink.set_requests(
                FAMILY, "cw0", DeviceChange(peers=[WireGuardPeer(KEY, allowed_ips=(a,))])
            )
        )
        for a in ("10.0.0.1/32", "10.0.0.2/32")
    )

    device = wireguard_netlink.parse([Message(FAMILY, r.payload) for r in (first, second)])

    assert device.peers[KEY].peer.allowed_ips == ("10.0.0.1/32", "10.0.0.2/32")


def test_pyroute2_reads_the_question_for_a_family() -> None:
    message = decoded(ctrlmsg, generic_netlink.family_question("wireguard"))

    assert message["cmd"] == 3
    assert message.get_attr("CTRL_ATTR_FAMILY_NAME") == "wireguard"


def test_the_uapi_text_of_a_change() -> None:
    peer = WireGuardPeer(OTHER_KEY, ("fd00::2", 51820), ("10.99.0.2/32",), 25)

    said = wireguard_uapi.set_text(DeviceChange(KEY, 51820, [peer], [KEY]))

    assert said == (
        f"set=1\nprivate_key={'07' * 32}\nlisten_port=51820\n"
        f"public_key={'07' * 32}\nremove=true\n"
        f"public_key={'09' * 32}\npreshared_key={'00' * 32}\nendpoint=[fd00::2]:51820\n"
        "replace_allowed_ips=true\nallowed_ip=10.99.0.2/32\npersistent_keepalive_interval=25\n\n"
    )


def test_the_uapi_text_of_an_answer() -> None:
    answer = (
        f"private_key={'07' * 32}\nlisten_port=51820\nfwmark=0\n"
        f"public_key={'09' * 32}\npreshared_key={'00' * 32}\nprotocol_version=1\nendpoint=[fd00::2]:4\n"
        "last_handshake_time_sec=1700000000\nlast_handshake_time_nsec=500000000\ntx_bytes=5678\nrx_bytes=1234\n"
        "persistent_keepalive_interval=25\nallowed_ip=10.99.0.2/32\nallowed_ip=fd99::2/128\n"
        f"public_key={'07' * 32}\nallowed_ip=10.99.0.3/32\nerrno=0\n\n"
    )

    device = wireguard_uapi.parse("cw0", answer)

    peer = WireGuardPeer(OTHER_KEY, ("fd00::2", 4), ("10.99.0.2/32", "fd99::2/128"), 25)
    assert (device.private_key, device.listen_port) == (KEY, 51820)
    assert device.peers[OTHER_KEY] == PeerStatus(peer, 1700000000.5, 1234, 5678)
    assert device.peers[KEY] == PeerStatus(WireGuardPeer(KEY, allowed_ips=("10.99.0.3/32",)))


@pytest.mark.parametrize(
    "pack", [wireguard_uapi.set_text, lambda c: list(wireguard_netlink.set_requests(1, "cw0", c))]
)
@pytest.mark.parametrize(
    "change",
    [
        DeviceChange("no key"),
        DeviceChange(KEY[:-4]),
        DeviceChange(peers=[WireGuardPeer("")]),
        DeviceChange(peers=[WireGuardPeer(KEY + "\nlisten_port=1")]),
        DeviceChange(peers=[WireGuardPeer(KEY, ("example.com", 1))]),
        DeviceChange(peers=[WireGuardPeer(KEY, allowed_ips=("10.0.0.1\nremove=true",))]),
        DeviceChange(remove=["x"]),
    ],
)
def test_what_is_no_key_or_address_is_refused_by_both(pack: Any, change: DeviceChange) -> None:
    with pytest.raises(InvalidParameter):
        pack(change)


def test_no_secret_shows() -> None:
    texts = repr(WireGuardPeer(KEY, preshared_key=OTHER_KEY)), repr(WireGuardDevice("cw0", OTHER_KEY))

    assert not any(OTHER_KEY in shown for shown in texts)
