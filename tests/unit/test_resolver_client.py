"""How cnmd tells a resolver much at once."""

from __future__ import annotations

import os
import socket
import threading

from cnm.resolver.client import Client, Told
from cnm.resolver.messages import LONGEST, VERSION, Message, Verb
from cnm.sidecar import packets

_SECONDS = 1.0
"""For which either side waits for room in the other's queue, as in the processes themselves."""


def serve(channel: socket.socket) -> None:
    """As the resolver does: each message is answered before the next one is read. Every tenth is refused."""
    body = {"version": VERSION, "pid": os.getpid(), "namespace": "", "workers": 1}
    packets.send(channel, Message(Verb.HELLO, "", body).encode())
    number = 0
    while packet := packets.receive(channel, LONGEST):
        message = Message.decode(packet.content)
        error = f"no {number}" if number % 10 == 0 else ""
        packets.send(channel, Message(Verb.DONE, message.id, {"error": error}).encode())
        number += 1


def test_a_thousand_messages_are_told_and_what_is_refused_comes_back_in_order() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for each in (ours, theirs):
        each.settimeout(_SECONDS)
    thread = threading.Thread(target=serve, args=(theirs,))
    thread.start()
    client = Client(ours)
    try:
        told = [Told(Message(Verb.ZONE, f"{number:064x}", "web")) for number in range(1000)]
        assert client.tell(told) == [f"no {number}" for number in range(0, 1000, 10)]
        assert client.tell([]) == []
    finally:
        client.hang_up()
        thread.join()
        client.close()
        theirs.close()
