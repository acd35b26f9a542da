"""The socket that changes nftables elements: all messages of a transaction in one send, all of them or none.

Layouts and order are those of linux/netfilter/nfnetlink.h: a message that begins the batch, the changes, one that
ends it. The kernel has answered when the send returns, with one message for each error and one for the
acknowledgement that the last change asks for.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Sequence

from cnm.errors import KernelError
from cnm.kernel.netlink import NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, messages_of
from cnm.kernel.nft_elements import Message

NETLINK_NETFILTER = 12

_BATCH_BEGIN = 0x10
_BATCH_END = 0x11
_BATCH_HEADER = struct.pack("=BBH", socket.AF_UNSPEC, 0, socket.htons(10))  # NFNL_SUBSYS_NFTABLES
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_SO_SNDBUFFORCE = 32
_SO_RCVBUFFORCE = 33
_LARGEST_BATCH = 1 << 26
"""Bytes: a batch cannot be split. Nothing of it is allocated before it is needed."""
_ROOM_FOR_ERRORS = 1 << 21
_RECEIVE_BYTES = 1 << 16
_PATIENCE = struct.pack("=qq", 30, 0)  # struct timeval


class TransactionSocket:
    """In the namespace of the thread that makes it; not thread-safe, the owner serialises."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _LARGEST_BATCH)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM_FOR_ERRORS)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.bind((0, 0))
        self.port: int = self._socket.getsockname()[0]
        """Netlink port number that notifications of our changes carry."""
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def commit(self, messages: Sequence[Message]) -> None:
        """Make all changes at once. Raises KernelError with the first errno; then none of them was made."""
        if not messages:
            return
        begin = self._sequence + 1
        self._sequence += len(messages) + 2
        try:
            self._socket.send(_batch(messages, begin))
            self._await_answer(messages, begin)
        except OSError as error:
            raise KernelError(
                f"cannot change {messages[0].of}: {_why(error.errno or 0)}", error.errno or 0
            ) from None

    def _await_answer(self, messages: Sequence[Message], begin: int) -> None:
        """An error of the beginning stands for the whole batch; answers to earlier batches are passed over."""
        last = begin + len(messages)
        failed: KernelError | None = None
        while True:
            for kind, _, sequence, payload in messages_of(self._socket.recv(_RECEIVE_BYTES)):
                if kind != NLMSG_ERROR or not begin <= sequence <= last:
                    continue
                number = -_ERROR.unpack_from(payload)[0]
                if number and failed is None:
                    about = messages[max(sequence - begin - 1, 0)].of
                    failed = KernelError(f"cannot change {about}: {_why(number)}", number)
                if sequence in (begin, last):
                    if failed is not None:
                        raise failed
                    return


def _batch(messages: Sequence[Message], begin: int) -> bytes:
    last = len(messages) - 1
    parts = [_HEADER.pack(_HEADER.size + 4, _BATCH_BEGIN, NLM_F_REQUEST, begin, 0), _BATCH_HEADER]
    for index, (kind, flags, payload, _) in enumerate(messages):
        flags |= NLM_F_REQUEST | (NLM_F_ACK if index == last else 0)
        parts += (_HEADER.pack(_HEADER.size + len(payload), kind, flags, begin + 1 + index, 0), payload)
    parts += (_HEADER.pack(_HEADER.size + 4, _BATCH_END, NLM_F_REQUEST, begin + 2 + last, 0), _BATCH_HEADER)
    return b"".join(parts)


def _why(number: int) -> str:
    return os.strerror(number).lower()
