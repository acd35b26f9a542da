"""A connection to D-Bus's system bus: one call after the other, and no answer is waited for long.

jeepney packs and reads. The socket is ours: jeepney's own connection waits for the bus without an end.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from jeepney import DBusAddress, HeaderFields, MessageFlag, MessageType, Parser, message_bus, new_method_call
from jeepney.auth import BEGIN, Authenticator

from cnm.neighbours.bus import BusAway, BusRefused, Call, SignalBus

PATH = "/run/dbus/system_bus_socket"
_SECONDS = 3.0
"""For each piece of an answer."""
_PIECE = 4096


@contextlib.contextmanager
def system_bus(path: str = PATH) -> Iterator[SignalBus]:
    """Raises BusAway where there is no bus."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
        channel.settimeout(_SECONDS)
        connection = _Connection(channel)
        try:
            channel.connect(path)
            connection.begin()
        except (OSError, ValueError) as error:
            raise BusAway(f"the system bus cannot be reached at {path}: {_words(error)}") from None
        yield connection


class _Connection:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._parser = Parser()
        self._serials = itertools.count(1)
        self._signals: list[Any] = []

    def begin(self) -> None:
        """Raises OSError, ValueError."""
        authenticator = Authenticator()
        for request in authenticator:
            self._channel.sendall(request)
            authenticator.feed(self._received())
        self._channel.sendall(BEGIN)
        self._reply(message_bus.Hello())

    def call(self, call: Call) -> tuple[Any, ...]:
        """Whoever is called is not started for it."""
        address = DBusAddress(call.path, call.destination, call.interface)
        message = new_method_call(address, call.method, call.signature or None, call.body)
        message.header.flags |= MessageFlag.no_auto_start
        try:
            reply = self._reply(message)
        except (OSError, ValueError) as error:
            raise BusAway(f"{call.destination} does not answer: {_words(error)}") from None
        if reply.header.message_type == MessageType.error:
            name = reply.header.fields.get(HeaderFields.error_name, "")
            raise BusRefused(name, " ".join(part for part in reply.body if isinstance(part, str)))
        return tuple(reply.body)

    def heard(
        self, interface: str, member: str, wanted: Callable[[tuple[Any, ...]], bool]
    ) -> tuple[Any, ...]:
        """See `SignalBus`."""
        told = {HeaderFields.interface: interface, HeaderFields.member: member}
        while True:
            for signal in self._signals:
                if told.items() <= signal.header.fields.items() and wanted(tuple(signal.body)):
                    return tuple(signal.body)
            self._signals.clear()
            try:
                self._receive()
            except (OSError, ValueError) as error:
                raise BusAway(f"{member} of {interface} does not come: {_words(error)}") from None

    def _receive(self) -> Any:
        """The next message that is no signal, None where none has come whole. Raises OSError, ValueError."""
        received = self._next()
        if received is None:
            self._parser.add_data(self._received())
        elif received.header.message_type == MessageType.signal:
            self._signals.append(received)
            return None
        return received

    def _reply(self, message: Any) -> Any:
        """Raises OSError, ValueError."""
        serial = next(self._serials)
        self._channel.sendall(message.serialise(serial=serial))
        while True:
            received = self._receive()
            if received is not None and received.header.fields.get(HeaderFields.reply_serial) == serial:
                return received

    def _next(self) -> Any:
        """The next message, None where it has not come whole. Raises ValueError."""
        try:
            return self._parser.get_next_message()
        except (LookupError, TypeError, struct.error) as error:
            raise ValueError(f"what came is no D-Bus: {error}") from None

    def _received(self) -> bytes:
        piece = self._channel.recv(_PIECE)
        if not piece:
            raise ConnectionResetError("it hung up")
        return piece


def _words(error: Exception) -> str:
    """Of an error of the system, its text alone."""
    return (getattr(error, "strerror", None) or str(error)).lower()
