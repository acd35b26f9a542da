"""What cnmd and the relay say to each other survives the way, and what is no message is refused."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnm.relay import messages
from cnm.relay.messages import Message, Verb

_REFUSAL = "not a message: "


@pytest.fixture
def channel() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@given(
    st.builds(
        Message,
        st.sampled_from(Verb),
        id=st.text(max_size=80),
        protocol=st.sampled_from(["", "tcp", "udp"]),
        address=st.ip_addresses().map(str),
        port=st.integers(0, 65535),
        error=st.text(max_size=80),
    )
)
def test_a_message_is_decoded_as_it_was_encoded(message: Message) -> None:
    assert Message.decode(message.encode()) == message


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"3",
        b"{}",
        b'{"verb": "fly"}',
        b'{"verb": "drop", "colour": "red"}',
        b'{"verb": "serve", "port": "80"}',
        b'{"verb": []}',
    ],
)
def test_what_is_no_message_is_refused(packet: bytes) -> None:
    with pytest.raises(ValueError, match=_REFUSAL):
        Message.decode(packet)


def test_a_message_longer_than_a_packet_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        Message(Verb.DROP, id="x" * 5000).encode()


def test_a_socket_travels_with_its_message(channel: tuple[socket.socket, socket.socket]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as carried:
        carried.bind(("127.0.0.1", 0))
        messages.send(channel[0], Message(Verb.SERVE, "a"), carried.fileno())

        received = messages.receive(channel[1])

        assert received is not None
        message, front = received
        assert message == Message(Verb.SERVE, "a")
        assert front is not None
        with front:
            assert front.getsockname() == carried.getsockname()
            assert not os.get_inheritable(front.fileno())


def test_descriptors_that_came_with_nonsense_are_closed(channel: tuple[socket.socket, socket.socket]) -> None:
    before = os.listdir("/proc/self/fd")
    with open(os.devnull) as file:
        socket.send_fds(channel[0], [b"nonsense"], [file.fileno(), file.fileno()])

    with pytest.raises(ValueError, match=_REFUSAL):
        messages.receive(channel[1])

    assert os.listdir("/proc/self/fd") == before


def test_only_the_first_of_several_descriptors_is_kept(channel: tuple[socket.socket, socket.socket]) -> None:
    before = os.listdir("/proc/self/fd")
    with socket.socket() as carried:
        socket.send_fds(channel[0], [Message(Verb.SERVE, "a").encode()], [carried.fileno()] * 3)

    received = messages.receive(channel[1])

    assert received is not None
    assert received[1] is not None
    received[1].close()
    assert os.listdir("/proc/self/fd") == before


def test_the_end_of_the_other_side_is_told(channel: tuple[socket.socket, socket.socket]) -> None:
    channel[0].close()

    assert messages.receive(channel[1]) is None
