"""Registries that take tokens: the launcher gets them with the identity token, or the password, of whoever asks.

The token server is the test's, with the form of https://distribution.github.io/distribution/spec/auth/.
"""

from __future__ import annotations

import base64
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import load_pem_x509_certificate

from tests.support import launcher as lab
from tests.support import registry as registries
from tests.support.certificates import Certificate
from tests.support.dockerd import PROGRAMS, Dockerd, start_dockerd
from tests.support.engine_pair import ask
from tests.support.launcher import Launcher
from tests.support.registry import PASSWORD, USER, Registry
from tests.support.unpacked import lacking
from tests.support.web_server import Asked, web_server

_TOKENS = "127.0.0.1:5001"
_IDENTITY = "an-identity-token"


@dataclass
class TokenServer:
    """Gives tokens to the user with the password, and to who has the identity token."""

    signer: Certificate
    asked: list[str] = field(default_factory=list)
    """How it was asked: "password" or "identity token"."""

    def answer(self, asked: Asked) -> None:
        if asked.command == "POST":
            said = parse_qs(asked.body().decode())
            self._give(asked, "identity token", said.get("refresh_token") == [_IDENTITY], said)
        else:
            secret = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            is_known = asked.headers.get("Authorization") == f"Basic {secret}"
            self._give(asked, "password", is_known, parse_qs(urlsplit(asked.path).query))

    def _give(self, asked: Asked, how: str, is_known: bool, said: dict[str, list[str]]) -> None:
        self.asked.append(how)
        if not is_known:
            asked.answer(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}')
            return
        scopes = " ".join(said.get("scope", ())).split()
        token = self._token([_access(scope) for scope in scopes])
        told = {"token": token, "access_token": token, "expires_in": 300, "scope": " ".join(scopes)}
        asked.answer(200, json.dumps(told).encode())

    def _token(self, access: list[dict[str, Any]]) -> str:
        """A JSON Web Token by ES256 (RFC 7518, 3.4)."""
        certificate = load_pem_x509_certificate(Path(self.signer.cert).read_bytes())
        der = certificate.public_bytes(serialization.Encoding.DER)
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {
            "iss": "tests",
            "sub": USER,
            "aud": "registry",
            "exp": now + 300,
            "nbf": now - 60,
            "iat": now,
            "jti": "1",
            "access": access,
        }
        signed = f"{_encoded(json.dumps(head).encode())}.{_encoded(json.dumps(claims).encode())}"
        key = serialization.load_pem_private_key(Path(self.signer.key).read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _access(scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}


def _encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@dataclass
class Stage:
    launcher: Launcher
    registry: Registry
    server: TokenServer

    @property
    def name(self) -> str:
        return f"{self.registry.name}/team/app:1"

    def docker(self, config: Path, *words: str) -> str:
        return self.launcher.docker("--config", str(config), *words)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    if reason := lacking(*lab.PROGRAMS, *registries.PROGRAMS):
        pytest.skip(reason)
    with (
        tempfile.TemporaryDirectory(prefix="cnm", dir="/tmp") as folder,
        lab.running(Path(folder)) as launcher,
    ):
        host = getattr(launcher.cnmd.popen, "__self__")  # noqa: B009 - it is some host's `popen`
        place = Path(folder, "registry")
        with registries.running(place, host.popen, realm=f"https://{_TOKENS}/token") as registry:
            server = TokenServer(registry.authority.certify("signer"))
            certificate = registry.authority.certify("tokens")
            with web_server(host, int(_TOKENS.rpartition(":")[2]), server.answer, certificate):
                launcher.docker("tag", "busybox", f"{registry.name}/team/app:1")
                yield Stage(launcher, registry, server)


def _config(place: Path, registry: Registry, secret: str, **more: str) -> Path:
    """What `docker login` keeps."""
    entry = {"auth": base64.b64encode(secret.encode()).decode(), **more}
    (place / "config.json").write_text(json.dumps({"auths": {registry.name: entry}}))
    return place


@pytest.mark.parametrize("how", ["identity token", "password"])
def test_who_may_pushes_and_pulls(stage: Stage, tmp_path: Path, how: str) -> None:
    more = {"identitytoken": _IDENTITY} if how == "identity token" else {}
    config = _config(tmp_path, stage.registry, f"{USER}:{'' if more else PASSWORD}", **more)
    stage.server.asked.clear()

    pushed = stage.docker(config, "push", stage.name)
    pulled = stage.docker(config, "pull", stage.name)

    assert "digest: sha256:" in pushed
    assert "Status: " in pulled
    assert set(stage.server.asked) == {how}


@pytest.mark.parametrize(
    ("secret", "more"), [(f"{USER}:wrong", {}), (f"{USER}:", {"identitytoken": "another"})]
)
def test_who_may_not_is_refused(stage: Stage, tmp_path: Path, secret: str, more: dict[str, str]) -> None:
    config = _config(tmp_path, stage.registry, secret, **more)

    said = stage.launcher.fails("--config", str(config), "pull", stage.name)[1]

    assert "unauthorized: authentication required" in said
    assert "podman" not in said


@pytest.fixture(scope="module")
def dockerd(stage: Stage) -> Iterator[Dockerd]:
    if reason := lacking(*PROGRAMS):
        pytest.skip(reason)
    registries.trust(
        _TOKENS, stage.registry.authority
    )  # podman asks for tokens by what it asks the registry by
    place, popen = stage.launcher.place / "docker", stage.launcher.cnmd.popen
    with start_dockerd(place, "--iptables=false", "--bridge=none", popen=popen) as dockerd:
        yield dockerd


@pytest.mark.parametrize("token", [_IDENTITY, "another"])
def test_a_login_with_an_identity_token_alone_is_tried_as_dockerd_tries_it(
    stage: Stage, dockerd: Dockerd, token: str
) -> None:
    given = {"identitytoken": token, "serveraddress": stage.registry.name}
    stage.server.asked.clear()

    ours, theirs = (
        ask(socket, "POST", "/auth", given) for socket in (stage.launcher.socket, str(dockerd.socket))
    )

    assert (ours.status, ours.body) == (theirs.status, theirs.body)
    assert ours.status == (200 if token == _IDENTITY else 500)
    assert stage.server.asked == ["identity token"] * 2


def test_a_registry_that_asks_for_no_token_takes_any(stage: Stage, dockerd: Dockerd) -> None:
    host = getattr(stage.launcher.cnmd.popen, "__self__")  # noqa: B009 - it is some host's `popen`
    place = stage.launcher.place / "free"
    with registries.running(place, host.popen, port=5444, has_passwords=False) as free:
        given = {"identitytoken": _IDENTITY, "serveraddress": free.name}
        ours, theirs = (
            ask(socket, "POST", "/auth", given) for socket in (stage.launcher.socket, str(dockerd.socket))
        )

    assert (ours.status, ours.body) == (theirs.status, theirs.body)
    assert ours.status == 200
