"""Values of drivers' options (`-o`), read from the text that a user gave, and the errors that name the option."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cnm import names
from cnm.errors import InvalidParameter

IFNAME = "com.docker.network.endpoint.ifname"
"""The endpoint option that every driver with interfaces knows."""
MTU = "com.docker.network.driver.mtu"
INTERFACE_PREFIX = "com.docker.network.container_iface_prefix"
SHOWN_TO_DOCKER = "cnm.docker"
"""Of driver overlay only, and told so to whoever asks for it elsewhere: `cnmctl network create --docker`."""

_MIN_MTU = 68
_MIN_MTU_IPV6 = 1280
_MAX_MTU = 65535

Parsers = Mapping[str, tuple[str, Callable[[str], Any]]]
"""By an option's name: the field that it sets, and what reads its text (its ValueError says what it must be)."""


def read(driver: str, options: Iterable[tuple[str, str]], parsers: Parsers) -> dict[str, Any]:
    """Values by field. Raises InvalidParameter naming a bad or an unknown option."""
    values: dict[str, Any] = {}
    for key, text in options:
        if key not in parsers:
            remedy = ": only networks of driver overlay appear in Docker" if key == SHOWN_TO_DOCKER else ""
            raise InvalidParameter(f"unknown option {key} for driver {driver}{remedy}")
        field, parser = parsers[key]
        try:
            values[field] = parser(text)
        except ValueError as error:
            raise InvalidParameter(f"invalid value {text!r} for option {key}: {error}") from None
    return values


def one_of(*words: str) -> Callable[[str], str]:
    """Reads one of a few words."""

    def read_word(text: str) -> str:
        if text not in words:
            raise ValueError(f"it must be one of {', '.join(words)}")
        return text

    return read_word


def boolean(text: str) -> bool:
    """Go's strconv.ParseBool, which Docker uses."""
    if text in ("1", "t", "T", "TRUE", "true", "True"):
        return True
    if text in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ValueError("it must be true or false")


def switch(text: str) -> bool:
    """Docker's `-o encrypted`: the option alone says yes."""
    return boolean(text) if text else True


def mtu(text: str) -> int:
    """Bytes; 0 for what the driver decides."""
    if not text.isdecimal() or not (text == "0" or _MIN_MTU <= int(text) <= _MAX_MTU):
        raise ValueError(f"it must be a number of bytes from {_MIN_MTU} to {_MAX_MTU}")
    return int(text)


def interface(text: str) -> str:
    """The name of an interface."""
    try:
        names.check_interface(text)
    except InvalidParameter:
        raise ValueError(
            "an interface name has at most 15 bytes without '/', ':' or spaces, and is not lo"
        ) from None
    return text


def prefix(text: str) -> str:
    """What interfaces in sandboxes are called, before their number."""
    if len(text) > 11:
        raise ValueError("it must leave room for a number: at most 11 bytes")
    return interface(text)


def least_mtu(ipv6: bool) -> int:
    """RFC 791 and RFC 8200: what every link must carry."""
    return _MIN_MTU_IPV6 if ipv6 else _MIN_MTU
