"""Our rules in Docker's chain DOCKER-USER as data, and what an `iptables -S` tells of them.

Docker jumps to this chain first, and never flushes it. What passes here is accepted for all of that table, so packets
that go on to a bridge of Docker must return to Docker's own rules, or its containers would lie open to ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from cnm.kernel.state import Group

CHAIN = "DOCKER-USER"

_COMMENT = "-m comment --comment cnm"
_IS_OURS = re.compile(r'--comment (?:cnm|"cnm")(?: |$)')
_FROM_OURS = f"-m devgroup --src-group {Group.BRIDGE:#x}"
_TO_OURS = f"-m devgroup --dst-group {Group.BRIDGE:#x}"
_TO_OTHERS = f"-m devgroup --src-group {Group.BRIDGE:#x} ! --dst-group {Group.BRIDGE:#x}"
"""A bridge of ours may be called br-something as Docker's are."""
_DOCKER_NAMES = ("docker0", "br-+")
_USUAL_NAME = re.compile(r"docker0\Z|br-")
_OUR_NAMES = "cnm-"
_APPENDED = f"-A {CHAIN} "
_OF_DOCKER = re.compile(
    r"-A (?:DOCKER(?!-USER )\S* (?:.* )?|FORWARD (?=-o \S+ -j DOCKER$))-o (?P<name>\S+)(?: |$)"
)
_SAFE_NAME = re.compile(r"[\w.:@-]{1,15}\Z", re.ASCII)
"""Neither quoted by iptables nor read as a pattern."""


def by_group(docker_bridges: Iterable[str] = ()) -> tuple[str, ...]:
    """The rules, in order: ours to Docker's bridges, from ours, to ours. The device group tells what is ours.

    `docker_bridges` are those with names of their own.
    """
    return (
        *(f"-o {name} {_TO_OTHERS} {_COMMENT} -j RETURN" for name in (*_DOCKER_NAMES, *docker_bridges)),
        f"{_FROM_OURS} {_COMMENT} -j ACCEPT",
        f"{_TO_OURS} {_COMMENT} -j ACCEPT",
    )


def by_name(bridges: Iterable[str], docker_bridges: Iterable[str] = ()) -> tuple[str, ...]:
    """The same where iptables or the kernel lacks the match `devgroup`: by the names that our bridges have.

    Packets that br_netfilter shows inside one bridge of ours are dropped if that bridge is called br-something.
    """
    own = sorted(name for name in bridges if not name.startswith(_OUR_NAMES) and _SAFE_NAME.match(name))
    ours = (f"{_OUR_NAMES}+", *own)
    theirs = (*_DOCKER_NAMES, *docker_bridges)
    return (
        *(f"-i {our} -o {their} {_COMMENT} -j RETURN" for their in theirs for our in ours),
        *(f"-i {our} {_COMMENT} -j ACCEPT" for our in ours),
        *(f"-o {our} {_COMMENT} -j ACCEPT" for our in ours),
    )


@dataclass(frozen=True)
class Listing:
    """What an `iptables -S` of the filter table says that matters here."""

    ours: tuple[str, ...]
    """Our rules, without the `-A DOCKER-USER` before them."""
    above: int
    """Rules of others ahead of our first one."""
    reached: bool
    """FORWARD jumps to the chain."""
    docker_bridges: tuple[str, ...]
    """Bridges that Docker's own chains name and that are called neither docker0 nor br-something."""

    @classmethod
    def parse(cls, lines: Sequence[str]) -> Listing:
        rules = [line.removeprefix(_APPENDED) for line in lines if line.startswith(_APPENDED)]
        mine = [bool(_IS_OURS.search(rule)) for rule in rules]
        return cls(
            ours=tuple(rule for rule, is_mine in zip(rules, mine, strict=True) if is_mine),
            above=mine.index(True) if any(mine) else 0,
            reached=f"-A FORWARD -j {CHAIN}" in lines,
            docker_bridges=tuple(sorted(set(_named(lines)))),
        )

    def placing(self, wanted: Iterable[str]) -> list[str]:
        """The commands that put `wanted` first and take away what else is ours."""
        return [*self.removing(), *(f"-I {CHAIN} {at} {rule}" for at, rule in enumerate(wanted, 1))]

    def removing(self) -> list[str]:
        """The commands that take away what is ours."""
        return [f"-D {CHAIN} {rule}" for rule in self.ours]


def _named(lines: Collection[str]) -> Iterator[str]:
    """Docker names every bridge of its own as an outgoing interface in one of its chains, or in FORWARD."""
    for line in lines:
        found = _OF_DOCKER.match(line)
        if found and _SAFE_NAME.match(found["name"]) and not _USUAL_NAME.match(found["name"]):
            yield found["name"]
