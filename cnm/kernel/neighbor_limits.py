"""How many neighbours the kernel remembers, in all namespaces together: what a host of an overlay network needs.

Entries that are not permanent count, of every sandbox; from `gc_thresh3` on (1,024 where nobody changed it) none is
added, and packets to new neighbours are lost. Docker's overlay networks ask for the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cnm.kernel.state import Sysctl

_LEAST = {"gc_thresh1": 8192, "gc_thresh2": 49152, "gc_thresh3": 65536}


def too_low(read: Callable[[str], str | None]) -> tuple[Sysctl, ...]:
    """The limits to set, of those that are lower; `read` answers the value of a key, None where there is none.

    None outside the initial network namespace, where the kernel has these keys only.
    """
    return tuple(_too_low(read))


def _too_low(read: Callable[[str], str | None]) -> Iterator[Sysctl]:
    for family in ("ipv4", "ipv6"):
        for name, least in _LEAST.items():
            key = f"net/{family}/neigh/default/{name}"
            value = read(key)
            if value is not None and int(value) < least:
                yield Sysctl(key, str(least))
