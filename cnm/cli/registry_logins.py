"""Passwords for registries: the file that docker keeps them in, so that who is logged in by one is by the other.

Source: docker's config.json, `auths`; the key of Docker Hub is a URL there.
"""

from __future__ import annotations

import base64
import json
import os

from cnm.errors import CnmError, InvalidParameter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB = "docker.io"
HUB_KEY = "https://index.docker.io/v1/"
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io")
HEADER = "X-Registry-Auth"


def server_key(server: str) -> str:
    """What a registry's password is kept under: HOST[:PORT], or Docker Hub's URL."""
    host = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB_KEY if not host or host in _HUB_HOSTS else host


def key_of_image(name: str) -> str:
    """The same for the registry of an image's name."""
    first, slash, _ = name.partition("/")
    return server_key(first) if slash and (set(first) & set(".:") or first == "localhost") else HUB_KEY


def headers(name: str) -> dict[str, str]:
    """What a request to the registry of an image's name says of who asks. Raises CnmError for a damaged file."""
    key = key_of_image(name)
    entry = _entry(key)
    if not entry:
        return {}
    user, password = _secret(entry)
    said = {"username": user, "password": password, "serveraddress": key}
    if entry.get("identitytoken"):
        said["identitytoken"] = entry["identitytoken"]
    return {HEADER: base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}


def user_of(key: str) -> str:
    """Who was logged in there last, "" for nobody."""
    return _secret(_entry(key))[0]


def keep(key: str, user: str, password: str) -> None:
    """Raises CnmError."""
    path = _path()
    whole = _read(path)
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    _write(path, {**whole, "auths": {**whole.get("auths", {}), key: {"auth": secret}}})


def forget(key: str) -> bool:
    """Whether somebody was logged in there. Raises CnmError."""
    path = _path()
    whole = _read(path)
    kept = {server: entry for server, entry in whole.get("auths", {}).items() if server != key}
    if len(kept) == len(whole.get("auths", {})):
        return False
    _write(path, {**whole, "auths": kept})
    return True


def _entry(key: str) -> dict[str, Any]:
    return _read(_path()).get("auths", {}).get(key) or {}


def _secret(entry: dict[str, Any]) -> tuple[str, str]:
    """User and password."""
    try:
        user, _, password = base64.b64decode(entry.get("auth", "")).decode().partition(":")
    except ValueError as error:
        raise CnmError(f"{_path()} cannot be read: a password in it is damaged: {error}") from None
    return user, password


def _path() -> str:
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    return os.path.join(folder, "config.json")


def _read(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise CnmError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict):
        raise InvalidParameter(f"{path} cannot be read: it is no JSON object")
    return found


def _write(path: str, whole: dict[str, Any]) -> None:
    """Whole or not at all, for its owner alone."""
    from tempfile import NamedTemporaryFile

    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with NamedTemporaryFile("w", dir=folder, prefix=".cnmctl-", delete=False) as file:
            try:
                json.dump(whole, file, indent="\t")
                file.flush()
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise CnmError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from None
