"""The text of a sandbox's /etc/hosts, as Docker writes it: its own names, and what was added by hand stays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_IPV4 = ("127.0.0.1\tlocalhost",)
_IPV6 = (
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::\tip6-localnet",
    "ff00::\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)


def first(extra: Iterable[tuple[str, str]], *, ipv6: bool) -> str:
    """Before the sandbox is on any network; `extra` are (name, address), `ipv6` says whether its loopback has it."""
    lines = [*_IPV4, *(_IPV6 if ipv6 else ()), *(f"{address}\t{name}" for name, address in extra)]
    return "".join(f"{line}\n" for line in lines)


def line(address: str, hostname: str) -> str:
    """What says that the sandbox has an address; a name with a domain is there without it, too."""
    bare, dot, _ = hostname.partition(".")
    return f"{address}\t{hostname} {bare}" if dot else f"{address}\t{hostname}"


def changed(text: str, hostname: str, add: Sequence[str] = (), remove: Sequence[str] = ()) -> str:
    """The text with the sandbox's own lines for other addresses; everything else stays."""
    gone = {line(address, hostname) for address in remove}
    there = [one for one in text.splitlines() if one not in gone]
    new = [one for address in add if (one := line(address, hostname)) not in there]
    return "".join(f"{one}\n" for one in (*there, *new))


def settled(text: str, hostname: str, addresses: Sequence[str]) -> str:
    """The text with the sandbox's own lines for exactly these addresses."""
    suffix = line("", hostname)
    own = [one.partition("\t")[0] for one in text.splitlines() if one.endswith(suffix)]
    return changed(text, hostname, addresses, [address for address in own if address not in addresses])
