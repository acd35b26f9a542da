"""The text of a sandbox's /etc/hosts (hosts(5)), with the lines that Docker writes, in its order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple


class Line(NamedTuple):
    """A line: bare address text, and the names as they are written."""

    address: str
    names: str

    def __str__(self) -> str:
        return f"{self.address}\t{self.names}"


_IPV4 = Line("127.0.0.1", "localhost")
_IPV6 = (
    Line("::1", "localhost ip6-localhost ip6-loopback"),
    Line("fe00::", "ip6-localnet"),
    Line("ff00::", "ip6-mcastprefix"),
    Line("ff02::1", "ip6-allnodes"),
    Line("ff02::2", "ip6-allrouters"),
)
_IPV6_TEXTS = frozenset(map(str, _IPV6))


def own_names(hostname: str) -> str:
    """What a sandbox's own addresses are called: `web.example.org web`, or just `web`."""
    host, dot, _domain = hostname.partition(".")
    return f"{hostname} {host}" if dot else hostname


def build(lines: Iterable[Line], ipv6: bool) -> str:
    """A whole file; without `ipv6`, at the loopback of its namespace, no line is of that family."""
    whole = (_IPV4, *(_IPV6 if ipv6 else ()), *_of_families(lines, ipv6))
    return "".join(f"{line}\n" for line in whole)


def revise(text: str, names: Collection[str], lines: Sequence[Line], ipv6: bool) -> str:
    """The text with exactly `lines` of those that say one of `names`; whatever else somebody wrote stays.

    Without `ipv6` the lines of its loopback go, too; they are not put back, since somebody may have deleted them.
    """
    missing = [str(line) for line in _of_families(lines, ipv6)]
    kept = []
    for line in text.rstrip("\n").split("\n"):
        if line in missing:
            missing.remove(line)
        elif (line.partition("\t")[2] in names and line[0] != "#") or (not ipv6 and line in _IPV6_TEXTS):
            continue
        kept.append(line)
    return "\n".join([*kept, *missing, ""])


def _of_families(lines: Iterable[Line], ipv6: bool) -> list[Line]:
    return [line for line in lines if ipv6 or ":" not in line.address]
