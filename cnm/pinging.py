"""Asks the other hosts of the cluster for a sign of life, over the path that networks use and beside it, and says in
words what is wrong.

A look takes two seconds at most, whatever is silent: all hosts are asked at once, and again only where that says more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from itertools import islice

import msgspec

from cnm.kernel.contract import Echo, Kernel, Port
from cnm.kernel.state import HOST

replace = msgspec.structs.replace

SMALL = 100
"""Bytes of a packet that passes everywhere."""
_FIRST_SECONDS, _AGAIN_SECONDS, _BESIDE_SECONDS, _SEARCH_SECONDS = 0.35, 0.35, 0.35, 0.2
_AT_ONCE = 16
"""Sizes that are tried at once to find the biggest that passes."""


class Health(Enum):
    """Of the path to a node."""

    OK = "ok"
    AWAY = "away"
    """The cluster does not see it."""
    SILENT = "silent"
    BLOCKED = "blocked"
    """It answers, but nothing of networks' packets comes through."""
    NARROW = "narrow"
    """Full-sized packets of networks do not come through."""
    STORE = "etcd"
    """Its member of etcd cannot be reached."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A node to be asked; addresses bare."""

    name: str
    address: str
    """Of its end of tunnels."""
    probe: str
    """In the probe segment."""
    size: int
    """Bytes of the biggest packet that networks may send."""
    etcd: Port | None = None
    """Where its member of etcd is asked."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a node was found to be like; times in seconds, None where nothing came; sizes in bytes, 0 for nothing."""

    target: Target
    tunnel: float | None = None
    """Of a small packet over the path of networks."""
    beside: float | None = None
    """Of one to its address."""
    mtu: int = 0
    """Of the biggest packet that comes back over the path of networks."""
    etcd: int | None = None
    """The errno of a connection to its member of etcd, 0 where it was taken; None where there is none."""

    @property
    def health(self) -> Health:
        if self.tunnel is None:
            return Health.BLOCKED if self.beside is not None or self.etcd == 0 else Health.SILENT
        if self.mtu < self.target.size:
            return Health.NARROW
        return Health.STORE if self.etcd else Health.OK

    def words(self, port: int) -> str:
        """One line on what is wrong, and what helps; "" where nothing is. `port` is VXLAN's."""
        target = self.target
        if self.health is Health.SILENT:
            return f"does not answer at all at {target.address}: see whether the host is up and reachable from here"
        if self.health is Health.BLOCKED:
            return f"answers at {target.address} but not over VXLAN: open UDP port {port} in its firewall"
        if self.health is Health.NARROW:
            return (
                f"packets of {target.size} bytes do not arrive, at most {self.mtu} do: lower the networks' MTU or "
                "raise the underlay's"
            )
        if self.health is Health.STORE and target.etcd is not None:
            why = os.strerror(self.etcd or 0).lower()
            return (
                f"its etcd does not answer at {target.etcd.address}, port {target.etcd.port}: {why}; open TCP port "
                f"{target.etcd.port} in its firewall, or start its cnmd"
            )
        return ""


def look(kernel: Kernel, namespace: str, targets: Sequence[Target]) -> list[Answer]:
    """Ask all of them from the probe segment's namespace. Raises NotFound where there is none."""
    answers = [Answer(target=target) for target in targets]
    answers = _over_tunnels(kernel, namespace, answers, _FIRST_SECONDS)
    answers = _retried(answers, lambda some: _over_tunnels(kernel, namespace, some, _AGAIN_SECONDS))
    beside = kernel.echo(HOST, [Echo(each.address, SMALL) for each in targets], _BESIDE_SECONDS)
    members = [target.etcd for target in targets if target.etcd is not None]
    knocked = iter(kernel.knock(HOST, members, _BESIDE_SECONDS))
    answers = [
        replace(answer, beside=rtt, etcd=next(knocked) if answer.target.etcd is not None else None)
        for answer, rtt in zip(answers, beside, strict=True)
    ]
    return _searched(kernel, namespace, answers)


def _over_tunnels(kernel: Kernel, namespace: str, answers: Sequence[Answer], seconds: float) -> list[Answer]:
    """A small packet and a full one to each."""
    sizes = [(answer.target.probe, size) for answer in answers for size in (SMALL, answer.target.size)]
    found = kernel.echo(namespace, [Echo(*each) for each in sizes], seconds)
    return [
        replace(
            answer,
            tunnel=small if small is not None else answer.tunnel,
            mtu=answer.target.size if full is not None else answer.mtu,
        )
        for answer, small, full in zip(answers, found[::2], found[1::2], strict=True)
    ]


def _retried(answers: Iterable[Answer], again: Callable[[list[Answer]], list[Answer]]) -> list[Answer]:
    """Those that did not answer everything are asked once more: a packet may be lost."""
    answers = list(answers)
    silent = [answer for answer in answers if answer.tunnel is None or not answer.mtu]
    found = {answer.target.name: answer for answer in again(silent)} if silent else {}
    return [found.get(answer.target.name, answer) for answer in answers]


def _searched(kernel: Kernel, namespace: str, answers: Sequence[Answer]) -> list[Answer]:
    """The biggest packet that passes, where the full one does not: some sizes at once, and then between two of them."""
    between = {
        answer.target.name: (SMALL, answer.target.size)
        for answer in answers
        if answer.tunnel is not None and not answer.mtu
    }
    probes = {answer.target.name: answer.target.probe for answer in answers}
    while any(_sizes(*each) for each in between.values()):
        asked = {name: _sizes(*each) for name, each in between.items()}
        packets = [Echo(probes[name], size) for name, sizes in asked.items() for size in sizes]
        found = iter(kernel.echo(namespace, packets, _SEARCH_SECONDS))
        between = {
            name: _narrowed(between[name], sizes, list(islice(found, len(sizes))))
            for name, sizes in asked.items()
        }
    return [
        replace(answer, mtu=between[answer.target.name][0]) if answer.target.name in between else answer
        for answer in answers
    ]


def _narrowed(
    between: tuple[int, int], sizes: Sequence[int], found: Sequence[float | None]
) -> tuple[int, int]:
    low, high = between
    low = max([low, *(size for size, rtt in zip(sizes, found, strict=True) if rtt is not None)])
    return low, min([high, *(size for size in sizes if size > low)])


def _sizes(low: int, high: int) -> list[int]:
    """Evenly between what passes and what does not, none where these are neighbours."""
    step = max(1, -(-(high - low) // (_AT_ONCE + 1)))
    return list(range(low + step, high, step))
