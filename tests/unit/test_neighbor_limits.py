"""Limits of the kernel's table of neighbours: raised where they are lower, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnm.kernel import neighbor_limits, sysctls
from cnm.kernel.state import Sysctl

KEYS = [f"net/{family}/neigh/default/gc_thresh{n}" for family in ("ipv4", "ipv6") for n in (1, 2, 3)]
DEFAULTS = dict(zip(KEYS, ("128", "512", "1024") * 2, strict=True))


def test_the_kernels_own_limits_are_raised() -> None:
    assert neighbor_limits.too_low(DEFAULTS.get) == tuple(
        Sysctl(key, value) for key, value in zip(KEYS, ("8192", "49152", "65536") * 2, strict=True)
    )


def test_what_is_high_enough_is_left_alone() -> None:
    values = DEFAULTS | {KEYS[2]: "65536", KEYS[5]: "1000000"}

    assert [s.key for s in neighbor_limits.too_low(values.get)] == [k for k in KEYS if k[-1] != "3"]


@pytest.mark.root
def test_a_namespace_of_its_own_has_no_such_limits() -> None:
    """As these tests' own: the kernel shows there what each interface has, and no more."""
    assert Path("/proc/sys/net/ipv4/neigh/lo/retrans_time_ms").exists()
    assert neighbor_limits.too_low(sysctls.read) == ()
