"""Docker's spelling of JSON keys, derived from the names of the fields."""

from __future__ import annotations

_WORDS = {"id": "ID", "ip": "IP", "ips": "IPs", "ipv4": "IPv4", "ipv6": "IPv6", "ipam": "IPAM", "api": "API"}


def docker_key(field: str) -> str:
    """The key of a field: "enable_ipv4" becomes "EnableIPv4". Other keys stand on their fields."""
    return "".join(_WORDS.get(word) or word.capitalize() for word in field.split("_"))
