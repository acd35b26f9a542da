"""Warnings of `cluster status` about other nodes' certificates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cnm.membership import outside, standing
from cnm.wire.cluster import ClusterNode, ClusterStatus


def in_days(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def status(ends: str, authority: str = "") -> ClusterStatus:
    """As h1 sees it, which has h2 beside it."""
    found = outside.status("ready")
    found.name, found.authority_expires = "h1", authority or in_days(3650)
    for name, expires in (("h1", in_days(-1)), ("h2", ends)):
        found.nodes.append(
            ClusterNode(
                name=name,
                role="member",
                state="ready",
                address="192.0.2.1",
                mtu=1500,
                version="",
                since="",
                certificate_expires=expires,
                docker="",
                transport="",
                keys_since="",
                tunnel="",
            )
        )
    return found


@pytest.mark.parametrize(("days", "verb"), [(29, "expires"), (-1, "expired")])
def test_what_another_node_did_not_renew_is_told(days: float, verb: str) -> None:
    ends = in_days(days)

    assert standing.expiries(status(ends)) == [
        f"the certificate of h2 {verb} at {ends}: see the log of cnmd there"
    ]


@pytest.mark.parametrize("ends", [in_days(31), "", "nonsense"], ids=["good", "unknown", "nonsense"])
def test_what_is_good_or_not_known_is_no_warning(ends: str) -> None:
    assert standing.expiries(status(ends)) == []


def test_what_ends_with_the_authority_cannot_be_renewed_by_its_node() -> None:
    ends = in_days(3)

    assert standing.expiries(status(ends, authority=ends)) == []
