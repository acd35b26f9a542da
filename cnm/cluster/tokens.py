"""Join tokens: `CNM1-<digest of the cluster's authority>-<secret>`, letters and digits that survive any copying.

The digest (SHA-256 of the authority's certificate) is how who joins knows whom it talks to before it says the secret.
The secret is 20 bytes: when it expires (seconds since 1970, 4 bytes, so that one that is gone from etcd is told from
one that never was there), and 16 of chance. etcd has its digest only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
from typing import NamedTuple

from cnm.errors import InvalidParameter

DEFAULT_SECONDS = 3600
"""For which a token is good, unless its maker says otherwise."""
SECONDS = (60, 30 * 24 * 3600)
"""The shortest and the longest life that may be asked for."""

_VERSION = "CNM1"
_FORM = re.compile(r"CNM(?P<version>[0-9]+)-(?P<digest>[A-Za-z2-7]+)-(?P<secret>[A-Za-z2-7]+)\Z")
_DIGEST_BYTES, _SECRET_BYTES, _TIME_BYTES = 32, 20, 4


class JoinToken(NamedTuple):
    """What a token's text says."""

    authority: bytes
    """SHA-256 of the authority's certificate (DER)."""
    secret: bytes

    def __str__(self) -> str:
        return f"{_VERSION}-{_letters(self.authority)}-{_letters(self.secret)}"

    @property
    def expires(self) -> int:
        """Seconds since 1970."""
        return expiry(self.secret)

    @property
    def key(self) -> str:
        """What etcd knows it by."""
        return secret_digest(self.secret)

    def is_for(self, authority: bytes) -> bool:
        return hmac.compare_digest(self.authority, authority)


def new(authority: bytes, expires: int) -> JoinToken:
    """A token with a secret of chance, for the cluster whose authority has this digest."""
    chance = os.urandom(_SECRET_BYTES - _TIME_BYTES)
    return JoinToken(authority, expires.to_bytes(_TIME_BYTES, "big") + chance)


def parse(text: str) -> JoinToken:
    """Raises InvalidParameter for what is no token, or only a part of one."""
    found = _FORM.match(text.strip())
    if found is None:
        raise InvalidParameter(
            "malformed join token: it begins with CNM1- and is printed by 'cnmctl cluster token'"
        )
    if found["version"] != "1":
        raise InvalidParameter(
            f"join token of version {found['version']}: this cnm knows version 1 only, upgrade it"
        )
    token = JoinToken(_bytes(found["digest"]), _bytes(found["secret"]))
    if (len(token.authority), len(token.secret)) != (_DIGEST_BYTES, _SECRET_BYTES):
        raise InvalidParameter("malformed join token: a part of it is missing: copy the whole of it")
    return token


def parse_secret(text: str) -> bytes:
    """A secret as it is sent. Raises InvalidParameter."""
    secret = _bytes(text)
    if len(secret) != _SECRET_BYTES:
        raise InvalidParameter("malformed secret of a join token")
    return secret


def secret_text(secret: bytes) -> str:
    return _letters(secret)


def secret_digest(secret: bytes) -> str:
    """SHA-256 in hex digits. What is hashed is of chance: no salt, no slow hash is needed."""
    return hashlib.sha256(secret).hexdigest()


def expiry(secret: bytes) -> int:
    """Seconds since 1970."""
    return int.from_bytes(secret[:_TIME_BYTES], "big")


def check_seconds(seconds: int) -> None:
    """Raises InvalidParameter for a life that no token can have."""
    shortest, longest = SECONDS
    if not shortest <= seconds <= longest:
        raise InvalidParameter(f"ttl must be between 1m and {longest // 3600}h, not {seconds}s")


def _letters(content: bytes) -> str:
    return base64.b32encode(content).decode().rstrip("=").lower()


def _bytes(letters: str) -> bytes:
    padded = letters.upper() + "=" * (-len(letters) % 8)
    try:
        return base64.b32decode(padded)
    except binascii.Error:
        raise InvalidParameter(
            "malformed join token: a part of it is missing: copy the whole of it"
        ) from None
