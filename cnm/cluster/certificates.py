"""The cluster's certificates: its authority, what it says of nodes, and what is wrong with one that does not serve.

Everything is PEM; keys are ECDSA P-256 in PKCS #8, without a password. A credential is a key and its certificate in one
text, so that one file holds both and is replaced at once. Importing this costs some 50 ms: whoever is in no cluster
has no need to.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cnm.errors import InvalidParameter

SERVER_NAME = "etcd.cnm"
"""What every member's certificate names beside its addresses, and no other's."""
ROOT_USER = "root"
"""etcd's own name for the user who may everything (auth guide)."""

_AUTHORITY_LIFE = timedelta(days=3652)
_LIFE = timedelta(days=365)
_BACKDATED = timedelta(hours=1)
"""So that a host whose clock is behind takes it."""
_RENEWED_AT = 3
"""A certificate is renewed when this part of its life is left: a third."""


class Authority(NamedTuple):
    """A cluster's own: certificate and key."""

    certificate: str
    key: str


class Life(NamedTuple):
    begins: datetime
    expires: datetime

    def left(self, now: datetime) -> timedelta:
        return self.expires - now

    def is_over(self, now: datetime) -> bool:
        return now >= self.expires

    def to_renew(self, now: datetime) -> bool:
        """Whether a third of it is left, or less."""
        return self.left(now) * _RENEWED_AT <= self.expires - self.begins


class Subject(NamedTuple):
    """Whom a certificate is for: `user` is its common name; `addresses` are a member's, whom others connect to."""

    user: str
    addresses: Sequence[str] = ()


def new_key() -> str:
    return _key_text(ec.generate_private_key(ec.SECP256R1()))


def new_authority(cluster_id: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"cnm cluster {cluster_id[:12]}")
    usage = _key_usage(signs_certificates=True)
    built = (
        _builder(name, name, key.public_key(), _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(_text(built), _key_text(key))


def request(key: str, name: str) -> str:
    """A request (CSR) for a certificate for the owner of `key`; what is issued is the authority's decision."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return _text(builder.sign(_key(key, "the key"), hashes.SHA256()))


def issue(authority: Authority, csr: str, subject: Subject, *, life: timedelta = _LIFE) -> str:
    """A certificate for the key in `csr`, and nothing else of it. Raises InvalidParameter for what is no request."""
    asked = _request(csr)
    issuer = _certificate(authority.certificate, "the cluster's authority")
    key = _signing_key(authority.key, "the authority's key")
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if subject.addresses:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    expires = min(life, issuer.not_valid_after_utc - datetime.now(UTC))
    builder = (
        _builder(_name(subject.user), issuer.subject, asked, expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
    )
    if subject.addresses:
        names: list[x509.GeneralName] = [x509.DNSName(SERVER_NAME)]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in subject.addresses]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return _text(builder.sign(key, hashes.SHA256()))


def root_credential(authority: Authority, name: str = ROOT_USER) -> str:
    """A new key and certificate of a user who may do everything in etcd."""
    key = new_key()
    return credential(key, issue(authority, request(key, name), Subject(name)))


def credential(key: str, certificate: str) -> str:
    """Both in one text."""
    return key + certificate


def split(text: str) -> tuple[str, str]:
    """(key, certificate) of a credential. Raises InvalidParameter."""
    head, begin, certificate = text.partition("-----BEGIN CERTIFICATE-----")
    if not begin:
        raise InvalidParameter("the credential holds no certificate")
    return head, begin + certificate


def digest(certificate: str) -> bytes:
    """SHA-256 of the certificate in DER, 32 bytes."""
    return _certificate(certificate, "the certificate").fingerprint(hashes.SHA256())


def key_digest(csr: str) -> str:
    """SHA-256 of the public key in a request, in hex digits: the same for every request of one key."""
    public = _request(csr).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(public)
    return hashed.finalize().hex()


def user(certificate: str) -> str:
    """Its common name."""
    names = _certificate(certificate, "the certificate").subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def life(certificate: str) -> Life:
    found = _certificate(certificate, "the certificate")
    return Life(found.not_valid_before_utc, found.not_valid_after_utc)


def check(credential_text: str, authority: str, what: str) -> None:
    """That a credential serves in the cluster of the certificate `authority`. Raises InvalidParameter naming `what`."""
    key, text = split(credential_text)
    certificate = _certificate(text, what)
    public = cast(ec.EllipticCurvePublicKey, certificate.public_key())
    if public != _key(key, f"the key of {what}").public_key():
        raise InvalidParameter(f"{what} and its key do not belong together: join the cluster anew")
    try:
        certificate.verify_directly_issued_by(_certificate(authority, "the cluster's authority"))
    except (InvalidSignature, ValueError, TypeError):
        raise InvalidParameter(f"{what} is of another cluster: leave that one, and join this one") from None
    if life(text).is_over(datetime.now(UTC)):
        expired = certificate.not_valid_after_utc
        raise InvalidParameter(f"{what} expired on {expired:%Y-%m-%d}: remove this node, and join again")


def is_signed(certificate: str, authority: str) -> bool:
    """Whether one of the certificates in `authority` has issued it, and it is good today."""
    found = _certificate(certificate, "the certificate")
    if not life(certificate).begins <= datetime.now(UTC) < life(certificate).expires:
        return False
    for each in _all(authority, "the cluster's authority"):
        try:
            found.verify_directly_issued_by(each)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return True
    return False


def check_authority(certificate: str, key: str) -> None:
    """That `key` is the authority's. Raises InvalidParameter."""
    public = _certificate(certificate, "the cluster's authority").public_key()
    if public != _signing_key(key, "the authority's key").public_key():
        raise InvalidParameter("the authority's key does not fit its certificate: join the cluster anew")


def of_key(bundle: str, key: str, what: str) -> str:
    """The certificate among those in `bundle` that has `key`, which is `what`. Raises InvalidParameter for none."""
    public = _signing_key(key, what).public_key()
    for each in _all(bundle, "the authority"):
        if each.public_key() == public:
            return _text(each)
    raise InvalidParameter(f"{what} is of no certificate in the authority's file")


def check_pair(certificate: str, key: str, what: str) -> None:
    """That `key` is the certificate's, which is good today. Raises InvalidParameter naming `what`."""
    if _all(certificate, what)[0].public_key() != _signing_key(key, f"the key of {what}").public_key():
        raise InvalidParameter(f"{what} and its key do not belong together")
    if life(certificate).is_over(datetime.now(UTC)):
        raise InvalidParameter(f"{what} expired on {life(certificate).expires:%Y-%m-%d}")


def check_bundle(text: str, what: str) -> None:
    """That these are certificates in PEM. Raises InvalidParameter naming `what`."""
    _all(text, what)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + life)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _text(made: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _key_text(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _key(text: str, what: str) -> ec.EllipticCurvePrivateKey:
    try:
        found = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        raise InvalidParameter(f"{what} is no private key in PEM without a password") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise InvalidParameter(f"{what} is not one of an elliptic curve")
    return found


def _signing_key(text: str, what: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """An authority that is not of our making may have another kind of key."""
    try:
        found = serialization.load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError):
        raise InvalidParameter(f"{what} is no private key in PEM without a password") from None
    if not isinstance(found, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidParameter(f"{what} is neither one of an elliptic curve nor an RSA key")
    return found


def _issued_by(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        known = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        public = cast(ec.EllipticCurvePublicKey, issuer.public_key())
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(public)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)


def _all(text: str, what: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError:
        raise InvalidParameter(f"{what} is no certificate in PEM") from None


def _certificate(text: str, what: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        raise InvalidParameter(f"{what} is no certificate in PEM") from None


def _request(csr: str) -> ec.EllipticCurvePublicKey:
    """The key that it is for, if its owner signed it."""
    try:
        asked = x509.load_pem_x509_csr(csr.encode())
    except ValueError:
        raise InvalidParameter("the request for a certificate (csr) is not one in PEM") from None
    public = asked.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or not asked.is_signature_valid:
        raise InvalidParameter(
            "the request for a certificate (csr) is not signed by an elliptic key of its own"
        )
    return public
