"""A real registry, Debian's docker-registry, with TLS and passwords, on the loopback of a host of the test."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority
from tests.support.daemon_starts import Popen
from tests.support.private_etc import make_private
from tests.support.unpacked import environment, program

PROGRAMS = ("docker-registry",)
USER, PASSWORD = "tester", "secret"
_PASSWORDS = f"{USER}:$2b$04$uOYD2GPBvFMW4mGqQ/N7LOJwxdinJLreSD3LCd0aEQHmPzjY3/kem\n"
_CERTIFICATES = Path("/etc/docker/certs.d")
"""Where docker and podman look for what to trust a registry by."""
_START_SECONDS = 20.0

_PLAIN = """\
version: 0.1
log: {{level: warn}}
storage:
  delete: {{enabled: true}}
  filesystem: {{rootdirectory: {place}/blobs}}
http:
  addr: {address}
"""
_TLS = "  tls: {{certificate: {cert}, key: {key}}}\n"
_TOKENS = (
    "auth: {{token: {{realm: {realm}, service: registry, issuer: tests, rootcertbundle: {authority}}}}}\n"
)
_AUTH = "auth: {{htpasswd: {{realm: test, path: {place}/htpasswd}}}}\n"


@dataclass
class Registry:
    """It can be ended and started again, and keeps what was pushed; `is_plain`: without TLS and passwords."""

    place: Path
    popen: Popen = subprocess.Popen
    port: int = 5443
    is_plain: bool = False
    has_passwords: bool = True
    realm: str = ""
    """URL of who gives tokens, instead of passwords; what `authority` has certified signs them."""
    is_trusted: bool = True
    """Whether docker and podman are told of its authority."""
    certified: Mapping[str, Any] = field(default_factory=dict)
    """What else its certificate says, as `Authority.certify` takes it."""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.place / "log"

    def start(self) -> None:
        """Returns when it listens. Raises RuntimeError with its log if it ends instead."""
        self.place.mkdir(exist_ok=True)
        config = self.place / "config.yml"
        if not config.exists():
            config.write_text(self._settings())
        with self.log.open("ab") as log:
            self.process = self.popen(
                ["setpriv", "--pdeathsig", "KILL", str(program("docker-registry")), "serve", str(config)],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the registry did not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def _is_up(self) -> bool:
        return b" 127.0.0.1:%d " % self.port in self._sockets()

    def _sockets(self) -> bytes:
        assert self.process
        lines = Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]
        listening = (line.split()[1] for line in lines if line.split()[3] == "0A")
        return b" ".join([b"", *(_shown(each) for each in listening), b""])

    def _settings(self) -> str:
        text = _PLAIN.format(place=self.place, address=self.name)
        if self.is_plain:
            return text
        authority = self.authority
        made = authority.certify("registry", **self.certified)
        if self.is_trusted:
            trust(self.name, authority)
        text += _TLS.format(cert=made.cert, key=made.key)
        if self.realm:
            return text + _TOKENS.format(realm=self.realm, authority=authority.cert)
        (self.place / "htpasswd").write_text(_PASSWORDS)
        return text + _AUTH.format(place=self.place) if self.has_passwords else text

    @cached_property
    def authority(self) -> Authority:
        """That has signed its certificate."""
        return Authority(self.place)

    def stop(self) -> None:
        """At once, in the middle of whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def blob(self, digest: str) -> Path:
        """The file of a blob, "sha256:…"."""
        algorithm, _, digits = digest.partition(":")
        folder = self.place / "blobs/docker/registry/v2/blobs" / algorithm / digits[:2] / digits
        return folder / "data"


def trust(name: str, authority: Authority) -> None:
    """Have docker and podman believe what it says of a registry, HOST[:PORT]; in this process' own /etc."""
    make_private()
    trusted = _CERTIFICATES / name
    trusted.mkdir(parents=True, exist_ok=True)
    (trusted / "ca.crt").write_text(Path(authority.cert).read_text())


def _shown(address: str) -> bytes:
    """An entry of /proc/net/tcp as text."""
    number, _, port = address.partition(":")
    return f"{socket.inet_ntoa(int(number, 16).to_bytes(4, 'little'))}:{int(port, 16)}".encode()


@contextmanager
def running(place: Path, popen: Popen = subprocess.Popen, **more: object) -> Iterator[Registry]:
    registry = Registry(place, popen, **more)  # type: ignore[arg-type]
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_CERTIFICATES / registry.name / "ca.crt")
