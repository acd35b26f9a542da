"""Join tokens: several at once, listed, taken back; one that is over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster.hosts import NEEDS_ETCD, ClusterLab, joined_lab

pytestmark = NEEDS_ETCD


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    """h1 is the member, h2 and h3 are outside."""
    with joined_lab(members=1, outside=2) as lab:
        yield lab


def listed(lab: ClusterLab) -> list[list[str]]:
    return [line.split() for line in lab.h[1].says("token", "ls").splitlines()[1:]]


def test_tokens_are_good_side_by_side_listed_and_taken_back(lab: ClusterLab) -> None:
    first, second, third = lab.h[1].token(), lab.h[1].token("--ttl", "2h"), lab.h[1].token("--ttl", "3h")

    lab.h[3].says("join", "--client", "--name", "h3", second, "192.0.2.1")
    rows = listed(lab)
    assert [row[2:] for row in rows][-3:] == [["h1", "-"], ["h1", "h3"], ["h1", "-"]]
    assert lab.h[1].says("token", "ls", "-q").split() == [row[0] for row in rows]

    assert lab.h[1].says("token", "rm", rows[-1][0]) == f"{rows[-1][0]}\n"
    error = lab.h[2].fails("join", "--client", third, "192.0.2.1")
    assert error.startswith("the join token is wrong, or was removed: make another")
    assert listed(lab) == rows[:-1]

    lab.h[2].says("join", "--client", "--name", "h2", first, "192.0.2.1")
    assert lab.h[2].fails("token", "ls") == (
        "tokens are listed on a member, and h2 is none: see 'cnmctl cluster status'"
    )


def test_a_token_that_is_not_there_is_told_so(lab: ClusterLab) -> None:
    assert lab.h[1].fails("token", "rm", "zz") == "no join token zz: see 'cnmctl cluster token ls'"


@pytest.mark.parametrize("ttl", ["59s", "721h"])
def test_a_life_that_no_token_has_is_refused(lab: ClusterLab, ttl: str) -> None:
    assert lab.h[1].fails("token", "--ttl", ttl).startswith("ttl must be between 1m and 720h, not ")
