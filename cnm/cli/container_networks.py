"""The networks of a container: --network in its short and its long form, and the flags about the first of them."""

from __future__ import annotations

import re

from cnm.cli.container_kinds import mac_address
from cnm.cli.container_mounts import fields
from cnm.cli.flags import INTEGER, listing
from cnm.errors import InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cnm.cli.flags import Arguments

    Attachment = tuple[str, dict[str, Any]]
    """The name of a network, and an EndpointSettings of the Engine API that holds only what was asked for."""

DEFAULT = "default"
_PREDEFINED = (DEFAULT, "bridge", "host", "none")


def attachment(text: str) -> Attachment:
    """`NETWORK`, or `name=NETWORK,alias=web,ip=10.0.0.2`. Raises ValueError with Docker's words."""
    if not re.search(r"\w=\w", text):
        return text, {}
    name = ""
    settings: dict[str, Any] = {}
    for field in fields(text):
        key, equals, value = field.partition("=")
        if not equals or not key:
            raise ValueError(f"invalid field {field}")
        key, value = key.strip().lower(), value.strip()
        if key == "name":
            name = value
        elif key in _OPTIONS:
            _OPTIONS[key](settings, value)
        else:
            raise ValueError(f"invalid field key {key}")
    if not name:
        raise ValueError("network name/id is not specified")
    return name, settings


def _add(settings: dict[str, Any], key: str, value: str) -> None:
    settings.setdefault(key, []).append(value)


def _ipam(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = settings.setdefault("IPAMConfig", {})
    return found


def _driver_option(settings: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError("invalid key value pair format in driver options")
    settings.setdefault("DriverOpts", {})[key.strip()] = value.strip()


def _priority(text: str) -> int:
    try:
        number: int = INTEGER.add(0, text)
    except ValueError as error:
        raise ValueError(f"invalid gw-priority ({text}): {error}") from None
    return number


_OPTIONS: dict[str, Callable[[dict[str, Any], str], Any]] = {
    "alias": lambda settings, value: _add(settings, "Aliases", value),
    "ip": lambda settings, value: _ipam(settings).update(IPv4Address=value),
    "ip6": lambda settings, value: _ipam(settings).update(IPv6Address=value),
    "link-local-ip": lambda settings, value: _add(_ipam(settings), "LinkLocalIPs", value),
    "mac-address": lambda settings, value: settings.update(MacAddress=value),
    "driver-opt": _driver_option,
    "gw-priority": lambda settings, value: settings.update(GwPriority=_priority(value)),
}

NETWORKS = listing(attachment, "network")


def endpoints(arguments: Arguments) -> dict[str, dict[str, Any]]:
    """`EndpointsConfig` of the Engine API, by network; --ip and its like are about the first network.

    Raises InvalidParameter with Docker's words for what cannot go together.
    """
    attachments: list[Attachment] = arguments["network"] or [(DEFAULT, {})]
    found: dict[str, dict[str, Any]] = {}
    for number, (name, settings) in enumerate(attachments):
        if not number:
            settings = _with_flags(name, settings, arguments)
        _check(name, settings)
        if name in found:
            raise InvalidParameter(f'network "{name}" is specified multiple times')
        found[name] = settings
    if len({is_user_defined(name) for name in found}) > 1:
        raise InvalidParameter(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes"
        )
    return {} if len(found) == 1 and not any(found.values()) else found


def is_user_defined(name: str) -> bool:
    """Whether a network mode names a network that somebody made."""
    return name not in _PREDEFINED and not name.startswith("container:")


def _with_flags(name: str, settings: dict[str, Any], arguments: Arguments) -> dict[str, Any]:
    ipam = dict(settings.get("IPAMConfig", {}))
    merged = {**settings, "IPAMConfig": ipam}
    for flag, place, key, what in (
        ("network-alias", merged, "Aliases", "alias"),
        ("ip", ipam, "IPv4Address", "IPv4 address"),
        ("ip6", ipam, "IPv6Address", "IPv6 address"),
        ("mac-address", merged, "MacAddress", "MAC address"),
        ("link-local-ip", ipam, "LinkLocalIPs", "link-local IP addresses"),
    ):
        if arguments[flag] and place.get(key):
            raise InvalidParameter(
                f"conflicting options: cannot specify both --{flag} and per-network {what}"
            )
        if arguments[flag]:
            place[key] = arguments[flag]
    if arguments["link"] and is_user_defined(name):
        merged["Links"] = arguments["link"]
    return {key: value for key, value in merged.items() if value}


def _check(name: str, settings: dict[str, Any]) -> None:
    if not name.strip():
        raise InvalidParameter("no name set for network")
    if settings.get("Aliases") and not is_user_defined(name):
        raise InvalidParameter("network-scoped aliases are only supported for user-defined networks")
    try:
        if settings.get("MacAddress"):
            mac_address(settings["MacAddress"])
    except ValueError as error:
        raise InvalidParameter(str(error)) from None
