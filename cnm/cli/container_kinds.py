"""Flags of containers whose every value is checked as it is read, by Docker's rules and with its words."""

from __future__ import annotations

import _socket
import re

from cnm.cli.amounts import size
from cnm.cli.flags import Kind, listing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIMITS = (
    *("core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss"),
    *("rtprio", "rttime", "sigpending", "stack"),
)
"""Names of ulimits (prlimit(2)), as docker/go-units knows them."""

_SYSCTLS = (
    *("kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax"),
    *("kernel.shmmni", "kernel.shm_rmid_forced"),
)
_SYSCTL_PREFIXES = ("net.", "fs.mqueue.")
"""What is of a container's own namespaces."""

_RATE = (
    "invalid rate for device: {}. The correct format is <device-path>:<number>{}. "
    "Number must be a positive integer{}"
)
_DOMAIN = r"([a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*)\.?\s*"
"""Compiled when it is needed: a start has no time for it."""


def address(text: str) -> str:
    """An IP address in its usual form. Raises ValueError."""
    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            packed = _socket.inet_pton(family, text.strip(" "))
        except (OSError, ValueError):
            continue
        if packed[:12] == b"\0" * 10 + b"\xff\xff":
            return _socket.inet_ntop(_socket.AF_INET, packed[12:])
        return _socket.inet_ntop(family, packed)
    raise ValueError(f"IP address is not correctly formatted: {text}")


def mac_address(text: str) -> str:
    """`text`, an EUI-48. Raises ValueError."""
    if re.fullmatch(
        r"([0-9a-f]{2}(:[0-9a-f]{2}){5}|[0-9a-f]{2}(-[0-9a-f]{2}){5}|[0-9a-f]{4}(\.[0-9a-f]{4}){2})",
        text.strip(),
        re.IGNORECASE,
    ):
        return text
    raise ValueError(f"{text} is not a valid mac address")


def stream(text: str) -> str:
    if text.lower() not in ("stdin", "stdout", "stderr"):
        raise ValueError("valid streams are STDIN, STDOUT and STDERR")
    return text.lower()


def label(text: str) -> str:
    name = text.partition("=")[0].lstrip(" \t")
    if not name:
        raise ValueError(f"invalid label '{text}': empty name")
    if " " in name or "\t" in name:
        raise ValueError(f"label '{name}' contains whitespaces")
    return text


def search_domain(text: str) -> str:
    """A domain without the final dot; "." alone is no domain at all."""
    text = text.strip(" ")
    if text == ".":
        return text
    match = re.fullmatch(_DOMAIN, text, re.IGNORECASE)
    if match is None or len(match[1]) >= 255 or not re.search(r"[A-Za-z]", text):
        raise ValueError(f"{text} is not a valid domain")
    return match[1]


def extra_host(text: str) -> str:
    """`NAME:ADDRESS` of `NAME:ADDRESS` or `NAME=ADDRESS`, an IPv6 address with or without brackets."""
    name, separator, host = text.partition("=" if "=" in text else ":")
    if not separator or not name or ":" in name:
        raise ValueError(f'bad format for add-host: "{text}"')
    if host != "host-gateway":
        if len(host) > 2 and host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        try:
            address(host)
        except ValueError:
            raise ValueError(f'invalid IP address in add-host: "{host}"') from None
    return f"{name}:{host}"


def link(text: str) -> str:
    if not text:
        raise ValueError("empty string specified for links")
    if text.count(":") > 1:
        raise ValueError(f"bad format for links: {text}")
    return text


def device_rule(text: str) -> str:
    if not re.fullmatch(r"[acb] ([0-9]+|\*):([0-9]+|\*) [rwm]{1,3}", text):
        raise ValueError(f"invalid device cgroup format '{text}'")
    return text


def bytes_per_second(text: str) -> dict[str, Any]:
    """A ThrottleDevice of the Engine API."""
    path, rate = _device(text)
    try:
        return {"Path": path, "Rate": size(rate)}
    except ValueError:
        units = (text, "[<unit>]", ". Unit is optional and can be kb, mb, or gb")
        raise ValueError(_RATE.format(*units)) from None


def operations_per_second(text: str) -> dict[str, Any]:
    """A ThrottleDevice of the Engine API."""
    path, rate = _device(text)
    if not (rate.isascii() and rate.isdigit() and int(rate) < 2**64):
        raise ValueError(_RATE.format(text, "", ""))
    return {"Path": path, "Rate": int(rate)}


def weight(text: str) -> dict[str, Any]:
    """A WeightDevice of the Engine API."""
    path, number = _device(text)
    if not (number.isascii() and number.isdigit() and (int(number) == 0 or 10 <= int(number) <= 1000)):
        raise ValueError(f"invalid weight for device: {text}")
    return {"Path": path, "Weight": int(number)}


def _device(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon:
        raise ValueError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise ValueError(f"bad format for device path: {text}")
    return path, value


def _add_ulimit(values: dict[str, dict[str, Any]], text: str) -> dict[str, dict[str, Any]]:
    """By name: the last of a name holds."""
    name, equals, limits = text.partition("=")
    if not equals:
        raise ValueError(f"invalid ulimit argument: {text}")
    if name not in _LIMITS:
        raise ValueError(f"invalid ulimit type: {name}")
    numbers = limits.split(":")
    if len(numbers) > 2:
        raise ValueError(f"too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`")
    soft, hard = _limit(numbers[0]), _limit(numbers[-1])
    if hard != -1 and (soft == -1 or soft > hard):
        unlimited = f"soft: -1 (unlimited), hard: {hard}" if soft == -1 else f"{soft} > {hard}"
        raise ValueError(f"ulimit soft limit must be less than or equal to hard limit: {unlimited}")
    return {**values, name: {"Name": name, "Soft": soft, "Hard": hard}}


def _limit(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError("not a whole number")
    return int(text)


def _add_sysctl(values: dict[str, str], text: str) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not (name in _SYSCTLS or name.startswith(_SYSCTL_PREFIXES)):
        raise ValueError(f"sysctl '{text}' is not allowed")
    return {**values, name: value}


STREAMS = listing(stream)
LABEL_TEXTS = listing(label)
ADDRESSES = listing(address)
DOMAINS = listing(search_domain)
HOSTS = listing(extra_host)
LINKS = listing(link)
RULES = listing(device_rule)
BYTE_RATES = listing(bytes_per_second)
OPERATION_RATES = listing(operations_per_second)
WEIGHTS = listing(weight)
ULIMITS = Kind("ulimit", dict, _add_ulimit)
SYSCTLS = Kind("map", dict, _add_sysctl)
