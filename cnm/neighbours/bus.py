"""What a call over D-Bus is, and what can come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from cnm.errors import CnmError, Unavailable


class BusAway(Unavailable):
    """The bus cannot be reached, or whoever is called does not answer."""


class BusRefused(CnmError):
    """A call was answered with an error; `name` is D-Bus's for it, as "org.freedesktop.DBus.Error.Failed"."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text or name)
        self.name = name


class Call(NamedTuple):
    """`signature` tells the types of `body` (D-Bus specification, "Type System")."""

    destination: str
    path: str
    interface: str
    method: str
    signature: str = ""
    body: tuple[Any, ...] = ()


class Bus(Protocol):
    """Where fakes plug in."""

    def call(self, call: Call) -> tuple[Any, ...]:
        """What is answered. Raises BusAway, BusRefused."""


class SignalBus(Bus, Protocol):
    """One that signals are waited for on, which the caller has asked the bus for (AddMatch)."""

    def heard(
        self, interface: str, member: str, wanted: Callable[[tuple[Any, ...]], bool]
    ) -> tuple[Any, ...]:
        """The body of the first signal, of those since the connection began, that is wanted. Raises BusAway."""
