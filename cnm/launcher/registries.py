"""Registries that images come from and go to: which are asked without TLS, which first, and who asks.

The names of the settings are those of dockerd's daemon.json; the file is containers-registries.conf(5)'s.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import msgspec

from cnm.errors import InvalidParameter

HUB = "docker.io"
HUB_INDEX = "https://index.docker.io/v1/"
"""What Docker calls it by where it is about passwords."""
_OF_HUB = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?")
_ALONE = 'unqualified-search-registries = []\nshort-name-mode = "disabled"\n'


class Registries(NamedTuple):
    """What was configured; nothing is insecure that is not named."""

    insecure: Sequence[str] = ()
    """HOST[:PORT] of those whose certificates are not checked, or that have no TLS at all."""
    mirrors: Sequence[str] = ()
    """URLs of those that are asked before Docker Hub, in this order."""

    def settings(self) -> str:
        """The text of registries.conf. Raises InvalidParameter for what is no registry."""
        mirrors = [_mirror(url, self.insecure) for url in self.mirrors]
        hub = _table("registry", HUB, HUB in self.insecure) if mirrors or HUB in self.insecure else ""
        others = (_table("registry", _host(name), True) for name in self.insecure if name != HUB)
        return "".join((_ALONE, hub, *mirrors, *others))

    def shown(self) -> dict[str, Any]:
        """As `docker info` shows it."""
        mirrors = [f"{url.rstrip('/')}/" for url in self.mirrors]
        hub = _index(HUB, mirrors, HUB not in self.insecure, official=True)
        others = {name: _index(name, [], False) for name in self.insecure if name != HUB}
        return {
            "AllowNondistributableArtifactsCIDRs": [],
            "AllowNondistributableArtifactsHostnames": [],
            "InsecureRegistryCIDRs": [],
            "IndexConfigs": {HUB: hub, **others},
            "Mirrors": mirrors,
        }


def _index(name: str, mirrors: Sequence[str], secure: bool, *, official: bool = False) -> dict[str, Any]:
    return {"Name": name, "Mirrors": mirrors, "Secure": secure, "Official": official}


def _table(kind: str, location: str, insecure: bool) -> str:
    return f'[[{kind}]]\nlocation = "{location}"\ninsecure = {str(insecure).lower()}\n'


def _host(name: str) -> str:
    if not _HOST.fullmatch(name):
        raise InvalidParameter(
            f"insecure-registries: {name!r} is no registry: name each as HOST or HOST:PORT, networks are not taken"
        )
    return name


def _mirror(url: str, insecure: Sequence[str]) -> str:
    parts = _split(url)
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(parts.netloc) or parts.query:
        raise InvalidParameter(
            f"invalid mirror: {url!r}: it must be http://HOST[:PORT] or https://HOST[:PORT]"
        )
    location = f"{parts.netloc}{parts.path.rstrip('/')}"
    return _table("registry.mirror", location, parts.scheme == "http" or parts.netloc in insecure)


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks: what `docker login` sends, and each request to a registry in its header X-Registry-Auth."""

    username: str = ""
    password: str = ""
    auth: str = ""
    server_address: str = msgspec.field(name="serveraddress", default="")
    identity_token: str = msgspec.field(name="identitytoken", default="")
    registry_token: str = msgspec.field(name="registrytoken", default="")

    @property
    def is_somebody(self) -> bool:
        return bool(self.username or self.auth or self.identity_token)

    @property
    def is_token(self) -> bool:
        """Whether an identity token stands for a password that is not there."""
        return bool(self.identity_token and not self.password)

    def file(self, registry: str) -> bytes:
        """As containers-auth.json(5) for requests to this registry. Raises InvalidParameter for a registry token."""
        if self.registry_token:
            raise InvalidParameter(
                "registry tokens are not taken: log in with a password or an identity token"
            )
        secret = f"{self.username}:{self.password}".encode()
        entry = {"auth": self.auth or base64.b64encode(secret).decode()}
        if self.identity_token:
            entry["identitytoken"] = self.identity_token
        return json.dumps({"auths": {registry: entry} if self.is_somebody else {}}).encode()


NOBODY = Credentials()


def credentials(header: str) -> Credentials:
    """Of X-Registry-Auth: JSON in base64url, padded or not. What is none is nobody, as for Docker."""
    padded = header + "=" * (-len(header) % 4)
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=Credentials) if header else NOBODY
    except (ValueError, msgspec.DecodeError):
        return NOBODY


def registry_of(repository: str) -> str:
    """Of a full name: "docker.io/library/busybox" is of "docker.io"."""
    return repository.partition("/")[0]


def address(server: str) -> str:
    """HOST[:PORT] of what a client calls a registry by, a URL or a name; "" is Docker Hub. Raises InvalidParameter."""
    host = _split(server).netloc if "://" in server else server.partition("/")[0]
    if not server or host in _OF_HUB:
        return HUB
    if not _HOST.fullmatch(host):
        raise InvalidParameter(f"invalid registry endpoint {server!r}: it must be HOST[:PORT]")
    return host


def _split(url: str) -> SplitResult:
    """With neither scheme nor host for what is no URL at all: brackets without an address in them."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", url, "", "")
