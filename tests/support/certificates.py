"""Certificates made by openssl for the length of a test: an authority, and what it says of others."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Certificate:
    """Paths of PEM files."""

    cert: str
    key: str


class Authority:
    """Everything it makes is kept in `place`."""

    def __init__(self, place: Path, name: str = "ca") -> None:
        self._place = place
        self._plain = place / "openssl.cnf"
        self._plain.write_text("[req]\ndistinguished_name = dn\n[dn]\n")
        self.own = self._files(name)
        extensions = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")
        self._request(name, "-x509", "-days", "2", *extensions, "-out", self.own.cert)

    @property
    def cert(self) -> str:
        return self.own.cert

    def certify(
        self, name: str, *, address: str = "127.0.0.1", days: int = 2, hosts: Sequence[str] = ()
    ) -> Certificate:
        """A certificate for whoever has this address, or one of these names. Negative days: one that is over."""
        made = self._files(name)
        request = str(self._place / f"{name}.csr")
        names = ",".join((f"IP:{address}", *(f"DNS:{host}" for host in hosts)))
        self._request(name, "-addext", f"subjectAltName={names}", "-out", request)
        _openssl(
            *("x509", "-req", "-in", request, "-copy_extensions", "copyall", "-days", str(days)),
            *("-CA", self.own.cert, "-CAkey", self.own.key, "-CAcreateserial", "-out", made.cert),
        )
        return made

    def _files(self, name: str) -> Certificate:
        return Certificate(str(self._place / f"{name}.pem"), str(self._place / f"{name}-key.pem"))

    def _request(self, name: str, *arguments: str) -> None:
        """A new key, and what is asked to be said of it."""
        _openssl(
            *(
                "req",
                "-config",
                str(self._plain),
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
            ),
            *("-nodes", "-keyout", self._files(name).key, "-subj", f"/CN={name}", *arguments),
        )


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
