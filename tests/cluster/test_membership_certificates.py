"""Certificates that grow old: they are renewed in time, shown, and warned about where that fails."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cnm.cluster import certificates
from cnm.cluster.certificates import Authority, Subject
from tests.cluster.hosts import NEEDS_ETCD, ClusterHost, ClusterLab, eventually, joined_lab

pytestmark = NEEDS_ETCD


@pytest.fixture(scope="module")
def lab() -> Iterator[ClusterLab]:
    """h1 is the member, h2 a client."""
    with joined_lab(members=1, clients=1) as lab:
        yield lab


def all_well(host: ClusterHost) -> bool:
    found = host.status()
    return found["State"] == "ready" and not found["Warnings"]


def next_year(expires: str) -> bool:
    return datetime.fromisoformat(expires) - datetime.now(UTC) > timedelta(days=360)


def expiries(host: ClusterHost) -> dict[str, str]:
    return {node["Name"]: node["CertificateExpires"] for node in host.status()["Nodes"]}


def test_every_node_shows_when_its_certificate_ends(lab: ClusterLab) -> None:
    for host in lab.h.values():
        found = eventually(lambda host=host: all(expiries(host).values()) and expiries(host))  # type: ignore[misc]

        assert found == {each.name: each.status()["CertificateExpires"] for each in lab.h.values()}
        assert all(map(next_year, found.values()))
        assert found["h2"] in host.says("status")


def test_a_renewed_certificate_is_told_to_the_others(lab: ClusterLab) -> None:
    lab.h[2].cnmd.stop()
    issue_again(lab, lab.h[2], timedelta(minutes=20))
    soon = certificates.life(certificate_of(lab.h[2].home / "node.pem")).expires
    lab.h[2].start()

    eventually(lambda: all_well(lab.h[2]))
    told = eventually(lambda: (seen := expiries(lab.h[1])["h2"]) and next_year(seen) and seen)

    assert datetime.fromisoformat(told) > soon
    assert "the certificate of h2 is renewed" in lab.h[2].cnmd.log
    eventually(lambda: all_well(lab.h[1]))


def test_what_a_member_is_root_by_is_renewed_too(lab: ClusterLab) -> None:
    home = lab.h[1].home
    lab.h[1].cnmd.stop()
    issue_again(lab, lab.h[1], timedelta(minutes=20), "root.pem")
    old = certificate_of(home / "root.pem")

    lab.h[1].start()

    eventually(lambda: certificate_of(home / "root.pem") != old)
    new = certificate_of(home / "root.pem")
    assert certificates.user(new) == "root"
    assert certificates.life(new).expires - certificates.life(old).expires > timedelta(days=360)
    eventually(lambda: all_well(lab.h[1]))
    assert lab.h[1].token().startswith("CNM1-")


def certificate_of(path: Path) -> str:
    return certificates.split(path.read_text())[1]


def issue_again(lab: ClusterLab, host: ClusterHost, life: timedelta, file: str = "node.pem") -> None:
    """Put a certificate of another age in the place of one of the host's own."""
    authority = Authority((host.home / "ca.crt").read_text(), (lab.h[1].home / "ca.key").read_text())
    key, certificate = certificates.split((host.home / file).read_text())
    csr = certificates.request(key, "x")
    made = certificates.issue(authority, csr, Subject(certificates.user(certificate)), life=life)
    (host.home / file).write_text(certificates.credential(key, made))


def test_a_certificate_is_renewed_by_itself_in_time(lab: ClusterLab) -> None:
    lab.h[2].cnmd.stop()
    issue_again(lab, lab.h[2], timedelta(minutes=20))  # its hour before now counts

    lab.h[2].start()

    eventually(lambda: lab.h[2].status()["CertificateExpires"].startswith(str(datetime.now(UTC).year + 1)))
    eventually(lambda: all_well(lab.h[2]))


def test_a_certificate_that_cannot_be_renewed_is_told(lab: ClusterLab) -> None:
    lab.h[2].cnmd.stop()
    lab.h[1].cnmd.kill()  # no listener; etcd runs
    issue_again(lab, lab.h[2], timedelta(minutes=20))
    lab.h[2].start()

    found = eventually(lambda: (seen := lab.h[2].status())["State"] == "ready" and seen)
    assert [
        warning for warning in found["Warnings"] if warning.startswith("the certificate of h2 expires at 20")
    ]
    eventually(
        lambda: [
            each for each in lab.h[2].status()["Warnings"] if "cannot be renewed: cannot reach 192." in each
        ]
    )

    lab.h[1].start()
    eventually(lambda: all_well(lab.h[2]))


def test_a_certificate_that_is_over_is_told(lab: ClusterLab) -> None:
    good = (lab.h[2].home / "node.pem").read_text()
    lab.h[2].cnmd.stop()
    issue_again(lab, lab.h[2], timedelta(seconds=-1))
    lab.h[2].start()

    warnings = eventually(lambda: lab.h[2].status()["Warnings"])
    assert any(
        " expired at " in each and each.endswith("remove this node, and join again") for each in warnings
    )

    lab.h[2].cnmd.stop()
    (lab.h[2].home / "node.pem").write_text(good)
    lab.h[2].start()
    eventually(lambda: all_well(lab.h[2]))
