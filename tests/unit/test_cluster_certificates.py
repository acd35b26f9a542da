"""The cluster's certificates: what is in them by openssl's word, and what is said of one that does not serve."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cnm.cluster import certificates
from cnm.cluster.certificates import Subject
from cnm.errors import InvalidParameter


@pytest.fixture(scope="module")
def authority() -> certificates.Authority:
    return certificates.new_authority("ab" * 32)


def issued(authority: certificates.Authority, subject: Subject, days: float = 1) -> str:
    """A credential."""
    key = certificates.new_key()
    csr = certificates.request(key, "whatever it says")
    made = certificates.issue(authority, csr, subject, life=timedelta(days=days))
    return certificates.credential(key, made)


def said(pem: str, *options: str) -> str:
    return subprocess.run(
        ["openssl", "x509", "-noout", *options], input=pem, capture_output=True, text=True, check=True
    ).stdout


def verified(tmp_path: Path, authority: certificates.Authority, credential: str, *options: str) -> bool:
    (tmp_path / "ca").write_text(authority.certificate)
    (tmp_path / "cert").write_text(certificates.split(credential)[1])
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        *options,
        "-CAfile",
        str(tmp_path / "ca"),
        str(tmp_path / "cert"),
    ]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_members_certificate_serves_both_sides_at_its_addresses(
    tmp_path: Path, authority: certificates.Authority
) -> None:
    credential = issued(authority, Subject("web1.77", ("192.0.2.1", "2001:db8::1")))

    for options in (
        ("-purpose", "sslserver", "-verify_hostname", "etcd.cnm"),
        ("-purpose", "sslserver", "-verify_ip", "192.0.2.1"),
        ("-purpose", "sslserver", "-verify_ip", "2001:db8::1"),
        ("-purpose", "sslclient"),
    ):
        assert verified(tmp_path, authority, credential, *options), options
    assert said(credential, "-subject").strip() == "subject=CN = web1.77"


def test_a_clients_certificate_cannot_stand_for_a_member(
    tmp_path: Path, authority: certificates.Authority
) -> None:
    credential = issued(authority, Subject("web1.77"))

    assert verified(tmp_path, authority, credential, "-purpose", "sslclient")
    assert not verified(tmp_path, authority, credential, "-purpose", "sslserver")
    assert "etcd.cnm" not in said(credential, "-text")


def test_the_request_decides_nothing_but_the_key(authority: certificates.Authority) -> None:
    key = certificates.new_key()
    made = certificates.issue(authority, certificates.request(key, "root"), Subject("web1.77"))

    assert certificates.user(made) == "web1.77"
    certificates.check(certificates.credential(key, made), authority.certificate, "web1")


def test_the_root_users_certificate_is_a_clients(tmp_path: Path, authority: certificates.Authority) -> None:
    credential = certificates.root_credential(authority)

    assert certificates.user(certificates.split(credential)[1]) == "root"
    assert verified(tmp_path, authority, credential, "-purpose", "sslclient")
    assert not verified(tmp_path, authority, credential, "-purpose", "sslserver")


def test_the_digest_is_openssls(authority: certificates.Authority) -> None:
    fingerprint = said(authority.certificate, "-fingerprint", "-sha256").partition("=")[2]

    assert certificates.digest(authority.certificate).hex() == fingerprint.strip().replace(":", "").lower()


def test_two_requests_of_one_key_have_one_digest() -> None:
    key, other = certificates.new_key(), certificates.new_key()
    digests = [certificates.key_digest(certificates.request(each, "n")) for each in (key, key, other)]

    assert digests[0] == digests[1] != digests[2]


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left(authority: certificates.Authority) -> None:
    life = certificates.life(certificates.split(issued(authority, Subject("a"), days=30))[1])
    now = datetime.now(UTC)

    assert not life.to_renew(now + timedelta(days=19))
    assert life.to_renew(now + timedelta(days=20.1))
    assert not life.is_over(now + timedelta(days=29.9))
    assert life.is_over(now + timedelta(days=30.1))


def test_no_certificate_outlives_its_authority(authority: certificates.Authority) -> None:
    credential = issued(authority, Subject("a"), days=20000)
    expires = certificates.life(certificates.split(credential)[1]).expires

    assert expires <= certificates.life(authority.certificate).expires


def test_a_credential_of_another_cluster_is_told_so(authority: certificates.Authority) -> None:
    other = certificates.new_authority("cd" * 32)

    with pytest.raises(InvalidParameter, match=r"^the certificate of web1 is of another cluster: leave"):
        certificates.check(issued(other, Subject("a")), authority.certificate, "the certificate of web1")


def test_a_certificate_that_is_over_is_told_so(authority: certificates.Authority) -> None:
    credential = issued(authority, Subject("a"), days=-0.02)

    with pytest.raises(
        InvalidParameter, match=r"^web1's expired on [0-9-]{10}: remove this node, and join again$"
    ):
        certificates.check(credential, authority.certificate, "web1's")


def test_a_key_that_does_not_fit_is_told_so(authority: certificates.Authority) -> None:
    _, certificate = certificates.split(issued(authority, Subject("a")))
    credential = certificates.credential(certificates.new_key(), certificate)

    with pytest.raises(InvalidParameter, match=r"^web1's and its key do not belong together"):
        certificates.check(credential, authority.certificate, "web1's")
    with pytest.raises(InvalidParameter, match=r"^the authority's key does not fit"):
        certificates.check_authority(authority.certificate, certificates.new_key())
    certificates.check_authority(*authority)


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----"]
)
def test_what_is_no_request_is_refused(authority: certificates.Authority, text: str) -> None:
    with pytest.raises(InvalidParameter, match=r"^the request for a certificate \(csr\) is not"):
        certificates.issue(authority, text, Subject("a"))


def test_what_is_no_certificate_is_refused(authority: certificates.Authority) -> None:
    with pytest.raises(InvalidParameter, match=r"holds no certificate"):
        certificates.check("nonsense", authority.certificate, "web1's")
    with pytest.raises(InvalidParameter, match=r"^web1's is no certificate in PEM"):
        certificates.check(
            certificates.new_key() + "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
            authority.certificate,
            "web1's",
        )
